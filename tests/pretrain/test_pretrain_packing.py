"""Packed documents do not see each other, whichever kernel keeps them apart, and each token counts once."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pretrain_trainer import SIX, tiny_model

from arc_helpers.arc import Pair
from arc_helpers.lm import attention
from arc_helpers.lm.attention import attend, choose_kernel, packed_mask
from arc_helpers.lm.prompt import IGNORE, Encoded, encode_pairs
from arc_helpers.pretrain.batches import Batch, packed_rows
from arc_helpers.pretrain.mixture import Mixture, task_sampler
from arc_helpers.pretrain.trainer import Pretrainer

START = 14


@pytest.fixture
def mixture(prompt_form) -> Mixture:
    rng = np.random.default_rng(0)
    pools = {
        str(n): [Pair(rng.integers(0, 10, (2, n)), rng.integers(0, 10, (n, 2))) for _ in range(5)] for n in (1, 3, 5)
    }
    return Mixture({"some": (1.0, task_sampler(pools))}, prompt_form, max_len=160, seed=3)


@pytest.fixture
def batch(mixture) -> Batch:
    return next(mixture.batches(480, row_tokens=240))


def documents_of(row: np.ndarray, pad: int) -> list[np.ndarray]:
    begins = [*np.flatnonzero(row == START), int((row != pad).sum())]
    return [row[a:b] for a, b in itertools.pairwise(begins)]


def test_packed_logits_and_loss_are_those_of_one_document_at_a_time(gridlm, batch, prompt_form):
    ids, labels = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.labels)
    with torch.no_grad():
        packed = gridlm(ids, attention_mask=packed_mask(ids, START)).logits
        one, loss = [], 0.0
        for row, goal in zip(batch.input_ids, batch.labels, strict=True):
            at = 0
            for document in documents_of(row, prompt_form.pad):
                alone = torch.from_numpy(document)[None]
                own = torch.from_numpy(goal[at : at + len(document)])[None]
                out = gridlm(alone, labels=own)
                one.append(out.logits[0])
                loss += out.loss.item() * int((own[:, 1:] != IGNORE).sum())
                at += len(document)
    real = ids != prompt_form.pad
    assert len(one) == len(batch.lengths) > 4
    torch.testing.assert_close(packed[real], torch.cat(one), atol=1e-5, rtol=1e-5)
    goals = labels[:, 1:].flatten()
    summed = torch.nn.functional.cross_entropy(packed[:, :-1].flatten(0, 1), goals, reduction="sum")
    assert summed.item() / batch.counted == pytest.approx(loss / batch.counted, abs=1e-5)


def test_without_the_mask_documents_do_see_each_other(gridlm, batch):
    """The control of the test above."""
    ids = torch.from_numpy(batch.input_ids)
    with torch.no_grad():
        apart, together = (gridlm(ids, attention_mask=m).logits for m in (packed_mask(ids, START), None))
    assert (apart - together).abs().max() > 0.1


def test_another_document_in_the_row_changes_nothing(gridlm, batch):
    """Not a single bit of what comes before, and nothing but rounding of what comes behind."""
    ids = torch.from_numpy(batch.input_ids[:1])
    starts = (ids[0] == START).nonzero().flatten().tolist()
    other = ids.clone()
    second = slice(starts[1] + 1, starts[2])
    digits = other[0, second] < 10
    other[0, second][digits] = (other[0, second][digits] + 1) % 10
    with torch.no_grad():
        a, b = (gridlm(x, attention_mask=packed_mask(x, START)).logits[0] for x in (ids, other))
    assert torch.equal(a[: starts[1]], b[: starts[1]])
    torch.testing.assert_close(a[starts[2] :], b[starts[2] :], atol=1e-6, rtol=1e-6)
    assert (a[second] - b[second]).abs().max() > 0.01


def test_positions_begin_anew_in_each_document(gridlm, batch, prompt_form):
    packed = gridlm.grid_positions(torch.from_numpy(batch.input_ids))
    for row, positions in zip(batch.input_ids, packed, strict=True):
        at = 0
        for document in documents_of(row, prompt_form.pad):
            alone = gridlm.grid_positions(torch.from_numpy(document)[None])[0]
            assert torch.equal(positions[at : at + len(document)], alone)
            at += len(document)


def test_every_document_is_there_once_whole_and_counted(mixture, prompt_form):
    """Loss and tokens of packed batches are those of their documents, each from one row."""
    known = {mixture.document(i)[1].input_ids.tobytes(): mixture.document(i)[1] for i in range(200)}
    seen = []
    for batch in itertools.islice(mixture.batches(480, row_tokens=240), 8):
        assert batch.packed and batch.input_ids.shape == (2, 240)
        documents = [d for row in batch.input_ids for d in documents_of(row, prompt_form.pad)]
        encoded = [known[d.tobytes()] for d in documents]
        assert batch.lengths == tuple(len(e) for e in encoded)
        assert batch.tokens == sum(batch.lengths) == int((batch.input_ids != prompt_form.pad).sum())
        assert batch.counted == sum(e.answer_tokens for e in encoded)
        assert len(batch.names) == len(documents)
        seen += [d.tobytes() for d in documents]
    assert len(seen) == len(set(seen))


def test_a_packed_stream_goes_on_from_any_cursor(mixture):
    straight = list(itertools.islice(mixture.batches(480, row_tokens=240), 12))
    assert {b.following[0] for b in straight} == {0, 1}
    for i in (0, 6, 7, 8):
        again = next(mixture.batches(480, straight[i].following, row_tokens=240))
        assert np.array_equal(again.input_ids, straight[i + 1].input_ids)


@pytest.mark.parametrize("row_tokens", [None, 240])
def test_workers_change_nothing(mixture, row_tokens):
    alone, helped = (
        itertools.islice(mixture.batches(480, (1, 3), pool=16, row_tokens=row_tokens, workers=n), 14) for n in (0, 2)
    )
    for one, other in zip(alone, helped, strict=True):
        assert np.array_equal(one.input_ids, other.input_ids) and np.array_equal(one.labels, other.labels)
        assert one.following == other.following and one.names == other.names


@pytest.mark.parametrize("row_tokens", [159, 481])
def test_a_row_that_is_too_short_or_too_long(mixture, row_tokens):
    with pytest.raises(ValueError, match=rf"row_tokens = {row_tokens}: must be from max_len \(160\) to batch_tokens"):
        next(mixture.batches(480, row_tokens=row_tokens))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 90))
def test_packing_keeps_every_document_and_wastes_little(lengths, width):
    documents = [(str(i), Encoded(np.zeros(n, int), np.zeros(n, int), n)) for i, n in enumerate(lengths)]
    rows = packed_rows(documents, width)
    assert sorted(name for row in rows for name, _ in row) == sorted(name for name, _ in documents)
    filled = [sum(len(e) for _, e in row) for row in rows]
    assert max(filled) <= width
    # best fit never leaves two rows that would fit into one
    assert all(a + b > width for a, b in itertools.combinations(filled, 2))


# ------------------------------------------------------------------------------------------------------ the kernels


def qkv(dtype=torch.float32) -> torch.Tensor:
    return torch.randn(3, 2, 4, 96, 24, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.fixture
def rows() -> torch.Tensor:
    ids = torch.zeros(2, 96, dtype=torch.long)
    ids[0, [0, 10, 64]] = ids[1, [0, 95]] = START
    return ids


def one_by_one(q, k, v, starts, *_):
    """What a variable-length kernel computes, [tokens, h, d], a document at a time."""
    out = [
        attend(*(x[a:b].transpose(0, 1)[None] for x in (q, k, v)), None)[0].transpose(0, 1)
        for a, b in itertools.pairwise(starts.tolist())
    ]
    return torch.cat(out)


def test_varlen_attention_gets_its_documents_right(rows, monkeypatch):
    """The kernel itself needs a GPU: a loop over documents stands in for it, and everything around it runs."""
    monkeypatch.setattr(attention, "varlen_attn", one_by_one)
    mask = packed_mask(rows, START, "varlen")
    assert mask.tolist() == [0, 10, 64, 96, 191, 192] and mask.dtype == torch.int32
    torch.testing.assert_close(attend(*qkv(), mask), attend(*qkv(), packed_mask(rows, START)))
    kernel, note = choose_kernel("cpu", torch.float32, heads=4, head_dim=24)
    assert kernel == "varlen" and "0.0000 from the mask" in note


def test_training_is_the_same_with_every_kernel(mixture, monkeypatch):
    config = replace(SIX, steps=2, batch_tokens=480, pack=True, optimizer="adamw")
    masked = Pretrainer(tiny_model(), mixture, config)
    monkeypatch.setattr(attention, "varlen_attn", one_by_one)
    varlen = Pretrainer(tiny_model(), mixture, config)
    assert (masked.kernel, varlen.kernel) == ("mask", "varlen")
    assert varlen.run()["loss"] == pytest.approx(masked.run()["loss"], rel=1e-4)


def test_a_kernel_that_leaks_is_not_taken(monkeypatch):
    def leaks(q, k, v, starts, *_):
        return one_by_one(q, k, v, torch.tensor([0, len(q)]))

    monkeypatch.setattr(attention, "varlen_attn", leaks)
    kernel, note = choose_kernel("cpu", torch.float32, heads=4, head_dim=24)
    assert kernel == "mask" and "varlen: is " in note


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_agrees_with_the_mask(rows):
    """On a CPU it has a forward pass only, but it is the same code."""
    with torch.no_grad():
        flexed = attend(*qkv(), packed_mask(rows, START, "flex"))
    torch.testing.assert_close(flexed, attend(*qkv(), packed_mask(rows, START)), atol=1e-5, rtol=1e-5)


def test_a_cpu_falls_back_to_the_mask_and_says_why():
    for dtype in (torch.float32, torch.bfloat16):
        kernel, note = choose_kernel("cpu", dtype, heads=2, head_dim=16)
        assert kernel == "mask" and "varlen: " in note and "flex: " in note and "\n" not in note


def test_an_old_torch_has_no_varlen(monkeypatch):
    monkeypatch.setattr(attention, "varlen_attn", None)
    assert "varlen: needs torch >= 2.10" in choose_kernel("cpu", torch.float32, heads=2, head_dim=16)[1]


def test_mixed_precision_reaches_the_kernels_in_one_type(rows, monkeypatch):
    """Under autocast q and k come out of their norms in another dtype than v; flex and varlen refuse that."""
    monkeypatch.setattr(attention, "varlen_attn", one_by_one)
    q, k, v = qkv()
    with torch.no_grad():
        for kernel in ("varlen", "flex"):
            assert attend(q, k, v.bfloat16(), packed_mask(rows, START, kernel)).dtype == torch.bfloat16


def test_dropped_and_packed_documents_still_begin_with_the_start_token(prompt_form):
    pair = Pair([[1]], [[2]])
    assert encode_pairs([pair, pair], pair, prompt_form, max_len=17).input_ids[0] == START == prompt_form.start

"""GridLM: positions, masks and caches, and being an ordinary Hugging Face model."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.lm.gridlm import PRESETS, GridLMConfig, GridLMForCausalLM, grid_positions
from arc_helpers.lm.tokenizer import arc_tokenizer

ROW_END, I, O, PAD, BOS, EOS = range(10, 16)
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def ids_of(text: str) -> list[int]:
    """`^` is bos, `$` is eos, `_` is pad and `/` ends a row."""
    return ["0123456789/IO_^$".index(c) for c in text]


DOCUMENT = ids_of("^I12/34/O5/$I0/O00/$I67/8")
OTHER = ids_of("^I999/9")


def positions(text: str) -> list[tuple[int, int, int]]:
    found = grid_positions(torch.tensor([ids_of(text)]), ROW_END, [I, O], BOS)
    return [tuple(p) for p in found[0].tolist()]


def loop_positions(ids: list[int]) -> list[tuple[int, int, int]]:
    """The definition, token by token."""
    column = row = slot = 0
    new_row = False
    found = []
    for token in ids:
        if token in (I, O, BOS):
            column = row = 0
            slot = 0 if token == BOS else slot + 1
        else:
            row += new_row
            column = 1 if new_row else column + 1
        found.append((column, row, slot))
        new_row = token in (I, O, BOS, ROW_END)
    return found


def test_positions_of_a_hand_made_sequence():
    """A marker is (0, 0) of a new slot; cells and the row end behind them count from 1."""
    assert positions("^I12/34/O5/$I") == [
        (0, 0, 0),
        *[(0, 0, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 1)],
        *[(0, 0, 2), (1, 1, 2), (2, 1, 2), (1, 2, 2)],
        (0, 0, 3),
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 15), min_size=9, max_size=9), min_size=1, max_size=3))
def test_positions_follow_their_definition(rows):
    found = grid_positions(torch.tensor(rows), ROW_END, [I, O], BOS)
    assert [[tuple(p) for p in row] for row in found.tolist()] == [loop_positions(row) for row in rows]


def test_every_document_counts_from_its_own_start():
    alone = positions("^I12/34/O5/$")
    assert positions("___^I12/34/O5/$")[3:] == alone
    assert positions("^I9/O9/$^I12/34/O5/$")[8:] == alone


def test_unknown_presets_and_odd_heads_are_refused():
    with pytest.raises(ValueError, match="preset 'huge' is not known: allowed are tiny, nano"):
        GridLMConfig.preset("huge")
    with pytest.raises(ValueError, match="hidden_size 30 must split into 4 heads"):
        GridLMConfig(hidden_size=30, num_attention_heads=4)


@pytest.mark.parametrize(
    ("preset", "millions"), [("tiny", 0.15), ("nano", 1.2), ("micro", 3.1), ("base", 14), ("large", 32)]
)
def test_presets_have_the_sizes_they_say(preset, millions):
    with torch.device("meta"):
        model = GridLMForCausalLM(GridLMConfig.preset(preset))
    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.05)
    assert set(PRESETS) == {"tiny", "nano", "micro", "base", "large"}


def test_residual_writers_start_small(gridlm):
    """transformers passes containers by, so the special case must hang on the layers themselves."""
    for block in gridlm.model.layers:
        for writer in (block.self_attn.o_proj, block.mlp.down_proj):
            assert writer.weight.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.1)
        assert block.self_attn.q_proj.weight.std().item() == pytest.approx(0.1, rel=0.1)


@torch.no_grad()
def test_changing_the_last_token_changes_nothing_before(gridlm):
    ids = torch.tensor([DOCUMENT, [*DOCUMENT[:-1], 3]])
    logits = gridlm(ids).logits
    assert torch.equal(logits[0, :-1], logits[1, :-1])
    assert not torch.allclose(logits[0, -1], logits[1, -1], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("position", range(0, len(DOCUMENT) - 1, 5))
def test_every_token_reaches_the_last(gridlm, position):
    """Guards the tests of invariance: a model that looks at nothing would pass them."""
    changed = list(DOCUMENT)
    changed[position] = 9 if DOCUMENT[position] != 9 else 8
    logits = gridlm(torch.tensor([DOCUMENT, changed])).logits
    assert (logits[0, -1] - logits[1, -1]).abs().max() > 1e-3


@torch.no_grad()
def test_where_a_cell_stands_matters(gridlm):
    """The same tokens in a 1 × 4 and in a 4 × 1 grid: only the positions of the cells differ."""
    ids = torch.tensor([ids_of("^I1234")])
    column = gridlm.grid_positions(ids)
    column[0, 2:] = torch.tensor([[1, row, 1] for row in range(1, 5)])
    assert not torch.allclose(gridlm(ids).logits, gridlm(ids, position_ids=column).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(
    "sizes", [[1] * len(DOCUMENT), [7, 1, 9, 8], [24, 1]], ids=["stepwise", "in chunks", "last step"]
)
@pytest.mark.parametrize("mask", [False, True], ids=["no mask", "mask"])
def test_cached_equals_uncached(gridlm, sizes, mask):
    ids = torch.tensor([DOCUMENT])
    whole, where = gridlm(ids).logits, gridlm.grid_positions(ids)
    cache, parts, done = None, [], 0
    for size in sizes:
        out = gridlm(
            ids[:, done : done + size],
            position_ids=where[:, done : done + size],
            past_key_values=cache,
            attention_mask=torch.ones_like(ids)[:, : done + size] if mask else None,
            use_cache=True,
        )
        cache, done = out.past_key_values, done + size
        parts.append(out.logits)
    assert done == len(DOCUMENT)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)


def padded(side: str) -> tuple[torch.Tensor, torch.Tensor, list[slice]]:
    """Two documents of different length in one batch, its mask, and where the documents are."""
    rows, masks, places = [], [], []
    for document in (DOCUMENT, OTHER):
        fill = len(DOCUMENT) - len(document)
        pads, zeros, ones = [PAD] * fill, [0] * fill, [1] * len(document)
        rows.append(pads + document if side == "left" else document + pads)
        masks.append(zeros + ones if side == "left" else ones + zeros)
        places.append(slice(fill, None) if side == "left" else slice(len(document)))
    return torch.tensor(rows), torch.tensor(masks), places


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(gridlm, side):
    ids, mask, places = padded(side)
    logits = gridlm(ids, attention_mask=mask).logits
    assert logits.isfinite().all()
    for row, (document, place) in enumerate(zip((DOCUMENT, OTHER), places, strict=True)):
        torch.testing.assert_close(logits[row, place], gridlm(torch.tensor([document])).logits[0], **CLOSE)


@torch.no_grad()
def test_padding_on_the_right_needs_no_mask(gridlm):
    ids, _, places = padded("right")
    torch.testing.assert_close(gridlm(ids).logits[1, places[1]], gridlm(torch.tensor([OTHER])).logits[0], **CLOSE)


@torch.no_grad()
def test_cached_steps_behind_left_padding(gridlm):
    ids, mask, _ = padded("left")
    where = gridlm.grid_positions(ids)
    cut = len(DOCUMENT) - 3
    out = gridlm(ids[:, :cut], attention_mask=mask[:, :cut], position_ids=where[:, :cut], use_cache=True)
    out = gridlm(ids[:, cut:], attention_mask=mask, position_ids=where[:, cut:], past_key_values=out.past_key_values)
    torch.testing.assert_close(out.logits[1], gridlm(torch.tensor([OTHER])).logits[0, -3:], **CLOSE)


@torch.no_grad()
def test_packed_documents_with_their_own_mask(gridlm):
    """A block-diagonal 4-D mask is passed through: two documents in one row do not see each other."""
    ids = torch.tensor([DOCUMENT + OTHER])
    document = torch.tensor([0] * len(DOCUMENT) + [1] * len(OTHER))
    mask = (document[:, None] == document[None, :]).tril()[None, None]
    packed = gridlm(ids, attention_mask=mask).logits[0]
    torch.testing.assert_close(packed[: len(DOCUMENT)], gridlm(torch.tensor([DOCUMENT])).logits[0], **CLOSE)
    torch.testing.assert_close(packed[len(DOCUMENT) :], gridlm(torch.tensor([OTHER])).logits[0], **CLOSE)
    unmasked = gridlm(ids).logits[0]
    assert not torch.allclose(unmasked[len(DOCUMENT) :], packed[len(DOCUMENT) :], **CLOSE)


def test_a_continuation_must_say_where_it_stands(gridlm):
    ids = torch.tensor([DOCUMENT])
    cache = gridlm(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="needs position_ids"):
        gridlm(ids[:, :1], past_key_values=cache)
    with pytest.raises(ValueError, match="needs position_ids"):
        gridlm(inputs_embeds=gridlm.get_input_embeddings()(ids))


@torch.no_grad()
def test_embeddings_instead_of_ids(gridlm):
    ids = torch.tensor([DOCUMENT])
    embeddings = gridlm.get_input_embeddings()(ids)
    logits = gridlm(inputs_embeds=embeddings, position_ids=gridlm.grid_positions(ids)).logits
    assert torch.equal(logits, gridlm(ids).logits)


def test_loss_counts_only_labelled_tokens(gridlm):
    ids = torch.tensor([DOCUMENT])
    labels = torch.full_like(ids, -100)
    labels[0, -3:] = ids[0, -3:]
    out = gridlm(ids, labels=labels)
    by_hand = F.cross_entropy(out.logits[0, -4:-1], ids[0, -3:])
    torch.testing.assert_close(out.loss, by_hand)


def test_every_parameter_learns(gridlm):
    gridlm.zero_grad()
    ids, mask, _ = padded("left")
    try:
        gridlm(ids, attention_mask=mask, labels=torch.where(mask == 1, ids, -100)).loss.backward()
        for name, parameter in gridlm.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
    finally:
        gridlm.zero_grad(set_to_none=True)


def test_generate_with_and_without_cache(gridlm):
    """Rows of different length: positions and padding must follow every new token."""
    ids, mask, _ = padded("left")
    options = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 12, "eos_token_id": None}
    cached = gridlm.generate(ids, use_cache=True, **options)
    assert cached.shape[1] == ids.shape[1] + 12
    assert torch.equal(cached, gridlm.generate(ids, use_cache=False, **options))
    alone = gridlm.generate(
        torch.tensor([OTHER]), do_sample=False, max_new_tokens=12, eos_token_id=None, use_cache=True
    )
    assert torch.equal(cached[1, -12:], alone[0, -12:])


FRESH = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
import arc_helpers.lm.gridlm
ids, expected = torch.load(sys.argv[1], weights_only=True)
model = AutoModelForCausalLM.from_pretrained(sys.argv[2], trust_remote_code=False)
assert type(model).__name__ == "GridLMForCausalLM" and not model.training
assert torch.equal(model(ids).logits, expected), "logits differ"
assert AutoTokenizer.from_pretrained(sys.argv[2]).encode("I12\\nO", add_special_tokens=False) == [11, 1, 2, 10, 12]
half = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype=torch.bfloat16)
assert (half(ids).logits.float() - expected).abs().max() < 0.1 * expected.abs().max()
"""


@torch.no_grad()
def test_save_and_load_in_a_fresh_process(gridlm, model_folders, tmp_path):
    ids = torch.tensor([DOCUMENT])
    torch.save((ids, gridlm(ids).logits), tmp_path / "expected.pt")
    command = [sys.executable, "-c", FRESH, str(tmp_path / "expected.pt"), str(model_folders["gridlm"])]
    # one thread, as here: the order of sums is part of "equal"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@torch.no_grad()
def test_a_tied_head_survives_saving(tmp_path):
    torch.manual_seed(1)
    model = GridLMForCausalLM(GridLMConfig.preset("tiny", tie_word_embeddings=True)).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    again = GridLMForCausalLM.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    ids = torch.tensor([DOCUMENT])
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_peft_adapters_train_save_and_load(gridlm, tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(2)
    base = GridLMForCausalLM(GridLMConfig.preset("tiny", initializer_range=0.1)).eval()
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    ids = torch.tensor([DOCUMENT])
    before = model(input_ids=ids).logits.detach()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        after = model(input_ids=ids).logits
        assert (after - before).abs().max() > 1e-3
        model.save_pretrained(tmp_path / "adapter")
        fresh = GridLMForCausalLM.from_pretrained(tmp_path / "base")
        again = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
        torch.testing.assert_close(again(input_ids=ids).logits, after, **CLOSE)
    options = {"do_sample": False, "max_new_tokens": 5, "eos_token_id": None}
    assert again.generate(input_ids=ids, **options).shape[1] == len(DOCUMENT) + 5


def test_the_tokenizer_writes_what_the_config_expects():
    """The ids of markers, row ends and special tokens are in two places: here they are one."""
    tokenizer, config = arc_tokenizer(), GridLMConfig()
    assert tokenizer.convert_tokens_to_ids(["\n", "I", "O"]) == [config.row_end_token_id, *config.marker_token_ids]
    special = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert special == (config.pad_token_id, config.bos_token_id, config.eos_token_id)
    assert len(tokenizer) == config.vocab_size


def test_every_token_behind_them_knows_its_task_and_view():
    model = GridLMForCausalLM(GridLMConfig.preset("tiny", task_names=("a", "b"), task_vectors=True)).eval()
    start, task, view = BOS, 16 + 8 + 1, 16 + 3
    ids = torch.tensor([[start, task, view, I, 1, ROW_END, O, 2], [start, I, 1, ROW_END, start, task, view, I]])
    assert model.grid_positions(ids)[..., 3:].tolist() == [
        [[-1, -1], [task, -1], *[[task, view]] * 6],
        [*[[-1, -1]] * 5, [task, -1], *[[task, view]] * 2],
    ]
    vectors = model.get_input_embeddings().weight
    with torch.no_grad():
        logits = model(ids[:1]).logits
        by_hand = vectors[ids[:1]]
        by_hand[0, 1:] += vectors[task]
        by_hand[0, 2:] += vectors[view]
        positions = model.grid_positions(ids[:1])
        torch.testing.assert_close(model(inputs_embeds=by_hand, position_ids=positions).logits, logits)
        read = model(ids[:1, :-1], use_cache=True)
        place = model.next_position(ids[:1, -2:-1], positions[:, -2:-1])
        last = model(ids[:1, -1:], position_ids=place, past_key_values=read.past_key_values).logits
    torch.testing.assert_close(last[:, 0], logits[:, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_is_a_share(dropout):
    with pytest.raises(ValueError, match=r"dropout = .*: must be at least 0 and below 1"):
        GridLMConfig(dropout=dropout)

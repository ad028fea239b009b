"""The pretraining mixture: documents are a function of (seed, index), batches of (seed, cursor)."""

import dataclasses
import itertools

import numpy as np
import pytest

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt import IGNORE
from arc_helpers.pretrain.mixture import Mixture, fits, task_pools, task_sampler


def pairs_of(n: int, width: int = 2) -> list[Pair]:
    """Distinct pairs: a row of `width` cells and its mirror image."""
    rows = [[(i + c) % 10 for c in range(width)] for i in range(n)]
    return [Pair([row], [row[::-1]]) for row in rows]


@pytest.fixture
def mixture(prompt_form) -> Mixture:
    sources = {
        "narrow": (3.0, task_sampler({"a": pairs_of(5), "b": pairs_of(3, 3)})),
        "wide": (1.0, task_sampler({"c": pairs_of(4, 6)})),
    }
    return Mixture(sources, prompt_form, max_len=80, seed=7)


def same(one, other) -> bool:
    return one[0] == other[0] and all(
        np.array_equal(getattr(one[1], f), getattr(other[1], f)) for f in ("input_ids", "labels")
    )


def test_a_document_depends_on_seed_and_index_alone(mixture, prompt_form):
    forward = [mixture.document(i) for i in range(30)]
    backward = [mixture.document(i) for i in reversed(range(30))][::-1]
    assert all(map(same, forward, backward))
    other = Mixture(mixture.sources, prompt_form, max_len=80, seed=8)
    assert not all(same(forward[i], other.document(i)) for i in range(30))
    assert len({document.input_ids.tobytes() for _, document in forward}) > 25


def test_documents_have_demonstrations_and_count_every_output_but_the_first(mixture, prompt_form):
    for i in range(60):
        _, document = mixture.document(i)
        text = prompt_form.decode(document.input_ids)
        outputs = text.count("O")
        assert len(document) <= 80 and outputs >= 2
        counted = prompt_form.decode(document.labels[document.labels != IGNORE])
        assert counted.count("<end>") == outputs - 1


def test_sources_turn_up_by_their_weights(mixture):
    names = [mixture.document(i)[0] for i in range(400)]
    assert names.count("wide") == pytest.approx(100, abs=40)


def test_documents_are_augmented(prompt_form):
    """One task of three fixed pairs gives many documents, in other colours and directions."""
    mixture = Mixture({"one": (1.0, task_sampler({"a": pairs_of(3)}))}, prompt_form, max_len=200)
    texts = {prompt_form.decode(mixture.document(i)[1].input_ids) for i in range(50)}
    assert len(texts) > 45
    assert any("I0\n1\n" in t or "I1\n0\n" in t for t in texts) or any(t[8] == "\n" for t in texts)


def test_batches_go_on_from_any_cursor(mixture):
    straight = list(itertools.islice(mixture.batches(200, pool=16), 12))
    assert {batch.following[0] for batch in straight} >= {0, 1}  # over the edge of a pool, too
    for i in range(len(straight) - 2):
        for one, other in zip(
            mixture.batches(200, straight[i].following, pool=16), straight[i + 1 : i + 3], strict=False
        ):
            assert np.array_equal(one.input_ids, other.input_ids) and np.array_equal(one.labels, other.labels)
            assert one.names == other.names and one.following == other.following


def test_batches_hold_every_document_once_and_stay_in_budget(mixture, prompt_form):
    batches, rows = [], []
    for batch in mixture.batches(200, pool=16):
        batches.append(batch)
        rows += [row[row != prompt_form.pad].tobytes() for row in batch.input_ids]
        if len(rows) == 16:
            break
    assert sorted(rows) == sorted(mixture.document(i)[1].input_ids.tobytes() for i in range(16))
    assert all(batch.input_ids.size <= 200 for batch in batches)
    for batch in batches:
        assert (batch.labels[batch.input_ids == prompt_form.pad] == IGNORE).all()
        counted = batch.labels != IGNORE
        assert (batch.labels[counted] == batch.input_ids[counted]).all()


def test_pools_keep_what_fits_and_can_demonstrate():
    big = Pair([[1] * 12], [[1]])
    tasks = [
        Task("kept", (Pair([[1]], [[2]]), big), (Pair([[3]], [[4]]),)),
        Task("single", (Pair([[1]], [[2]]), big), (Pair([[3]]),)),
    ]
    assert not fits(big, 10) and fits(big, 12)
    assert task_pools(tasks, 10) == {"kept": [Pair([[1]], [[2]]), Pair([[3]], [[4]])]}
    assert [len(pool) for pool in task_pools(tasks, 30).values()] == [3, 2]


def test_a_source_without_tasks_is_refused():
    with pytest.raises(ValueError, match="no task has two pairs that fit"):
        task_sampler({"a": pairs_of(1)})


def test_a_drawn_pair_is_never_its_own_query():
    """A query among its demonstrations would teach copying."""
    sample = task_sampler({"a": pairs_of(6)}, max_demos=4)
    sizes = set()
    for seed in range(60):
        drawn = sample(np.random.default_rng(seed))
        assert len(set(drawn)) == len(drawn)
        sizes.add(len(drawn))
    assert sizes == {3, 4, 5}  # two to four demonstrations and the query


def test_some_documents_are_one_pair_alone(mixture, prompt_form):
    alone = dataclasses.replace(mixture, pair_share=0.5)
    outputs = [prompt_form.decode(alone.document(i)[1].input_ids).count("O") for i in range(200)]
    assert outputs.count(1) == pytest.approx(100, abs=30)
    single = next(alone.document(i)[1] for i in range(200) if outputs[i] == 1)
    counted = single.labels != IGNORE
    assert prompt_form.decode(single.labels[counted]).endswith("<end>") and single.answer_tokens < len(single)
    assert (np.flatnonzero(counted) >= single.prompt_length).all()  # its one output counts, and nothing else


def test_shares_of_zero_leave_the_stream_as_it_was(mixture):
    """A checkpoint from before these settings goes on with the documents that it would have seen."""
    same_stream = dataclasses.replace(mixture, pair_share=0.0, enlarge_share=0.0, max_side=7)
    assert all(same(mixture.document(i), same_stream.document(i)) for i in range(30))
    assert not all(
        same(mixture.document(i), dataclasses.replace(mixture, pair_share=0.1).document(i)) for i in range(30)
    )


def test_settings_name_everything_the_documents_depend_on(mixture):
    assert mixture.settings == {
        **{"max_side": 30, "max_len": 80, "pair_share": 0.0, "enlarge_share": 0.0, "seed": 7},
        **{"share of narrow": 3.0, "share of wide": 1.0},
    }

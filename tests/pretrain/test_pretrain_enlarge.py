"""Enlarged tasks are tasks: the rule goes with the grids, and every grid can be had back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.arc import Pair
from arc_helpers.pretrain.enlarge import MARGIN, Enlargement, random_enlargement
from arc_helpers.pretrain.mixture import Mixture, task_sampler

grids = st.integers(1, 6).flatmap(
    lambda h: st.integers(1, 6).flatmap(
        lambda w: st.lists(st.lists(st.integers(0, 9), min_size=w, max_size=w), min_size=h, max_size=h)
    )
)
enlargements = st.builds(Enlargement, st.integers(1, 4), *[st.integers(0, 3)] * 4)


def test_a_hand_sized_enlargement():
    larger = Enlargement(scale=2, top=1, right=1).grid(np.array([[1, 2]]))
    assert larger.tolist() == [[0, 0, 0, 0, 0], [1, 1, 2, 2, 0], [1, 1, 2, 2, 0]]
    assert larger.dtype == np.int8


@given(grids, enlargements)
def test_every_grid_can_be_had_back(grid, enlargement):
    grid = np.array(grid, dtype=np.int8)
    assert np.array_equal(enlargement.undo(enlargement.grid(grid)), grid)


@given(grids, grids, enlargements)
def test_different_grids_stay_different(one, other, enlargement):
    """So a rule stays a function: no input gets two outputs."""
    one, other = np.array(one), np.array(other)
    assert np.array_equal(one, other) == np.array_equal(enlargement.grid(one), enlargement.grid(other))


@pytest.mark.parametrize(
    "grid", [[[1, 2], [1, 1]], [[1, 1], [2, 1]], [[1, 1, 0], [1, 1, 0]], [[1]]], ids=["cell", "cell", "size", "small"]
)
def test_what_was_never_enlarged_has_no_smaller_grid(grid):
    with pytest.raises(ValueError, match="was not made by"):
        Enlargement(scale=2).undo(np.array(grid, dtype=np.int8))


@settings(deadline=None)
@given(st.lists(st.tuples(grids, grids), min_size=1, max_size=4), st.integers(0, 10**6), st.integers(6, 30))
def test_drawn_enlargements_fit(pairs, seed, max_side):
    pairs = [Pair(a, b) for a, b in pairs]
    enlargement = random_enlargement(np.random.default_rng(seed), pairs, max_side)
    assert max(enlargement.top, enlargement.bottom, enlargement.left, enlargement.right) <= MARGIN
    for pair in map(enlargement.pair, pairs):
        assert max(pair.input.shape + pair.output.shape) <= max_side


def test_drawn_enlargements_use_the_room_there_is():
    rng, pairs = np.random.default_rng(0), [Pair([[1, 2]], [[3]])]
    drawn = [random_enlargement(rng, pairs, 8) for _ in range(200)]
    assert {e.scale for e in drawn} == {1, 2, 3, 4}
    assert {e.left for e in drawn} == {e.bottom for e in drawn} == set(range(MARGIN + 1))
    assert random_enlargement(rng, pairs, 2).grid(np.array([[1, 2]])).shape[1] == 2  # no room at the sides


def test_enlarged_documents_follow_the_enlarged_rule(prompt_form):
    """The rule "mirror left-right" of 1×2 grids: at every scale and margin the text is that of an enlarged mirror."""
    pairs = [Pair([[a, b]], [[b, a]]) for a, b in ((1, 2), (3, 4), (5, 6))]
    mixture = Mixture({"m": (1.0, task_sampler({"t": pairs}))}, prompt_form, 400, max_side=7, enlarge_share=1.0)
    texts = [prompt_form.decode(mixture.document(i)[1].input_ids) for i in range(40)]
    longest = max(len(row) for text in texts for row in text.replace("I", "\n").replace("O", "\n").split("\n"))
    assert max(map(len, texts)) > 100 and longest <= 7 + len("<end>")
    plain = Mixture(mixture.sources, prompt_form, 400)
    assert all(len(plain.document(i)[1]) < 50 for i in range(40))

"""From candidates to two attempts."""

import numpy as np
import pytest

from arc_helpers.ttt.select import Candidate, two_attempts, vote


def candidates(*grids: tuple[list, float]) -> list[Candidate]:
    return [Candidate(np.array(grid, np.int8), f"view{i}", logprob) for i, (grid, logprob) in enumerate(grids)]


A, B, C = [[1]], [[2]], [[1, 1]]


def order(*grids) -> list:
    return [ranked.grid.tolist() for ranked in vote(candidates(*grids))]


def test_votes_come_first_then_the_mean_logprob():
    assert order((A, -5.0), (B, -0.1), (A, -5.0)) == [A, B]
    assert order((A, -0.5), (B, -0.1), (C, -0.3)) == [B, C, A]
    assert order((A, -1.0), (B, -0.2), (A, -1.0), (B, -2.2)) == [A, B]  # means -1.0 and -1.2


def test_full_ties_keep_the_order_of_the_views():
    assert order((B, -1.0), (A, -1.0)) == [B, A]


def test_the_same_cells_in_another_shape_are_another_grid():
    wide, high = [[1, 2]], [[1], [2]]
    assert order((wide, -1.0), (high, -2.0)) == [wide, high]


def test_a_ranked_grid_says_who_voted():
    first, _ = vote(candidates((A, -1.0), (B, -0.1), (A, -2.0)))
    assert first.votes == 2 and first.logprob == pytest.approx(-1.5) and first.views == ("view0", "view2")


def test_two_attempts():
    ranked = vote(candidates((A, -1.0), (B, -0.1), (A, -2.0), (C, -3.0)))
    assert [grid.tolist() for grid in two_attempts(ranked)] == [A, B]
    assert [grid.tolist() for grid in two_attempts(ranked[:1])] == [A, A]
    assert two_attempts(vote([])) is None

"""From candidates to two attempts."""

import numpy as np
import pytest

from arc_helpers.arc import Pair
from arc_helpers.ttt.ranking import (
    SCORES,
    Candidate,
    order_by,
    product_of_experts,
    same_size_first,
    two_attempts,
    vote,
)


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


def grids(ranked) -> list:
    return [r.grid.tolist() for r in ranked]


def test_product_of_experts_believes_the_doubting_view():
    """A leads by votes; one view finds it impossible, so B, fair in all views, wins."""
    ranked = vote(candidates((A, -0.1), (A, -0.1), (B, -1.0)))
    logprobs = np.array([[-0.1, -1.0], [-0.1, -1.0], [-9.0, -1.0]])  # [views, grids]
    first, second = product_of_experts(ranked, logprobs)
    assert (first.grid.tolist(), first.product, first.votes) == (B, -3.0, 1)
    assert (second.grid.tolist(), second.product, second.votes) == (A, pytest.approx(-9.2), 2)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("product", [B, C, A]), ("count_mean", [A, B, C]), ("max", [C, A, B])],
)
def test_strategies_differ(strategy, expected):
    """A has many votes and one doubter, B is fair everywhere, C shines in one view."""
    ranked = vote(candidates((A, -0.1), (A, -0.1), (A, -0.1), (A, -0.1), (B, -1.0), (C, -1.1)))
    logprobs = np.array([[-0.1, -1.0, -0.05], [-6.0, -1.0, -2.5]])
    ordered = order_by(strategy, ranked, logprobs)
    assert grids(ordered) == expected
    assert {str(r.grid.tolist()): r.product for r in ordered} == pytest.approx(
        {str(A): -6.1, str(B): -2.0, str(C): -2.55}
    )


def test_an_unknown_strategy():
    with pytest.raises(ValueError, match=r"^strategy = 'best': must be one of product, count_mean, max$"):
        order_by("best", [], np.empty((0, 0)))


@pytest.mark.parametrize("strategy", SCORES)
def test_ties_keep_the_order_of_the_votes(strategy):
    ranked = vote(candidates((A, -0.1), (B, -0.2), (C, -0.3)))
    assert grids(order_by(strategy, ranked, np.full((2, 3), -1.0))) == [A, B, C]


WIDE = [[1, 2]]
KEEPS = (Pair([[1, 2]], [[2, 1]]), Pair([[1], [3]], [[3], [1]]))  # each output as large as its input
GROWS = (*KEEPS, Pair([[1, 2]], [[2, 1, 1]]))


def test_same_size_first_where_all_demonstrations_agree():
    ranked = vote(candidates((A, -0.1), (WIDE, -0.5), (B, -0.2), (C, -0.9)))
    assert grids(ranked) == [A, B, WIDE, C]
    test_input = np.array([[5, 5]])
    assert grids(same_size_first(ranked, KEEPS, test_input)) == [WIDE, C, A, B]
    assert grids(same_size_first(ranked, GROWS, test_input)) == grids(ranked)
    assert grids(same_size_first(ranked, KEEPS, np.zeros((3, 3)))) == grids(ranked)  # nobody agrees


def test_the_prior_never_costs_the_second_attempt():
    ranked = same_size_first(vote(candidates((A, -0.1), (WIDE, -0.5))), KEEPS, np.array([[5, 5]]))
    assert [grid.tolist() for grid in two_attempts(ranked)] == [WIDE, A]


def test_one_colour_loses_ties_unless_a_demonstration_has_it():
    found = candidates((C, -0.1), (WIDE, -0.5))
    assert grids(vote(found)) == [C, WIDE]
    assert grids(vote(found, KEEPS)) == [WIDE, C]
    assert grids(vote(found, (*KEEPS, Pair([[1]], [[0, 0]])))) == [C, WIDE]
    assert grids(vote([*found, *candidates((C, -3.0))], KEEPS)) == [C, WIDE]  # a vote more outweighs it

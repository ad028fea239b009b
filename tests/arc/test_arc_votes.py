"""The one count of equal grids."""

from typing import NamedTuple

import numpy as np

from arc_helpers.arc import most_voted, same_grids


class Said(NamedTuple):
    grid: np.ndarray | None
    sure: float = 0.5


def said(grid, sure=0.5, dtype=np.int8) -> Said:
    return Said(None if grid is None else np.array(grid, dtype=dtype), sure)


def test_grids_are_the_same_by_shape_and_cells_whatever_holds_them():
    given = [said([[1, 2]]), said(None), said([[1], [2]]), said([[1, 2]], dtype=np.int64), said([[2, 1]])]
    groups = same_grids(given)
    assert [(grid.tolist(), len(of)) for grid, of in groups] == [([[1, 2]], 2), ([[1], [2]], 1), ([[2, 1]], 1)]
    assert groups[0][1] == [given[0], given[3]] and groups[0][0].dtype == np.int8
    assert same_grids([]) == []


def test_most_answers_first_then_how_sure_they_are():
    given = [said([[4]], 0.9), said([[1]], 0.2), said([[2]], 0.4), said([[1]], 0.2), said([[2]], 0.1), said([[3]], 0.9)]
    ranked = most_voted(given, lambda one: one.sure)
    assert [int(grid[0, 0]) for grid, _ in ranked] == [2, 1, 4, 3], "a mean, and full ties in the order given"

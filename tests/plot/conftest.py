"""Puzzles small enough to count their cells by eye."""

import pytest

from arc_helpers.arc import Pair, Task


@pytest.fixture
def task() -> Task:
    """Two demonstrations and two tests of different sizes."""
    return Task(
        id="little",
        train=(Pair([[1, 0], [0, 2]], [[2, 0], [0, 1]]), Pair([[3, 3, 0]], [[0], [3], [3]])),
        test=(Pair([[4, 0, 9]], [[9, 0, 4]]), Pair([[5, 6], [7, 8]], [[8, 7], [6, 5]])),
    )

"""Which grid is meant where several answers to one question differ: the one count behind every vote here."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np


class Answered(Protocol):
    """Anything with a grid, or None where it has none."""

    @property
    def grid(self) -> np.ndarray | None: ...


A = TypeVar("A", bound=Answered)


def same_grids(answers: Iterable[A]) -> list[tuple[np.ndarray, list[A]]]:
    """Each grid (int8 [H, W]) with the answers that gave it, in the order in which they came; None is left out."""
    groups: dict[tuple, tuple[np.ndarray, list[A]]] = {}
    for answer in answers:
        if answer.grid is not None:
            grid = np.asarray(answer.grid, dtype=np.int8)
            groups.setdefault((grid.shape, grid.tobytes()), (grid, []))[1].append(answer)
    return list(groups.values())


def most_voted(answers: Iterable[A], sure: Callable[[A], float]) -> list[tuple[np.ndarray, list[A]]]:
    """The same, most answers first, then the grid of which they are surer on average; ties keep their order."""

    def merit(group: tuple[np.ndarray, list[A]]) -> tuple[int, float]:
        return -len(group[1]), -float(np.mean([sure(answer) for answer in group[1]]))

    return sorted(same_grids(answers), key=merit)

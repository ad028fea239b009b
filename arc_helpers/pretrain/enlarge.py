"""Larger versions of a task for pretraining: every grid upscaled by one integer, inside one margin.

Both are injective maps of grids, so a task whose grids all went through the same one is still a task: where the rule
was output = f(input), it is E∘f∘E⁻¹ now, as with rotations. What differs from rotations: only some grids are in the
map's image, so an answer cannot always be carried back. That is why this is no `Transform`, is used in pretraining
alone, and never for views or pseudo-tasks. Shifting with wrap-around is left out: it tears objects apart. VARC
(arXiv 2511.14761) reports that scale and translation help small models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Pair

MARGIN = 2  # widest margin at a side, in cells


@dataclass(frozen=True)
class Enlargement:
    """grid -> each cell as `scale` × `scale` cells, then margins of colour 0: the background, mostly."""

    scale: int = 1
    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def grid(self, grid: np.ndarray) -> np.ndarray:
        """The enlarged grid, int8 [scale · H + top + bottom, scale · W + left + right]."""
        cells = np.repeat(np.repeat(np.asarray(grid, dtype=np.int8), self.scale, axis=0), self.scale, axis=1)
        return np.pad(cells, ((self.top, self.bottom), (self.left, self.right)))

    def undo(self, grid: np.ndarray) -> np.ndarray:
        """The grid that was enlarged; ValueError where there is none."""
        height, width = grid.shape
        small = grid[self.top : height - self.bottom, self.left : width - self.right][:: self.scale, :: self.scale]
        if not small.size or not np.array_equal(self.grid(small), grid):
            raise ValueError(f"undo: this {height}×{width} grid was not made by {self}")
        return small

    def pair(self, pair: Pair) -> Pair:
        """The pair with both grids enlarged."""
        return Pair(self.grid(pair.input), None if pair.output is None else self.grid(pair.output))


def random_enlargement(rng: np.random.Generator, pairs: Sequence[Pair], max_side: int) -> Enlargement:
    """One enlargement for all pairs of a task, after which every side is at most `max_side`."""
    shapes = [grid.shape for pair in pairs for grid in (pair.input, pair.output)]
    height, width = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    scale = int(rng.integers(1, max(1, max_side // max(height, width)) + 1))
    margins = []
    for side in (height, width):
        for _ in range(2):
            room = max_side - scale * side - sum(margins[-1:] if len(margins) % 2 else [])
            margins.append(int(rng.integers(0, max(0, min(MARGIN, room)) + 1)))
    return Enlargement(scale, *margins)

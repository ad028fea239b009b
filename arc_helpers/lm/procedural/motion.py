"""Rules that move things: gravity, shifts, slides until contact."""

import numpy as np

from arc_helpers.lm.procedural.registry import rule
from arc_helpers.lm.procedural.shapes import shifted
from arc_helpers.lm.procedural.world import World


@rule("gravity", anywhere=True)
def gravity(world: World):
    """Every coloured cell falls towards one side until it rests."""
    k = world.integer(0, 3)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, k)
        order = np.argsort(turned != world.background, axis=0, kind="stable")
        return np.rot90(np.take_along_axis(turned, order, 0), -k)

    return world.scene, apply


@rule("shift", anywhere=True)
def shift(world: World):
    """All things move by a fixed step; what leaves the grid is lost."""
    dy, dx = world.choice(
        ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (2, 0), (0, -2), (0, 2), (-2, 0))
    )
    return world.scene, lambda grid: shifted(grid, dy, dx, world.background)


@rule("trail_copy", anywhere=True)
def trail_copy(world: World):
    """Things stay, and a copy of one colour appears a fixed step away on free cells."""
    dy, dx = world.choice(((1, 1), (-1, 1), (1, -1), (-1, -1), (2, 0), (0, 2), (0, -2), (-2, 0)))
    color = world.mark()

    def apply(grid: np.ndarray) -> np.ndarray:
        shadow = shifted(grid, dy, dx, world.background) != world.background
        return np.where(shadow & (grid == world.background), np.int8(color), grid)

    return world.scene, apply

"""Rules that draw lines: rays, crosses, connections."""

import numpy as np

from arc_helpers.lm.procedural.registry import rule
from arc_helpers.lm.procedural.shapes import CROSS, DIAGONAL
from arc_helpers.lm.procedural.world import World


def dots(world: World, least: int = 1, most: int = 4) -> np.ndarray:
    """A few single cells, never next to each other."""
    grid = world.blank(world.shape(5))
    world.place(grid, [np.ones((1, 1), bool)] * world.integer(least, most))
    return grid


def cast(grid: np.ndarray, y: int, x: int, dy: int, dx: int, color: int, background: int) -> None:
    """Paint free cells from (y, x) on in one direction until something is in the way."""
    height, width = grid.shape
    y, x = y + dy, x + dx
    while 0 <= y < height and 0 <= x < width and grid[y, x] == background:
        grid[y, x] = color
        y, x = y + dy, x + dx


@rule("rays")
def rays(world: World):
    """Every dot sends a ray in one direction until something is in the way."""
    dy, dx = world.choice(CROSS + DIAGONAL)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for y, x in np.argwhere(grid != world.background).tolist():
            cast(out, y, x, dy, dx, int(grid[y, x]), world.background)
        return out

    return lambda: dots(world), apply


@rule("cross_lines")
def cross_lines(world: World):
    """Every dot draws its whole row, column, both or both diagonals."""
    steps = world.choice((CROSS, DIAGONAL, CROSS[::2], CROSS[1::2]))
    own = world.chance(0.5)
    color = world.mark()
    world.narrow(1)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        height, width = grid.shape
        for y, x in np.argwhere(grid != world.background).tolist():
            for dy, dx in steps:
                for k in range(1, max(height, width)):
                    v, u = y + k * dy, x + k * dx
                    if not (0 <= v < height and 0 <= u < width):
                        break
                    if grid[v, u] == world.background:
                        out[v, u] = grid[y, x] if own else color
        return out

    return lambda: dots(world, 1, 3), apply


@rule("connect_dots")
def connect_dots(world: World):
    """Two dots in one row or column are joined by a line."""
    color = world.mark() if world.chance(0.5) else None
    world.narrow(1)

    def sample() -> np.ndarray:
        grid = dots(world, 1, 3)
        for y, x in np.argwhere(grid != world.background).tolist():
            if world.chance(0.5):
                grid[y, world.integer(0, grid.shape[1] - 1)] = grid[y, x]
            else:
                grid[world.integer(0, grid.shape[0] - 1), x] = grid[y, x]
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        inside = np.zeros_like(solid)
        for axis in (0, 1):
            before = np.maximum.accumulate(solid, axis)
            after = np.flip(np.maximum.accumulate(np.flip(solid, axis), axis), axis)
            inside |= before & after
        return np.where(inside & ~solid, np.int8(world.pool[0] if color is None else color), grid)

    return sample, apply

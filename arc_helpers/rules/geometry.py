"""Rules that turn, mirror and rearrange the whole grid."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.world import Misfit, World


@rule("flip", anywhere=True)
def flip(world: World) -> Drawn:
    """The grid is mirrored left-right or top-down."""
    axis = world.integer(0, 1)
    return world.scene, lambda grid: np.flip(grid, axis)


@rule("rotate", anywhere=True)
def rotate(world: World) -> Drawn:
    """The grid is turned by 90, 180 or 270 degrees."""
    k = world.integer(1, 3)
    return world.scene, lambda grid: np.rot90(grid, k)


@rule("transpose", anywhere=True)
def transpose(world: World) -> Drawn:
    """The grid is mirrored at one of its two diagonals."""
    anti = world.chance(0.5)
    return world.scene, lambda grid: grid[::-1, ::-1].T if anti else grid.T


@rule("mirror_extend", anywhere=True)
def mirror_extend(world: World) -> Drawn:
    """The grid and its mirror image stand side by side (or one above the other)."""
    axis, first = world.integer(0, 1), world.chance(0.5)
    world.reserve(2)

    def apply(grid: np.ndarray) -> np.ndarray:
        image = np.flip(grid, axis)
        return np.concatenate((image, grid) if first else (grid, image), axis)

    return world.scene, apply


@rule("quadrants", anywhere=True)
def quadrants(world: World) -> Drawn:
    """Four mirror images meet in the middle."""
    top, left = world.chance(0.5), world.chance(0.5)
    world.reserve(2)

    def apply(grid: np.ndarray) -> np.ndarray:
        row = np.hstack((grid[:, ::-1], grid) if left else (grid, grid[:, ::-1]))
        return np.vstack((row[::-1], row) if top else (row, row[::-1]))

    return world.scene, apply


@rule("quadrant_turns", anywhere=True)
def quadrant_turns(world: World) -> Drawn:
    """A square is joined by its three rotations, around the middle."""
    step = world.choice((1, -1))
    world.reserve(2)
    world.square = True

    def apply(grid: np.ndarray) -> np.ndarray:
        size = max(grid.shape)
        grid = grid if grid.shape == (size, size) else np.resize(grid, (size, size))
        a, b, c = (np.rot90(grid, step * k) for k in (1, 2, 3))
        return np.block([[grid, a], [c, b]])

    return world.scene, apply


@rule("roll", anywhere=True)
def roll(world: World) -> Drawn:
    """Every cell moves a fixed number of steps and comes back on the other side."""
    dy, dx = world.choice(((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (2, 0), (0, 2), (-2, 0), (0, -2)))
    return world.scene, lambda grid: np.roll(grid, (dy, dx), (0, 1))


@rule("reverse_lines", anywhere=True)
def reverse_lines(world: World) -> Drawn:
    """Every other row (or column) is reversed."""
    axis, start = world.integer(0, 1), world.integer(0, 1)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        if axis:
            out[start::2] = grid[start::2, ::-1]
        else:
            out[:, start::2] = grid[::-1, start::2]
        return out

    return world.scene, apply


@rule("swap_halves", anywhere=True)
def swap_halves(world: World) -> Drawn:
    """The two halves of the grid change places."""
    axis = world.integer(0, 1)

    def apply(grid: np.ndarray) -> np.ndarray:
        side = grid.shape[axis]
        if side % 2:
            raise Misfit("no halves")
        return np.roll(grid, side // 2, axis)

    return world.scene, apply


@rule("overlay_mirror", anywhere=True)
def overlay_mirror(world: World) -> Drawn:
    """Free cells take the colour of their mirror image, so that the grid becomes symmetric."""
    kind = world.choice(("left-right", "top-down", "both"))

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid
        for axis, name in ((1, "left-right"), (0, "top-down")):
            if kind in (name, "both"):
                out = np.where(out == world.background, np.flip(out, axis), out)
        return out

    return world.scene, apply


@rule("drop_empty_lines", anywhere=True)
def drop_empty_lines(world: World) -> Drawn:
    """Rows and columns without any colour are taken out."""

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        out = grid[solid.any(1)][:, solid.any(0)]
        if out.size < 2:
            raise Misfit("hardly anything is left")
        return out

    return lambda: world.speckle(None, 0.12), apply


@rule("drop_repeats", anywhere=True)
def drop_repeats(world: World) -> Drawn:
    """Rows and columns that repeat the one before are taken out."""

    def sample() -> np.ndarray:
        small = world.full((world.integer(2, 4), world.integer(2, 4)))
        most = max(1, min(3, world.limit // 4))
        for axis in (0, 1):
            small = small.repeat([world.integer(1, most) for _ in range(small.shape[axis])], axis)
        return small

    def apply(grid: np.ndarray) -> np.ndarray:
        rows = np.r_[True, (grid[1:] != grid[:-1]).any(1)]
        columns = np.r_[True, (grid[:, 1:] != grid[:, :-1]).any(0)]
        return grid[rows][:, columns]

    return sample, apply


@rule("beside_negative")
def beside_negative(world: World) -> Drawn:
    """The grid stands beside its negative, in which background and colour have changed places."""
    axis = world.integer(0, 1)
    world.reserve(2)
    world.narrow(1)

    def apply(grid: np.ndarray) -> np.ndarray:
        color = np.int8(world.pool[0])
        image = np.where(grid == world.background, color, np.int8(world.background))
        return np.concatenate((grid, image), axis)

    return world.scene, apply

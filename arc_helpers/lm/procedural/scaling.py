"""Rules that repeat, enlarge or shrink the grid."""

import numpy as np

from arc_helpers.lm.procedural.registry import rule
from arc_helpers.lm.procedural.world import World


@rule("upscale", anywhere=True)
def upscale(world: World):
    """Every cell becomes a k × k block."""
    k = world.choice((2, 2, 3))
    world.reserve(k)
    return world.scene, lambda grid: grid.repeat(k, 0).repeat(k, 1)


@rule("stretch", anywhere=True)
def stretch(world: World):
    """Every cell becomes k cells along one axis."""
    k, axis = world.choice((2, 2, 3)), world.integer(0, 1)
    world.reserve(k)
    return world.scene, lambda grid: grid.repeat(k, axis)


@rule("tile", anywhere=True)
def tile(world: World):
    """The grid is repeated m × n times."""
    m, n = world.choice(((2, 2), (1, 2), (2, 1), (3, 3), (1, 3), (3, 1)))
    world.reserve(max(m, n))
    return world.scene, lambda grid: np.tile(grid, (m, n))


@rule("tile_flipped", anywhere=True)
def tile_flipped(world: World):
    """The grid is repeated 3 × 3 times, every other row (or column) of tiles mirrored."""
    axis = world.integer(0, 1)
    world.reserve(3)

    def apply(grid: np.ndarray) -> np.ndarray:
        image = np.flip(grid, world_axis)
        band = np.concatenate([grid] * 3, 1 - axis), np.concatenate([image] * 3, 1 - axis)
        return np.concatenate((band[0], band[1], band[0]), axis)

    world_axis = world.integer(0, 1)
    return world.scene, apply


@rule("downscale")
def downscale(world: World):
    """Every k × k block becomes one cell."""
    k = world.choice((2, 2, 3))

    def sample() -> np.ndarray:
        shape = world.shape(2, max(2, world.max_side // k))
        return world.full(shape).repeat(k, 0).repeat(k, 1)

    return sample, lambda grid: grid[::k, ::k]


@rule("fractal")
def fractal(world: World):
    """Every coloured cell is replaced by the whole grid (or every free one)."""
    free = world.chance(0.25)
    world.narrow(1)

    def sample() -> np.ndarray:
        most = max(2, int(world.limit**0.5))
        return world.speckle(world.shape(2, most), 0.55)

    def apply(grid: np.ndarray) -> np.ndarray:
        chosen = (grid == world.background) == free
        return np.where(
            np.kron(chosen, np.ones(grid.shape, bool)), np.tile(grid, grid.shape), np.int8(world.background)
        )

    return sample, apply


@rule("half", anywhere=True)
def half(world: World):
    """One half of the grid is kept."""
    axis, first = world.integer(0, 1), world.chance(0.5)

    def apply(grid: np.ndarray) -> np.ndarray:
        middle = (grid.shape[axis] + 1) // 2
        part = slice(0, middle) if first else slice(grid.shape[axis] - middle, None)
        return grid[part] if axis == 0 else grid[:, part]

    return world.scene, apply


@rule("border", anywhere=True)
def border(world: World):
    """A frame is laid around the grid, outside (or on its outermost cells)."""
    color, grow = world.mark(), world.chance(0.5)
    world.limit -= 2

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.pad(grid, 1) if grow else grid.copy()
        out[0] = out[-1] = color
        out[:, 0] = out[:, -1] = color
        return out

    return world.scene, apply

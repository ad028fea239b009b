"""Rules that repeat, enlarge or shrink the grid."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import components, unique_extreme
from arc_helpers.rules.world import Misfit, World


@rule("upscale", anywhere=True)
def upscale(world: World) -> Drawn:
    """Every cell becomes a k × k block."""
    k = world.choice((2, 2, 3))
    world.reserve(k)
    return world.scene, lambda grid: grid.repeat(k, 0).repeat(k, 1)


@rule("stretch", anywhere=True)
def stretch(world: World) -> Drawn:
    """Every cell becomes k cells along one axis."""
    k, axis = world.choice((2, 2, 3)), world.integer(0, 1)
    world.reserve(k)
    return world.scene, lambda grid: grid.repeat(k, axis)


@rule("tile", anywhere=True)
def tile(world: World) -> Drawn:
    """The grid is repeated m × n times."""
    m, n = world.choice(((2, 2), (1, 2), (2, 1), (3, 3), (1, 3), (3, 1)))
    world.reserve(max(m, n))
    return world.scene, lambda grid: np.tile(grid, (m, n))


@rule("tile_flipped", anywhere=True)
def tile_flipped(world: World) -> Drawn:
    """The grid is repeated 3 × 3 times, every other row (or column) of tiles mirrored."""
    axis, mirrored = world.integer(0, 1), world.integer(0, 1)
    world.reserve(3)

    def apply(grid: np.ndarray) -> np.ndarray:
        image = np.flip(grid, mirrored)
        band = np.concatenate([grid] * 3, 1 - axis), np.concatenate([image] * 3, 1 - axis)
        return np.concatenate((band[0], band[1], band[0]), axis)

    return world.scene, apply


@rule("downscale")
def downscale(world: World) -> Drawn:
    """Every k × k block becomes one cell."""
    k = world.choice((2, 2, 3))

    def sample() -> np.ndarray:
        shape = world.shape(2, max(2, world.max_side // k))
        return world.full(shape).repeat(k, 0).repeat(k, 1)

    return sample, lambda grid: grid[::k, ::k]


@rule("fractal")
def fractal(world: World) -> Drawn:
    """Every coloured cell is replaced by the whole grid (or every free one)."""
    free = world.chance(0.25)
    world.narrow(1)

    def sample() -> np.ndarray:
        side = max(2, min(3, int(world.limit**0.5)))
        return world.speckle((side, side), 0.55)

    def apply(grid: np.ndarray) -> np.ndarray:
        chosen = (grid == world.background) == free
        if chosen.all() or not chosen.any():
            raise Misfit("all cells are alike")
        return np.where(
            np.kron(chosen, np.ones(grid.shape, bool)), np.tile(grid, grid.shape), np.int8(world.background)
        )

    return sample, apply


@rule("half", anywhere=True)
def half(world: World) -> Drawn:
    """One half of the grid is kept."""
    axis, first = world.integer(0, 1), world.chance(0.5)

    def apply(grid: np.ndarray) -> np.ndarray:
        middle = (grid.shape[axis] + 1) // 2
        part = slice(0, middle) if first else slice(grid.shape[axis] - middle, None)
        return grid[part] if axis == 0 else grid[:, part]

    return world.scene, apply


@rule("border", anywhere=True)
def border(world: World) -> Drawn:
    """A frame is laid around the grid, outside (or on its outermost cells)."""
    color, grow = world.mark(), world.chance(0.5)
    world.limit -= 2

    def apply(grid: np.ndarray) -> np.ndarray:
        if not grow and min(grid.shape) < 3:
            raise Misfit("only a frame would be left")
        out = np.pad(grid, 1) if grow else grid.copy()
        out[0] = out[-1] = color
        out[:, 0] = out[:, -1] = color
        return out

    return world.scene, apply


@rule("fractal_color")
def fractal_color(world: World) -> Drawn:
    """Every cell of the most frequent colour is replaced by the whole grid, all others are emptied."""
    world.widen(3)

    def sample() -> np.ndarray:
        pool = np.array(world.pool, np.int8)
        side = 3 if world.limit >= 9 else 2
        return pool[world.rng.integers(0, len(pool), (side, side))]

    def apply(grid: np.ndarray) -> np.ndarray:
        best = unique_extreme(np.bincount(grid.ravel(), minlength=10).tolist(), True)
        where = np.kron(grid == best, np.ones(grid.shape, bool))
        return np.where(where, np.tile(grid, grid.shape), np.int8(world.background))

    return sample, apply


@rule("repeat_by_count")
def repeat_by_count(world: World) -> Drawn:
    """The grid is repeated side by side as many times as it has coloured cells."""
    axis = world.integer(0, 1)

    def sample() -> np.ndarray:
        side = world.integer(2, 3)
        grid = world.blank((side, side))
        n = world.integer(2, min(side * side - 1, max(2, world.max_side // side)))
        for i in world.random.sample(range(side * side), n):
            grid.flat[i] = world.color()
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        return np.concatenate([grid] * int((grid != world.background).sum()), axis)

    return sample, apply


@rule("square_of_count")
def square_of_count(world: World) -> Drawn:
    """The number of objects is the side of a full square in their colour."""
    world.narrow(3)

    def sample() -> np.ndarray:
        color, n = world.color(), world.integer(1, min(5, world.max_side))
        grid = world.blank(world.shape(5))
        world.place(grid, [world.box(1, 2) for _ in range(n)], [color] * n)
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        return np.full((len(found), len(found)), found[0].color, np.int8)

    return sample, apply

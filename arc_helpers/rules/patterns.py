"""Rules about regularity: symmetry and periods to be repaired, continued or unrolled."""

import numpy as np

from arc_helpers.rules.registry import Apply, Drawn, Sample, rule
from arc_helpers.rules.shapes import bounds
from arc_helpers.rules.world import Misfit, World

MIRRORS = {
    "left-right": (lambda g: g[:, ::-1],),
    "top-down": (lambda g: g[::-1],),
    "both": (lambda g: g[:, ::-1], lambda g: g[::-1], lambda g: g[::-1, ::-1]),
    "diagonal": (lambda g: g.T,),
    "turns": (lambda g: np.rot90(g), lambda g: np.rot90(g, 2), lambda g: np.rot90(g, 3)),
}


def cover(world: World, grid: np.ndarray, color: int, blocks: int = 1) -> np.ndarray:
    """The grid with a few rectangles painted over."""
    out = grid.copy()
    height, width = grid.shape
    for _ in range(blocks):
        h, w = world.integer(1, max(1, height // 2)), world.integer(1, max(1, width // 2))
        y, x = world.integer(0, height - h), world.integer(0, width - w)
        out[y : y + h, x : x + w] = color
    return out


def _symmetric(world: World) -> tuple[Sample, Apply, int]:
    """A sampler of symmetric pictures with a hole, and the function that repairs them."""
    kind, color = world.choice(sorted(MIRRORS)), world.mark()
    world.widen(2)
    blocks = world.choice((1, 1, 2))
    if kind in ("diagonal", "turns"):
        world.square = True

    def sample() -> np.ndarray:
        grid = world.full(world.shape(4))
        order = np.arange(grid.size).reshape(grid.shape)
        for mirror in MIRRORS[kind] * 2:  # each cell copies the first cell of its orbit
            order = np.minimum(order, mirror(order))
        return cover(world, grid.ravel()[order], color, blocks)

    def repair(grid: np.ndarray) -> np.ndarray:
        out = grid
        for mirror in MIRRORS[kind] * 2:
            image = mirror(grid)
            out = np.where(out == color, image, out)
        if (out == color).any():
            raise Misfit("some cells have no visible image")
        return out

    return sample, repair, color


@rule("symmetry_repair")
def symmetry_repair(world: World) -> Drawn:
    """The covered part of a symmetric picture is restored."""
    sample, repair, _ = _symmetric(world)
    return sample, repair


@rule("symmetry_patch")
def symmetry_patch(world: World) -> Drawn:
    """The output is what lies under the cover of a symmetric picture."""
    sample, repair, color = _symmetric(world)
    return sample, lambda grid: repair(grid)[bounds(grid == color)]


def wallpaper(world: World, shape: tuple[int, int], most: int = 3) -> np.ndarray:
    """A small random tile, repeated over the shape from a random offset."""
    p, q = world.integer(1, most), world.integer(2, most)
    tile = world.full((p, q))
    y, x = np.ogrid[: shape[0], : shape[1]]
    return tile[y % p, x % q]


def period(grid: np.ndarray, covered: np.ndarray, axis: int) -> int:
    """The shortest step along an axis under which the uncovered cells repeat."""
    if axis:
        grid, covered = grid.T, covered.T
    for p in range(1, len(grid)):
        same = (grid[p:] == grid[:-p]) | covered[p:] | covered[:-p]
        if same.all():
            return p
    raise Misfit("nothing repeats")


def _periodic(world: World) -> tuple[Sample, Apply, int]:
    """A sampler of wallpapers with covers, and the function that repairs them."""
    color, blocks = world.mark(), world.choice((1, 2, 2, 3))
    world.widen(2)

    def sample() -> np.ndarray:
        return cover(world, wallpaper(world, world.shape(6)), color, blocks)

    def repair(grid: np.ndarray) -> np.ndarray:
        covered = grid == color
        p, q = period(grid, covered, 0), period(grid, covered, 1)
        if 2 * p > grid.shape[0] or 2 * q > grid.shape[1]:
            raise Misfit("the period does not show")
        y, x = np.divmod(np.arange(grid.size), grid.shape[1])
        cells = (y % p) * q + x % q
        tile = np.full(p * q, -1, np.int8)
        seen = ~covered.ravel()
        tile[cells[seen]] = grid.ravel()[seen]
        out = tile[cells].reshape(grid.shape)
        if (out < 0).any():
            raise Misfit("a cell of the period is never seen")
        return out

    return sample, repair, color


@rule("period_repair")
def period_repair(world: World) -> Drawn:
    """The covered parts of a periodic wallpaper are restored."""
    sample, repair, _ = _periodic(world)
    return sample, repair


@rule("period_patch")
def period_patch(world: World) -> Drawn:
    """The output is what lies under the cover of a wallpaper."""
    sample, repair, color = _periodic(world)
    return sample, lambda grid: repair(grid)[bounds(grid == color)]


@rule("period_continue")
def period_continue(world: World) -> Drawn:
    """Lines repeat with a period; the empty rest of the grid is filled in the same way."""
    k = world.integer(0, 3)
    world.widen(2)

    def sample() -> np.ndarray:
        height, width = world.shape(5)
        p = world.integer(1, min(3, (height - 1) // 2))
        grid = world.blank((height, width))
        rows = world.full((p, width))
        visible = world.integer(2 * p, height - 1)
        grid[:visible] = np.tile(rows, (visible // p + 1, 1))[:visible]
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        grid = np.rot90(grid, -k)
        empty = (grid == world.background).all(1)
        visible = len(empty) - int(np.argmin(empty[::-1]))
        p = period(grid[:visible], np.zeros_like(grid[:visible], bool), 0)
        if 2 * p > visible or visible == len(grid):
            raise Misfit("the period does not show")
        return np.rot90(grid[np.arange(len(grid)) % p], k)

    return sample, apply


@rule("stripes_continue")
def stripes_continue(world: World) -> Drawn:
    """Two dots start stripes that alternate to the end at their distance."""
    turned = world.chance(0.5)
    a, b = world.colors(2)

    def sample() -> np.ndarray:
        height, width = world.shape(5)
        grid = world.blank((height, width))
        x = world.integer(0, width // 2 - 1)
        step = world.integer(1, max(1, (width - x - 1) // 2))
        first, second = world.choice(((a, b), (b, a)))
        grid[world.choice((0, height - 1)), x] = first
        grid[world.choice((0, height - 1)), x + step] = second
        return grid.T if turned else grid

    def apply(grid: np.ndarray) -> np.ndarray:
        grid = grid.T if turned else grid
        columns = np.flatnonzero((grid != world.background).any(0))
        if len(columns) != 2:
            raise Misfit("not two dots")
        x, step = columns[0], columns[1] - columns[0]
        out = grid.copy()
        for i, column in enumerate(columns):
            cells = grid[:, column]
            out[:, x + i * step :: 2 * step] = cells[cells != world.background][0]
        return out.T if turned else out

    return sample, apply


@rule("diagonals_fill")
def diagonals_fill(world: World) -> Drawn:
    """Diagonal stripes are continued over the whole grid."""
    p, anti = world.integer(2, 4), world.chance(0.5)
    colors = world.colors(p)
    sign = -1 if anti else 1

    def phases(grid: np.ndarray) -> np.ndarray:
        y, x = np.ogrid[: grid.shape[0], : grid.shape[1]]
        return y + sign * x

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        order = np.array(world.random.sample(colors, p), np.int8)
        phase = phases(grid)
        first = world.integer(int(phase.min()), int(phase.max()) - p + 1)
        seen = (phase >= first) & (phase < first + p)
        grid[seen] = order[phase[seen] % p]
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        phase = phases(grid) % p
        table = np.full(p, -1, np.int8)
        seen = grid != world.background
        table[phase[seen]] = grid[seen]
        if (table < 0).any():
            raise Misfit("a stripe is missing")
        return table[phase]

    return sample, apply


def layers(shape: tuple[int, int]) -> np.ndarray:
    """How far each cell is from the nearest side of the grid."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.minimum(np.minimum(y, shape[0] - 1 - y), np.minimum(x, shape[1] - 1 - x))


@rule("frames_invert")
def frames_invert(world: World) -> Drawn:
    """Concentric frames change places from the inside out."""
    world.widen(3)

    def sample() -> np.ndarray:
        depth = layers(world.shape(5, 10))
        n = int(depth.max()) + 1
        return np.array([world.color() for _ in range(n)], np.int8)[depth]

    def apply(grid: np.ndarray) -> np.ndarray:
        depth = layers(grid.shape)
        n = int(depth.max()) + 1
        return grid[np.arange(n), np.arange(n)][::-1][depth]

    return sample, apply


@rule("frames_draw")
def frames_draw(world: World) -> Drawn:
    """A line of colours becomes concentric frames, its first cell outermost (or innermost)."""
    outside, upright = world.chance(0.5), world.chance(0.3)
    world.widen(3)

    def sample() -> np.ndarray:
        n = world.integer(2, (world.max_side + 1) // 2)
        row = np.array([[world.color() for _ in range(n)]], np.int8)
        return row.T if upright else row

    def apply(grid: np.ndarray) -> np.ndarray:
        row = grid.ravel() if outside else grid.ravel()[::-1]
        side = 2 * len(row) - 1
        return row[layers((side, side))]

    return sample, apply

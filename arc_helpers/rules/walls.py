"""Rules about lines across the whole grid: walls, crossings, regions, full rows."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import components
from arc_helpers.rules.world import Misfit, World


def lined(world: World, color: int, rows: int, columns: int) -> tuple[np.ndarray, list[int], list[int]]:
    """A grid cut by full rows and columns of one colour, none next to another or to the side."""
    height, width = world.shape(5)
    grid = world.blank((height, width))
    chosen = []
    for side, n in ((height, rows), (width, columns)):
        free = list(range(1, side - 1))
        lines: list[int] = []
        while free and len(lines) < n:
            line = world.choice(free)
            lines.append(line)
            free = [i for i in free if abs(i - line) > 1]
        chosen.append(lines)
    grid[chosen[0]] = color
    grid[:, chosen[1]] = color
    return grid, chosen[0], chosen[1]


def sprinkle(world: World, grid: np.ndarray, colors: list[int], n: int) -> None:
    """Put n single cells on free places."""
    free = np.argwhere(grid == world.background).tolist()
    for y, x in world.random.sample(free, min(n, len(free))):
        grid[y, x] = world.choice(colors)


@rule("mark_crossings")
def mark_crossings(world: World) -> Drawn:
    """Where a full row crosses a full column, the cell takes a new colour."""
    color = world.mark()
    world.narrow(1)

    def sample() -> np.ndarray:
        return lined(world, world.color(), world.integer(1, 2), world.integer(1, 3))[0]

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        return np.where(solid.all(1)[:, None] & solid.all(0)[None], np.int8(color), grid)

    return sample, apply


@rule("recolor_full_lines")
def recolor_full_lines(world: World) -> Drawn:
    """Rows and columns without a gap take a new colour."""
    color = world.mark()
    world.narrow(1)

    def sample() -> np.ndarray:
        own = world.color()
        grid = lined(world, own, world.integer(0, 2), world.integer(0, 2))[0]
        loose = world.rng.random(grid.shape) < 0.3
        return np.where(loose, np.int8(own), grid)

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        full = solid.all(1)[:, None] | solid.all(0)[None]
        return np.where(full, np.int8(color), grid)

    return sample, apply


@rule("hit_lines", anywhere=True)
def hit_lines(world: World) -> Drawn:
    """Rows or columns (or both) that hold a coloured cell are filled, or those that hold none."""
    color, axis, free = world.mark(), world.choice((0, 1, 2)), world.chance(0.5)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        sprinkle(world, grid, world.pool, world.integer(1, 5))
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        rows, columns = solid.any(1)[:, None], solid.any(0)[None]
        hit = np.broadcast_to((rows, columns, rows | columns)[axis], grid.shape)
        if not hit.any() or hit.all():
            raise Misfit("nothing shows")
        return np.where((hit != free) & ~solid, np.int8(color), grid)

    return sample, apply


@rule("project_to_wall")
def project_to_wall(world: World) -> Drawn:
    """Every dot draws a line to the wall (or is moved to it, or leaves its shadow there)."""
    k, wall, kind = world.integer(0, 3), world.mark(), world.choice(("line", "move", "shadow"))

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        height, width = grid.shape
        grid[-1] = wall
        for x in world.random.sample(range(width), world.integer(1, max(1, width // 2))):
            grid[world.integer(0, height - 3), x] = world.color()
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        for y, x in np.argwhere(out[:-1] != world.background).tolist():
            color = out[y, x]
            if kind == "line":
                out[y:-1, x] = color
            elif kind == "move":
                out[y, x] = world.background
                out[-2, x] = color
            else:
                out[-1, x] = color
        return np.rot90(out, k)

    return sample, apply


@rule("nearest_wall")
def nearest_wall(world: World) -> Drawn:
    """Dots between two coloured walls take the colour of (or move to) the nearer wall."""
    turned, move = world.chance(0.5), world.chance(0.5)
    a, b, dot = world.mark(), world.mark(), world.mark()

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        grid = world.blank((height, width))
        grid[:, 0], grid[:, -1] = (a, b) if world.chance(0.5) else (b, a)
        for y in world.random.sample(range(height), world.integer(2, height - 1)):
            x = world.integer(1, width - 2)
            if 2 * x != width - 1:
                grid[y, x] = dot
        return grid.T if turned else grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = (grid.T if turned else grid).copy()
        width = out.shape[1]
        for y, x in np.argwhere(out == dot).tolist():
            left = 2 * x < width - 1
            color = out[y, 0 if left else -1]
            if move:
                out[y, x] = world.background
                out[y, 1 if left else -2] = dot
            else:
                out[y, x] = color
        return out.T if turned else out

    return sample, apply


@rule("flood_regions")
def flood_regions(world: World) -> Drawn:
    """Walls cut the grid into regions; a region with a dot takes its colour."""
    wall = world.mark()

    def sample() -> np.ndarray:
        grid = lined(world, wall, world.integer(0, 2), world.integer(1, 2))[0]
        for region in components(np.where(grid == wall, 0, 1), 0):
            if world.chance(0.5):
                i = world.integer(0, region.size - 1)
                grid[region.ys[i], region.xs[i]] = world.color()
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for region in components(np.where(grid == wall, 0, 1), 0):
            colors = grid[region.cells]
            seeds = colors[colors != world.background]
            if len(seeds):
                out[region.cells] = seeds[0]
        return out

    return sample, apply


@rule("region_extreme")
def region_extreme(world: World) -> Drawn:
    """Walls cut the grid into regions; the largest takes one colour, the smallest another."""
    wall, a, b = world.mark(), world.mark(), world.mark()

    def sample() -> np.ndarray:
        return lined(world, wall, world.integer(0, 2), world.integer(1, 2))[0]

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(np.where(grid == wall, 0, 1), 0)
        sizes = [r.size for r in found]
        if len(found) < 2:
            raise Misfit("one region")
        out = grid.copy()
        for r in found:
            if r.size == max(sizes):
                out[r.cells] = a
            elif r.size == min(sizes):
                out[r.cells] = b
        if max(sizes) == min(sizes):
            raise Misfit("equal regions")
        return out

    return sample, apply


@rule("row_heads")
def row_heads(world: World) -> Drawn:
    """Cells take the colour of the head of their row (or column)."""
    k, dot = world.integer(0, 3), world.mark()
    world.widen(3)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(4))
        grid[world.rng.random(grid.shape) < 0.35] = dot
        grid[:, :2] = world.background
        grid[:, 0] = [world.color() for _ in range(len(grid))]
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, -k)
        return np.rot90(np.where(turned == dot, turned[:, :1], turned), k)

    return sample, apply


@rule("heads_meet")
def heads_meet(world: World) -> Drawn:
    """Row heads of equal colour at both ends are joined by a line (others are not)."""
    turned = world.chance(0.5)
    world.widen(3)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        for y in range(0, len(grid), world.integer(1, 2)):
            if world.chance(0.7):
                grid[y, 0] = world.color()
                grid[y, -1] = grid[y, 0] if world.chance(0.5) else world.color()
        return grid.T if turned else grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = (grid.T if turned else grid).copy()
        equal = (out[:, 0] == out[:, -1]) & (out[:, 0] != world.background)
        out[equal] = out[equal, :1]
        return out.T if turned else out

    return sample, apply


@rule("columns_from_base")
def columns_from_base(world: World) -> Drawn:
    """A row of colours at the side grows over the grid (or only its every other cell)."""
    k, step = world.integer(0, 3), world.choice((1, 1, 2))
    world.widen(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(4))
        grid[-1] = [world.color() if world.chance(0.7) else world.background for _ in range(grid.shape[1])]
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        out[::-1][::step] = out[-1]
        return np.rot90(out, k)

    return sample, apply

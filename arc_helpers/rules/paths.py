"""Rules that draw paths: bounces, turns, spirals, stairs, corners."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.world import Misfit, World


@rule("bounce")
def bounce(world: World) -> Drawn:
    """A dot at the side shoots diagonally and bounces off the long sides up to the other end."""
    k, color = world.integer(0, 3), world.mark() if world.chance(0.5) else None
    world.narrow(2)

    def sample() -> np.ndarray:
        grid = world.blank((world.integer(3, max(3, world.max_side)), world.integer(2, 5)))
        grid[-1, world.choice((0, -1))] = world.color()
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        height, width = out.shape
        x = 0 if out[-1, 0] != world.background else width - 1
        dx = 1 if x == 0 else -1
        own = out[-1, x]
        for y in range(height - 2, -1, -1):
            if not 0 <= x + dx < width:
                dx = -dx
            x += dx
            out[y, x] = own if color is None else color
        return np.rot90(out, k)

    return sample, apply


@rule("turning_path")
def turning_path(world: World) -> Drawn:
    """A ray turns right where it meets one colour and left where it meets the other."""
    k, right, left, own = world.integer(0, 3), world.mark(), world.mark(), world.color()

    def walk(grid: np.ndarray) -> tuple[np.ndarray, int]:
        out = grid.copy()
        height, width = grid.shape
        starts = np.argwhere(grid == own).tolist()
        if len(starts) != 1:
            raise Misfit("no single start")
        (y, x), (dy, dx) = starts[0], (-1, 0)
        turns = 0
        for _ in range(grid.size):
            v, u = y + dy, x + dx
            if not (0 <= v < height and 0 <= u < width):
                return out, turns
            if grid[v, u] == right:
                dy, dx, turns = dx, -dy, turns + 1
            elif grid[v, u] == left:
                dy, dx, turns = -dx, dy, turns + 1
            else:
                y, x = v, u
                out[y, x] = own
        raise Misfit("the ray runs in circles")

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        height, width = grid.shape
        y, x, dy, dx = height - 1, world.integer(1, width - 2), -1, 0
        grid[y, x] = own
        for _ in range(world.integer(1, 4)):  # put a mark where the ray will pass
            ahead = [
                (y + i * dy, x + i * dx)
                for i in range(3, max(height, width))
                if 0 <= y + i * dy < height and 0 <= x + i * dx < width
            ]
            if not ahead:
                break
            v, u = world.choice(ahead)
            turn = world.choice((right, left))
            grid[v, u] = turn
            y, x = v - dy, u - dx
            dy, dx = (dx, -dy) if turn == right else (-dx, dy)
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out, turns = walk(np.rot90(grid, -k))
        if not turns:
            raise Misfit("no turn")
        return np.rot90(out, k)

    return sample, apply


def spiral_cells(height: int, width: int) -> list[tuple[int, int]]:
    """The cells of a clockwise spiral with one free cell between its arms."""
    y, x, dy, dx = 0, 0, 0, 1
    cells, seen = [(0, 0)], {(0, 0)}

    def blocked(v: int, u: int) -> bool:
        return not (0 <= v < height and 0 <= u < width) or (v + dy, u + dx) in seen or (v, u) in seen

    while True:
        if blocked(y + dy, x + dx):
            dy, dx = dx, -dy
            if blocked(y + dy, x + dx):
                return cells
        y, x = y + dy, x + dx
        cells.append((y, x))
        seen.add((y, x))


@rule("spiral")
def spiral(world: World) -> Drawn:
    """A dot in the corner winds into a spiral, in its colour or another."""
    k, mirrored, color = world.integer(0, 3), world.chance(0.5), world.mark() if world.chance(0.5) else None
    world.widen(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(4, world.max_side))
        grid[0, 0] = world.color()
        return np.rot90(grid.T if mirrored else grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, -k)
        out = (turned.T if mirrored else turned).copy()
        own = out[0, 0] if color is None else color
        for cell in spiral_cells(*out.shape):
            out[cell] = own
        return np.rot90(out.T if mirrored else out, k)

    return sample, apply


@rule("stairs")
def stairs(world: World) -> Drawn:
    """A row grows by one cell a line until it is full (or shrinks until it is empty)."""
    grow, k = world.chance(0.6), world.choice((0, 0, 2))
    world.widen(2)

    def sample() -> np.ndarray:
        width = world.integer(3, world.max_side)
        n = world.integer(1, width - 1) if grow else world.integer(2, width)
        row = np.full((1, width), world.background, np.int8)
        row[0, :n] = world.color()
        return np.rot90(row, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        row = np.rot90(grid, -k)[0]
        n, width = int((row != world.background).sum()), len(row)
        lengths = np.arange(n, width + 1) if grow else np.arange(n, 0, -1)
        out = np.where(np.arange(width)[None] < lengths[:, None], row[0], world.background)
        return np.rot90(out.astype(np.int8), k)

    return sample, apply


@rule("row_diagonals")
def row_diagonals(world: World) -> Drawn:
    """A row becomes a square in which each line is the one above, moved by one (around the side or not)."""
    step, around = world.choice((1, -1)), world.chance(0.5)
    world.widen(2)

    def sample() -> np.ndarray:
        width = world.integer(3, min(world.max_side, 10))
        return world.speckle((1, width), world.random.uniform(0.2, 0.7))

    def apply(grid: np.ndarray) -> np.ndarray:
        width = grid.shape[1]
        y, x = np.ogrid[:width, :width]
        source = x - step * y
        out = grid[0][source % width]
        if not around:
            out = np.where((source >= 0) & (source < width), out, world.background)
        return out.astype(np.int8)

    return sample, apply


@rule("corner_path")
def corner_path(world: World) -> Drawn:
    """Two dots are joined by a path with one corner, first along the row (or column) of the first colour."""
    a, b = world.colors(2)
    color, along_row = world.mark(), world.chance(0.5)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(4))
        height, width = grid.shape
        (y, v), (x, u) = world.random.sample(range(height), 2), world.random.sample(range(width), 2)
        grid[y, x], grid[v, u] = a, b
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        (y, x), (v, u) = (np.argwhere(grid == c)[0].tolist() for c in (a, b))
        out = grid.copy()
        if not along_row:
            y, x, v, u = v, u, y, x
        out[y, min(x, u) : max(x, u) + 1] = color
        out[min(y, v) : max(y, v) + 1, u] = color
        return np.where(grid == world.background, out, grid)

    return sample, apply


@rule("triangle_shadow")
def triangle_shadow(world: World) -> Drawn:
    """A bar at the side drops a triangle that loses one cell at each end a line."""
    k, color = world.integer(0, 3), world.mark()
    world.narrow(2)

    def sample() -> np.ndarray:
        height, width = world.shape(5)
        grid = world.blank((height, width))
        n = world.choice(range(3, min(width, 2 * height - 1) + 1, 2))
        x = world.integer(0, width - n)
        grid[0, x : x + n] = world.color()
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        xs = np.flatnonzero(out[0] != world.background)
        left, right = int(xs[0]), int(xs[-1])
        for y in range(1, len(out)):
            if left + y > right - y:
                break
            out[y, left + y : right - y + 1] = color
        return np.rot90(out, k)

    return sample, apply

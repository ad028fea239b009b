"""Rules that draw lines: rays, crosses, connections."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import CROSS, DIAGONAL, bounds, components
from arc_helpers.rules.world import Misfit, World

DOT = np.ones((1, 1), bool)


def dots(world: World, least: int = 1, most: int = 4) -> np.ndarray:
    """A few single cells, never next to each other."""
    grid = world.blank(world.shape(5))
    world.place(grid, [DOT] * world.integer(least, most))
    return grid


def cast(grid: np.ndarray, y: int, x: int, dy: int, dx: int, color: int, background: int) -> None:
    """Paint free cells from (y, x) on in one direction until something is in the way."""
    height, width = grid.shape
    y, x = y + dy, x + dx
    while 0 <= y < height and 0 <= x < width and grid[y, x] == background:
        grid[y, x] = color
        y, x = y + dy, x + dx


@rule("rays")
def rays(world: World) -> Drawn:
    """Every dot sends a ray in one direction until something is in the way."""
    dy, dx = world.choice(CROSS + DIAGONAL)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for y, x in np.argwhere(grid != world.background).tolist():
            cast(out, y, x, dy, dx, int(grid[y, x]), world.background)
        return out

    return lambda: dots(world), apply


@rule("cross_lines")
def cross_lines(world: World) -> Drawn:
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
def connect_dots(world: World) -> Drawn:
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


@rule("rays_by_color")
def rays_by_color(world: World) -> Drawn:
    """Every dot sends a ray in the direction that belongs to its colour."""
    steps = dict(zip(world.colors(2), world.random.sample(CROSS + DIAGONAL, 2), strict=True))
    colors = list(steps)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        n = world.integer(2, 4)
        world.place(grid, [DOT] * n, (colors * n)[:n])
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for y, x in np.argwhere(grid != world.background).tolist():
            color = int(grid[y, x])
            cast(out, y, x, *steps[color], color, world.background)
        return out

    return sample, apply


@rule("rays_to_obstacles")
def rays_to_obstacles(world: World) -> Drawn:
    """Dots at one side send rays that stop at the obstacles."""
    k, obstacle = world.integer(0, 3), world.mark()

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        n = world.integer(2, 6)
        world.place(grid[:-2], [DOT] * n, [obstacle] * n, gap=0)
        for x in world.random.sample(range(grid.shape[1]), world.integer(1, 4)):
            grid[-1, x] = world.color()
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        last = len(out) - 1
        for x in np.flatnonzero(out[-1] != world.background).tolist():
            cast(out, last, x, -1, 0, int(out[-1, x]), world.background)
        return np.rot90(out, k)

    return sample, apply


@rule("connect_pairs")
def connect_pairs(world: World) -> Drawn:
    """Dots of equal colour in one row or column are joined; upright lines run on top."""
    world.widen(4)
    upright = world.chance(0.5)

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        grid = world.blank((height, width))
        across, down = world.integer(1, 2), world.integer(0, 2)
        colors = world.colors(across + down)
        for color, y in zip(colors, world.random.sample(range(height), across), strict=False):
            x, u = sorted(world.random.sample(range(width), 2))
            if u - x > 1:
                grid[y, [x, u]] = color
        for color, x in zip(colors[across:], world.random.sample(range(width), down), strict=True):
            y, v = sorted(world.random.sample(range(height), 2))
            if v - y > 1 and (grid[[y, v], x] == world.background).all():
                grid[[y, v], x] = color
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for axis in (0, 1) if upright else (1, 0):
            for color in np.unique(grid[grid != world.background]).tolist():
                cells = np.argwhere(grid == color)
                if len(cells) != 2:
                    raise Misfit("not a pair")
                (y, x), (v, u) = cells.tolist()
                if (axis == 0 and y == v) or (axis == 1 and x == u):
                    out[y : v + 1, min(x, u) : max(x, u) + 1] = color
        return np.where(grid == world.background, out, grid)

    return sample, apply


@rule("extend_segments")
def extend_segments(world: World) -> Drawn:
    """Short strokes are continued in their direction up to the sides."""
    diagonal, color = world.chance(0.5), world.mark() if world.chance(0.5) else None

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        strokes = []
        for _ in range(world.integer(1, 3)):
            n = world.integer(2, 3)
            if diagonal:
                stroke = np.eye(n, dtype=bool)
                strokes.append(stroke if world.chance(0.5) else stroke[::-1])
            else:
                strokes.append(np.ones((1, n) if world.chance(0.5) else (n, 1), bool))
        world.place(grid, strokes)
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background, corners=True):
            (y, x), (v, u) = (int(o.ys[0]), int(o.xs[0])), (int(o.ys[-1]), int(o.xs[-1]))
            dy, dx = int(np.sign(v - y)), int(np.sign(u - x))
            own = o.color if color is None else color
            cast(out, v, u, dy, dx, own, world.background)
            cast(out, y, x, -dy, -dx, own, world.background)
        return out

    return sample, apply


@rule("box_from_corners")
def box_from_corners(world: World) -> Drawn:
    """Four dots are the corners of a box, which is filled (or drawn)."""
    color, outline = world.mark(), world.chance(0.4)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        corners = []
        for _ in range(world.integer(1, 2)):
            box = np.full((world.integer(3, 6), world.integer(3, 6)), world.color(), np.int8)
            box[1:-1] = box[:, 1:-1] = world.background
            corners.append(box)
        free = world.blank(grid.shape)
        for box in corners:
            room = np.ones(box.shape, bool)
            before = free.copy()
            if world.place(free, [room], [1 if world.background != 1 else 2]):
                grid[bounds(free != before)] = box
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        left = grid.copy()
        for y, x in np.argwhere(grid != world.background).tolist():
            own = left[y, x]
            if own == world.background:
                continue
            u = x + 1 + int(np.argmax(left[y, x + 1 :] == own))
            v = y + 1 + int(np.argmax(left[y + 1 :, x] == own))
            box = out[y : v + 1, x : u + 1]
            if not (left[y, u] == left[v, x] == left[v, u] == own):
                raise Misfit("not four corners")
            left[[y, y, v, v], [x, u, x, u]] = world.background
            inside = box[1:-1, 1:-1].copy()
            box[box == world.background] = color
            if outline:
                box[1:-1, 1:-1] = inside
        return out

    return sample, apply


@rule("mark_middle")
def mark_middle(world: World) -> Drawn:
    """Halfway between two dots in line, the cell (or a plus) is marked."""
    color, plus = world.mark(), world.chance(0.5)

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        grid = world.blank((height, width))
        half = world.integer(2, (width - 1) // 2)
        y, x = world.integer(0, height - 1), world.integer(0, width - 1 - 2 * half)
        grid[y, [x, x + 2 * half]] = world.color()
        return grid.T if world.chance(0.5) else grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        (y, x), (v, u) = np.argwhere(grid != world.background).tolist()
        y, x = (y + v) // 2, (x + u) // 2
        out[y, x] = color
        if plus:
            for dy, dx in CROSS:
                if 0 <= y + dy < out.shape[0] and 0 <= x + dx < out.shape[1]:
                    out[y + dy, x + dx] = color
        return out

    return sample, apply


@rule("draw_diagonals", anywhere=True)
def draw_diagonals(world: World) -> Drawn:
    """The diagonals of the grid (one or both) are drawn on free cells."""
    color, kind = world.mark(), world.choice(("down", "up", "both"))

    def apply(grid: np.ndarray) -> np.ndarray:
        n = min(grid.shape)
        line = np.zeros(grid.shape, bool)
        i = np.arange(n)
        if kind != "up":
            line[i, i] = True
        if kind != "down":
            line[i, grid.shape[1] - 1 - i] = True
        return np.where(line & (grid == world.background), np.int8(color), grid)

    return world.scene, apply


@rule("rule_lines", anywhere=True)
def rule_lines(world: World) -> Drawn:
    """Every k-th row (and column) is drawn behind all things."""
    color, k, kind = world.mark(), world.integer(2, 3), world.choice(("rows", "columns", "both"))
    first = world.integer(0, k - 1)

    def apply(grid: np.ndarray) -> np.ndarray:
        line = np.zeros(grid.shape, bool)
        if kind != "columns":
            line[first::k] = True
        if kind != "rows":
            line[:, first::k] = True
        return np.where(line & (grid == world.background), np.int8(color), grid)

    return world.scene, apply

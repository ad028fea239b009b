"""Rules that move things: gravity, shifts, slides until contact."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import CROSS, DIAGONAL, bounds, components, shifted
from arc_helpers.rules.world import Misfit, World


@rule("gravity", anywhere=True)
def gravity(world: World) -> Drawn:
    """Every coloured cell falls towards one side until it rests."""
    k = world.integer(0, 3)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, k)
        order = np.argsort(turned != world.background, axis=0, kind="stable")
        return np.rot90(np.take_along_axis(turned, order, 0), -k)

    return world.scene, apply


@rule("shift", anywhere=True)
def shift(world: World) -> Drawn:
    """All things move by a fixed step; what leaves the grid is lost."""
    dy, dx = world.choice(((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (2, 0), (0, -2), (0, 2), (-2, 0)))
    return world.scene, lambda grid: shifted(grid, dy, dx, world.background)


@rule("shadow", anywhere=True)
def shadow(world: World) -> Drawn:
    """Things stay and cast a one-coloured shadow, a fixed step away, on free cells."""
    dy, dx = world.choice(((1, 1), (-1, 1), (1, -1), (-1, -1), (2, 0), (0, 2), (0, -2), (-2, 0)))
    color = world.mark()

    def apply(grid: np.ndarray) -> np.ndarray:
        cast = shifted(grid, dy, dx, world.background) != world.background
        return np.where(cast & (grid == world.background), np.int8(color), grid)

    return world.scene, apply


@rule("shift_color", anywhere=True)
def shift_color(world: World) -> Drawn:
    """Cells of one colour move by a fixed step, all others stay."""
    world.narrow(3)
    color = world.colors(2)[0]
    dy, dx = world.choice(CROSS + DIAGONAL)

    def apply(grid: np.ndarray) -> np.ndarray:
        moved = shifted((grid == color).astype(np.int8), dy, dx, 0) == 1
        rest = np.where(grid == color, np.int8(world.background), grid)
        if (moved & (rest != world.background)).any():
            raise Misfit("it runs into something")
        return np.where(moved, np.int8(color), rest)

    return lambda: world.objects(2, 4), apply


@rule("rigid_gravity", anywhere=True)
def rigid_gravity(world: World) -> Drawn:
    """Whole objects fall towards one side until they rest on it or on each other."""
    k = world.integer(0, 3)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, k)
        out = np.full_like(turned, world.background)
        height = len(out)
        for o in sorted(components(turned, world.background), key=lambda o: -o.bottom):
            drop = 0
            while o.bottom + drop + 1 < height and (out[o.ys + drop + 1, o.xs] == world.background).all():
                drop += 1
            out[o.ys + drop, o.xs] = o.color
        return np.rot90(out, -k)

    return lambda: world.objects(1, 4), apply


@rule("align_objects")
def align_objects(world: World) -> Drawn:
    """Objects move straight to one side of the grid."""
    k = world.integer(0, 3)

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        grid = world.blank((height, width))
        x = world.integer(0, 1)
        while True:
            stamp = world.blob(2, 3)
            h, w = stamp.shape
            if x + w > width:
                break
            y = world.integer(0, height - h)
            grid[y : y + h, x : x + w][stamp] = world.color()
            x += w + world.integer(1, 2)
        return np.rot90(grid, -k)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, k)
        out = np.full_like(turned, world.background)
        for o in components(turned, world.background):
            out[o.ys + len(out) - 1 - o.bottom, o.xs] = o.color
        return np.rot90(out, -k)

    return sample, apply


@rule("move_to_contact")
def move_to_contact(world: World) -> Drawn:
    """One object moves straight to the other until they touch (or draws a line to it)."""
    mover, goal = world.mark(), world.mark()
    beam = world.mark() if world.chance(0.25) else None

    def sample() -> np.ndarray:
        height, width = world.shape(7)
        grid = world.blank((height, width))
        a, b = world.blob(2, 3), world.box(2, 3)
        x = world.integer(0, width - max(a.shape[1], b.shape[1]))
        y = world.integer(0, max(0, height - len(a) - len(b) - 2))
        v = world.integer(min(y + len(a) + 1, height - len(b)), height - len(b))
        if v <= y + len(a):
            raise Misfit("no room to move")
        grid[y : y + len(a), x : x + a.shape[1]][a] = mover
        grid[v : v + len(b), x : x + b.shape[1]][b] = goal
        return np.rot90(grid, world.integer(0, 3))

    def apply(grid: np.ndarray) -> np.ndarray:
        a, b = bounds(grid == mover), bounds(grid == goal)
        k = next(
            (
                k
                for k, (axis, after) in enumerate(((0, True), (1, False), (0, False), (1, True)))
                if (b[axis].start >= a[axis].stop if after else b[axis].stop <= a[axis].start)
                and a[1 - axis].start < b[1 - axis].stop
                and b[1 - axis].start < a[1 - axis].stop
            ),
            None,
        )
        if k is None:
            raise Misfit("not in line")
        turned = np.rot90(grid, -k) if k in (0, 2) else np.rot90(grid, k)
        rest = np.where(turned == mover, np.int8(world.background), turned)
        ys, xs = np.nonzero(turned == mover)
        drop = 0
        while ys.max() + drop + 1 < len(rest) and (rest[ys + drop + 1, xs] == world.background).all():
            drop += 1
        if not drop:
            raise Misfit("they touch already")
        out = rest.copy()
        if beam is not None:
            for step in range(drop + 1):
                out[ys + step, xs] = beam
        out[ys + (drop if beam is None else 0), xs] = mover
        return np.rot90(out, k) if k in (0, 2) else np.rot90(out, -k)

    return sample, apply


@rule("gravity_to_line")
def gravity_to_line(world: World) -> Drawn:
    """Dots on both sides of a line are drawn to it, and pile up there."""
    turned, line = world.chance(0.5), world.mark()

    def sample() -> np.ndarray:
        height, width = world.shape(5)
        grid = world.speckle((height, width), 0.15)
        grid[world.integer(2, height - 3)] = line
        return grid.T if turned else grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = (grid.T if turned else grid).copy()
        y = int(np.flatnonzero((out == line).all(1))[0])
        for half in (out[:y], out[y + 1 :][::-1]):
            order = np.argsort(half != world.background, axis=0, kind="stable")
            half[:] = np.take_along_axis(half, order, 0)
        return out.T if turned else out

    return sample, apply


@rule("shear")
def shear(world: World) -> Drawn:
    """Every row moves one step further than the one above it, around the side."""
    step, turned = world.choice((1, -1)), world.chance(0.5)

    def apply(grid: np.ndarray) -> np.ndarray:
        grid = grid.T if turned else grid
        y, x = np.indices(grid.shape)
        out = grid[y, (x - step * y) % grid.shape[1]]
        return out.T if turned else out

    return world.scene, apply


@rule("step_by_width", anywhere=True)
def step_by_width(world: World) -> Drawn:
    """Every object moves by its own width (or height)."""
    k = world.integer(0, 3)

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, k)
        out = np.full_like(turned, world.background)
        for o in components(turned, world.background):
            ys = o.ys + o.shape[0]
            if ys.max() >= len(out) or (out[ys, o.xs] != world.background).any():
                raise Misfit("no room to move")
            out[ys, o.xs] = o.color
        return np.rot90(out, -k)

    return lambda: world.objects(1, 2, lambda: world.blob(2, 3)), apply

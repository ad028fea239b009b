"""Rules about whole objects: their size, place and inside."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import around, components, enclosed, outside, unique_extreme
from arc_helpers.rules.world import Misfit, World


@rule("recolor_extreme", anywhere=True)
def recolor_extreme(world: World) -> Drawn:
    """The largest (or smallest) object takes a new colour."""
    largest, color = world.chance(0.6), world.mark()

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        best = unique_extreme([o.size for o in found], largest)
        out = grid.copy()
        out[found[best].cells] = color
        return out

    return lambda: world.objects(2, 5), apply


@rule("keep_extreme", anywhere=True)
def keep_extreme(world: World) -> Drawn:
    """Only the largest (or smallest) object stays."""
    largest = world.chance(0.6)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        best = unique_extreme([o.size for o in found], largest)
        out = np.full_like(grid, world.background)
        out[found[best].cells] = found[best].color
        return out

    return lambda: world.objects(2, 5), apply


@rule("fill_enclosed", anywhere=True)
def fill_enclosed(world: World) -> Drawn:
    """Closed areas are filled with a colour."""
    color = world.mark()
    return lambda: world.objects(1, 4, world.ring), lambda grid: np.where(
        enclosed(grid, world.background), np.int8(color), grid
    )


@rule("outline", anywhere=True)
def outline(world: World) -> Drawn:
    """All things get an outline, with or without corners."""
    color, corners = world.mark(), world.chance(0.6)
    return world.objects, lambda grid: np.where(around(grid != world.background, corners), np.int8(color), grid)


@rule("bounding_boxes", anywhere=True)
def bounding_boxes(world: World) -> Drawn:
    """The free cells of every object's bounding box are filled."""
    color = world.mark()

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background):
            view = out[o.box]
            view[view == world.background] = color
        return out

    return world.objects, apply


@rule("hollow", anywhere=True)
def hollow(world: World) -> Drawn:
    """The inside of solid boxes is emptied (or takes a colour)."""
    color = world.mark() if world.chance(0.5) else world.background

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = np.pad(grid != world.background, 1)
        inside = solid[1:-1, 1:-1].copy()
        for dy in (0, 1, 2):
            for dx in (0, 1, 2):
                inside &= solid[dy : dy + grid.shape[0], dx : dx + grid.shape[1]]
        return np.where(inside, np.int8(color), grid)

    return lambda: world.objects(1, 3, lambda: world.box(3, 6)), apply


@rule("denoise", anywhere=True)
def denoise(world: World) -> Drawn:
    """Single cells vanish, larger objects stay."""

    def sample() -> np.ndarray:
        grid = world.objects(1, 3, lambda: world.box(2, 5))
        world.place(grid, [np.ones((1, 1), bool)] * world.integer(2, 8))
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        near = np.pad(solid, 1)
        near = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
        if not (solid & near).any():
            raise Misfit("only noise")
        return np.where(solid & near, grid, np.int8(world.background))

    return sample, apply


@rule("frame_objects", anywhere=True)
def frame_objects(world: World) -> Drawn:
    """A frame is drawn around every object, one step outside its bounding box."""
    color = world.mark()

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        stamps = [world.blob(2, 3) for _ in range(world.integer(1, 3))]
        inner = grid[1:-1, 1:-1]
        if not world.place(inner, stamps, gap=3):
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background, by_color=False, corners=True):
            rows = slice(max(0, o.top - 1), o.bottom + 2)
            columns = slice(max(0, o.left - 1), o.right + 2)
            frame = np.zeros(grid.shape, bool)
            frame[rows, columns] = True
            frame[o.box] = False
            out[frame & (grid == world.background)] = color
        return out

    return sample, apply


@rule("mark_boxes")
def mark_boxes(world: World) -> Drawn:
    """Every box gets its corners, its middle or a checkerboard marked."""
    color, kind = world.mark(), world.choice(("corners", "middle", "checker"))

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background):
            view = out[o.box]
            if kind == "corners":
                view[[0, 0, -1, -1], [0, -1, 0, -1]] = color
            elif kind == "middle":
                view[len(view) // 2, view.shape[1] // 2] = color
            else:
                view[::2, 1::2] = view[1::2, ::2] = color
        return out

    def box() -> np.ndarray:
        return np.ones((world.choice((3, 5)), world.choice((3, 5))), bool)

    return lambda: world.objects(1, 4, box), apply


@rule("remove_touching", anywhere=True)
def remove_touching(world: World) -> Drawn:
    """Objects that touch the side of the grid vanish (or only they stay)."""
    vanish = world.chance(0.6)

    def apply(grid: np.ndarray) -> np.ndarray:
        height, width = grid.shape
        out = grid.copy()
        for o in components(grid, world.background):
            hit = o.top == 0 or o.left == 0 or o.bottom == height - 1 or o.right == width - 1
            if hit == vanish:
                out[o.cells] = world.background
        return out

    return lambda: world.objects(3, 6, lambda: world.blob(1, 3)), apply


@rule("keep_repeated", anywhere=True)
def keep_repeated(world: World) -> Drawn:
    """Only shapes that occur more than once stay (or only those that occur once)."""
    repeated = world.chance(0.6)

    def sample() -> np.ndarray:
        kinds = [world.blob(3, 3) for _ in range(3)]
        grid = world.blank(world.shape(6))
        world.place(grid, [kinds[0]] * world.integer(2, 3) + kinds[1:])
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        keys = [(o.shape, o.mask.tobytes()) for o in found]
        out = grid.copy()
        for o, key in zip(found, keys, strict=True):
            if (keys.count(key) > 1) != repeated:
                out[o.cells] = world.background
        return out

    return sample, apply


@rule("remove_inside")
def remove_inside(world: World) -> Drawn:
    """Dots inside frames vanish, or those outside do."""
    inside_goes, dot = world.chance(0.5), world.mark()

    def sample() -> np.ndarray:
        grid = world.objects(1, 2, lambda: world.ring(4, 6))
        free = np.argwhere(grid == world.background).tolist()
        for y, x in world.random.sample(free, max(2, len(free) // 5)):
            grid[y, x] = dot
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        open_cells = outside((grid == world.background) | (grid == dot))
        gone = (grid == dot) & (open_cells != inside_goes)
        return np.where(gone, np.int8(world.background), grid)

    return sample, apply


@rule("largest_void")
def largest_void(world: World) -> Drawn:
    """The largest free square takes a colour."""
    color = world.mark()
    world.narrow(1)

    def sample() -> np.ndarray:
        grid = world.speckle(world.shape(6), 0.4)
        n = world.integer(3, max(3, min(grid.shape) // 2))
        y, x = world.integer(0, grid.shape[0] - n), world.integer(0, grid.shape[1] - n)
        grid[y : y + n, x : x + n] = world.background
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        free = grid == world.background  # free[y, x]: a free square of side n starts there
        last, side = free, 1
        while free.any():
            last = free
            free = free[:-1, :-1] & free[1:, :-1] & free[:-1, 1:] & free[1:, 1:]
            side += 1
            if not free.size:
                break
        corners = np.argwhere(last)
        side -= 1 if not free.any() else 0
        if len(corners) != 1 or side < 2:
            raise Misfit("no single largest square")
        y, x = corners[0].tolist()
        out = grid.copy()
        out[y : y + side, x : x + side] = color
        return out

    return sample, apply

"""Rules that colour objects by a trait: size, shape, holes, place, a key."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import Object, components, enclosed, holes
from arc_helpers.rules.world import Misfit, World

DOT = np.ones((1, 1), bool)


def repaint(grid: np.ndarray, found: list[Object], colors: list[int]) -> np.ndarray:
    """The grid with every object in its new colour."""
    out = grid.copy()
    for o, color in zip(found, colors, strict=True):
        out[o.cells] = color
    return out


def placed(world: World, stamps: list[np.ndarray], colors: list[int] | None = None, least: int = 2) -> np.ndarray:
    """A grid with (at least some of) the stamps on it."""
    grid = world.blank(world.shape(6))
    if world.place(grid, stamps, colors) < least:
        raise Misfit("no room")
    return grid


@rule("color_by_size")
def color_by_size(world: World) -> Drawn:
    """Every object takes the colour that belongs to its number of cells."""
    world.narrow(1)
    table = {n: world.mark() for n in world.random.sample(range(1, 6), world.integer(2, 3))}

    def sample() -> np.ndarray:
        stamps = []
        for _ in range(world.integer(3, 6)):
            n = world.choice(sorted(table))
            stamp = world.blob(n, 3)
            while stamp.sum() != n:
                stamp = world.blob(n, 3)
            stamps.append(stamp)
        return placed(world, stamps)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        if any(o.size not in table for o in found):
            raise Misfit("a size without a colour")
        return repaint(grid, found, [table[o.size] for o in found])

    return sample, apply


@rule("color_by_shape")
def color_by_shape(world: World) -> Drawn:
    """Every object takes the colour that belongs to its shape."""
    world.narrow(1)
    kinds = {}
    while len(kinds) < 3:
        mask = world.blob(3, 3)
        kinds.setdefault((mask.shape, mask.tobytes()), (mask, world.mark()))

    def sample() -> np.ndarray:
        masks = [mask for mask, _ in kinds.values()]
        return placed(world, [world.choice(masks) for _ in range(world.integer(2, 5))])

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        return repaint(grid, found, [kinds[o.shape, o.mask.tobytes()][1] for o in found])

    return sample, apply


@rule("color_by_holes", anywhere=True)
def color_by_holes(world: World) -> Drawn:
    """Every object takes the colour that belongs to its number of holes."""
    colors = [world.mark() for _ in range(3)]
    world.narrow(1)

    def pretzel() -> np.ndarray:
        mask = np.ones((3, 5), bool)
        mask[1, [1, 3]] = False
        return mask if world.chance(0.5) else mask.T

    def sample() -> np.ndarray:
        kinds = (lambda: world.ring(3, 4), lambda: world.blob(2, 3), pretzel)
        return placed(world, [world.choice(kinds)() for _ in range(world.integer(2, 4))])

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        counts = [holes(o.mask) for o in found]
        if not counts or max(counts) > 2 or not any(counts):
            raise Misfit("no holes, or too many")
        return repaint(grid, found, [colors[n] for n in counts])

    return sample, apply


@rule("color_by_rank", anywhere=True)
def color_by_rank(world: World) -> Drawn:
    """Objects take colours by the rank of their size."""
    colors = [world.mark() for _ in range(3)]
    world.narrow(1)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = sorted(components(grid, world.background), key=lambda o: -o.size)
        if not 2 <= len(found) <= 3 or len({o.size for o in found}) < len(found):
            raise Misfit("no clear ranks")
        return repaint(grid, found, colors[: len(found)])

    return lambda: world.objects(3, 3, lambda: world.blob(1, 4)), apply


@rule("color_by_contact", anywhere=True)
def color_by_contact(world: World) -> Drawn:
    """Objects that touch the side of the grid take a new colour (or those that do not)."""
    color, touching = world.mark(), world.chance(0.6)

    def apply(grid: np.ndarray) -> np.ndarray:
        height, width = grid.shape
        found = components(grid, world.background)
        hit = [o.top == 0 or o.left == 0 or o.bottom == height - 1 or o.right == width - 1 for o in found]
        if all(hit) or not any(hit):
            raise Misfit("all objects are alike")
        return repaint(grid, found, [color if h == touching else o.color for h, o in zip(hit, found, strict=True)])

    return lambda: world.objects(3, 6, lambda: world.blob(1, 3)), apply


@rule("color_by_orientation")
def color_by_orientation(world: World) -> Drawn:
    """Tall objects take one colour, wide ones another, square ones stay."""
    tall, wide = world.mark(), world.mark()
    world.narrow(1)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        kinds = [np.sign(o.shape[0] - o.shape[1]) for o in found]
        return repaint(grid, found, [(o.color, tall, wide)[k] for k, o in zip(kinds, found, strict=True)])

    return lambda: world.objects(2, 5, lambda: world.box(1, 4)), apply


@rule("color_by_copies", anywhere=True)
def color_by_copies(world: World) -> Drawn:
    """Shapes that occur more than once take a new colour (or those that occur once)."""
    color, repeated = world.mark(), world.chance(0.6)
    world.narrow(2)

    def sample() -> np.ndarray:
        kinds = [world.blob(3, 3) for _ in range(3)]
        return placed(world, [kinds[0]] * world.integer(2, 3) + kinds[1:], least=3)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        keys = [(o.shape, o.mask.tobytes()) for o in found]
        many = [keys.count(k) > 1 for k in keys]
        if all(many) or not any(many):
            raise Misfit("all objects are alike")
        return repaint(grid, found, [color if m == repeated else o.color for m, o in zip(many, found, strict=True)])

    return sample, apply


@rule("color_by_half", anywhere=True)
def color_by_half(world: World) -> Drawn:
    """Coloured cells of the left (upper) half take one colour, those of the other half another."""
    first, second, axis = world.mark(), world.mark(), world.integer(0, 1)
    world.narrow(2)

    def apply(grid: np.ndarray) -> np.ndarray:
        place = np.arange(grid.shape[axis]) * 2 + 1 - grid.shape[axis]
        line = np.where(place < 0, first, second).astype(np.int8)
        line = line[:, None] if axis == 0 else line[None]
        middle = (place == 0)[:, None] if axis == 0 else (place == 0)[None]
        return np.where((grid == world.background) | middle, grid, line)

    return world.scene, apply


@rule("color_from_seed")
def color_from_seed(world: World) -> Drawn:
    """Every object takes the colour of its one odd cell."""
    body = world.mark()
    world.widen(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        for _ in range(world.integer(1, 4)):
            sprite = np.where(world.blob(4, 4), np.int8(body), np.int8(world.background))
            cells = np.argwhere(sprite == body)
            sprite[tuple(cells[world.integer(0, len(cells) - 1)])] = world.color()
            world.place(grid, [sprite])
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background, by_color=False):
            colors = grid[o.cells]
            seeds = colors[colors != body]
            if len(seeds) != 1:
                raise Misfit("no single seed")
            out[o.cells] = seeds[0]
        return out

    return sample, apply


@rule("color_from_corner")
def color_from_corner(world: World) -> Drawn:
    """All objects take the colour of the key in the corner."""
    body, corner = world.mark(), world.choice(((0, 0), (0, -1), (-1, 0), (-1, -1)))
    world.widen(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        grid[corner] = world.color()
        stamps = [world.blob(2, 3) for _ in range(world.integer(1, 4))]
        if not world.place(grid, stamps, [body] * len(stamps)):
            raise Misfit("no room")
        return grid

    return sample, lambda grid: np.where(grid == body, grid[corner], grid)


@rule("color_by_legend")
def color_by_legend(world: World) -> Drawn:
    """A legend in the corner says which colour becomes which below."""
    world.widen(5)
    keep = world.chance(0.5)

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        n = world.integer(1, 2)
        colors = world.colors(2 * n)
        grid = world.blank((height, width))
        body = world.blank((height - 3, width))
        stamps = [world.blob(2, 3) for _ in range(2 * n + 1)]
        if world.place(body, stamps, (colors[:n] * 3)[: len(stamps)]) < n:
            raise Misfit("no room")
        grid[3:] = body
        grid[0, :n], grid[1, :n] = colors[:n], colors[n:]
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        table = np.arange(10, dtype=np.int8)
        table[grid[0]] = grid[1]
        out = grid.copy()
        out[3:] = table[grid[3:]]
        return out if keep else out[3:]

    return sample, apply


@rule("exchange_colors")
def exchange_colors(world: World) -> Drawn:
    """The two objects exchange their colours."""
    world.widen(3)

    def sample() -> np.ndarray:
        return placed(world, [world.blob(2, 4), world.blob(2, 4)], world.colors(2))

    def apply(grid: np.ndarray) -> np.ndarray:
        a, b = components(grid, world.background)
        return repaint(grid, [a, b], [b.color, a.color])

    return sample, apply


@rule("swap_core")
def swap_core(world: World) -> Drawn:
    """In every framed box, frame and core exchange their colours."""
    world.widen(3)

    def sample() -> np.ndarray:
        boxes = []
        for _ in range(world.integer(1, 3)):
            frame, core = world.colors(2)
            box = np.full((world.integer(3, 5), world.integer(3, 5)), frame, np.int8)
            box[1:-1, 1:-1] = core
            boxes.append(box)
        return placed(world, boxes, least=1)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background, by_color=False):
            view = out[o.box]
            frame, core = view[0, 0], view[1, 1]
            view[:] = core
            view[1:-1, 1:-1] = frame
        return out

    return sample, apply


@rule("fill_with_seed")
def fill_with_seed(world: World) -> Drawn:
    """Frames are filled with the colour of the dot inside; frames without one stay empty."""
    world.widen(2)
    frame = world.mark()

    def sample() -> np.ndarray:
        boxes = []
        for _ in range(world.integer(1, 4)):
            box = np.full((world.integer(4, 6), world.integer(4, 6)), frame, np.int8)
            box[1:-1, 1:-1] = world.background
            if world.chance(0.75):
                box[world.integer(1, len(box) - 2), world.integer(1, box.shape[1] - 2)] = world.color()
            boxes.append(box)
        return placed(world, boxes, least=1)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background):
            if o.color == frame:
                view = out[o.box][1:-1, 1:-1]
                seeds = view[view != world.background]
                if len(seeds):
                    view[:] = seeds[0]
        return out

    return sample, apply


@rule("fill_by_area")
def fill_by_area(world: World) -> Drawn:
    """Closed areas are filled with the colour that belongs to their size: single cells, or larger."""
    small, large = world.mark(), world.mark()
    world.narrow(2)

    def sample() -> np.ndarray:
        rings = [world.ring(3, 3) if world.chance(0.5) else world.ring(3, 5) for _ in range(5)]
        return placed(world, rings, least=1)

    def apply(grid: np.ndarray) -> np.ndarray:
        inside = enclosed(grid, world.background)
        found = components(inside.astype(np.int8), 0)
        return repaint(grid, found, [small if o.size == 1 else large for o in found])

    return sample, apply

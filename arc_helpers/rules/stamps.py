"""Rules that copy pictures: templates on dots, clones, mirror images, repetitions."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import bounds, components, content
from arc_helpers.rules.world import Misfit, World

DOT = np.ones((1, 1), bool)


def paste(grid: np.ndarray, sprite: np.ndarray, y: int, x: int, background: int) -> None:
    """Paint a sprite with its corner at (y, x) on free cells, clipped at the sides."""
    h, w = sprite.shape
    top, left = max(0, y), max(0, x)
    view = grid[top : max(0, y + h), left : max(0, x + w)]
    part = sprite[top - y : top - y + view.shape[0], left - x : left - x + view.shape[1]]
    free = (view == background) & (part != background)
    view[free] = part[free]


def template(world: World, colors: list[int]) -> np.ndarray:
    """A 3 × 3 picture around a free centre, in new colours; symmetric more often than not."""
    rings = {"plus": "010101010", "x": "101000101", "ring": "111101111", "bar": "000101000", "post": "010000010"}
    known = world.chance(0.7)
    bits = rings[world.choice(sorted(rings))] if known else [world.choice("01") for _ in range(9)]
    out = np.full((3, 3), world.background, np.int8)
    for i, bit in enumerate(bits):
        if bit == "1" and i != 4:
            out.flat[i] = colors[(i % 2) % len(colors)]
    if (out == world.background).all():
        out[0] = colors[0]
    return out


def _stamped(world: World, templates: dict[int, np.ndarray]) -> Drawn:
    """Dots of the given colours, each to be surrounded by its template."""

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        n = world.integer(len(templates), 4)
        dots = (list(templates) * n)[:n]
        if world.place(grid, [DOT] * n, dots, gap=2) < len(templates):
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for y, x in np.argwhere(grid != world.background).tolist():
            paste(out, templates[int(grid[y, x])], y - 1, x - 1, world.background)
        return out

    return sample, apply


@rule("stamp_dots")
def stamp_dots(world: World) -> Drawn:
    """Every dot is surrounded by the same little picture."""
    colors = [world.mark() for _ in range(world.integer(1, 2))]
    return _stamped(world, {world.color(): template(world, colors)})


@rule("stamp_by_color")
def stamp_by_color(world: World) -> Drawn:
    """Every dot is surrounded by the picture that belongs to its colour."""
    return _stamped(world, {dot: template(world, [world.mark()]) for dot in world.colors(2)})


@rule("clone_at_anchors")
def clone_at_anchors(world: World) -> Drawn:
    """One picture is whole; elsewhere only its anchor is seen, around which it is completed."""
    anchor = world.mark()
    world.widen(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(7))
        sprite = world.sprite(3, 3, 0.6)
        sprite[1, 1] = anchor
        n = world.integer(1, 3)
        room = [np.ones((3, 3), bool)] * n
        marks = world.blank(grid.shape)
        if not world.place(grid, [sprite]) or (sprite == world.background).sum() > 6:
            raise Misfit("no room")
        marks[grid != world.background] = 9
        marks[content(grid, world.background)] = 9 if world.background != 9 else 8
        whole = marks.copy()
        if not world.place(marks, room, [anchor] * n):
            raise Misfit("no room")
        for o in components(np.where(whole == marks, 0, 1), 0):
            grid[o.top + 1, o.left + 1] = anchor
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        found = components(grid, world.background, by_color=False, corners=True)
        found.sort(key=lambda o: -o.size)
        sprite = grid[found[0].box]
        center = np.argwhere(sprite == anchor)
        if len(center) != 1 or any(o.size != 1 for o in found[1:]):
            raise Misfit("no clear anchor")
        dy, dx = center[0].tolist()
        for o in found[1:]:
            paste(out, sprite, o.top - dy, o.left - dx, world.background)
        return out

    return sample, apply


@rule("flip_objects", anywhere=True)
def flip_objects(world: World) -> Drawn:
    """Every object is mirrored inside its own bounding box."""
    axis = world.integer(0, 1)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background, by_color=False, corners=True):
            out[o.box] = np.flip(grid[o.box], axis)
        return out

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        if not world.place(grid, [world.sprite(2, 4) for _ in range(world.integer(1, 4))], gap=2):
            raise Misfit("no room")
        return grid

    return sample, apply


@rule("double_object")
def double_object(world: World) -> Drawn:
    """The object's mirror image (or a copy) is put against its side."""
    k, mirrored = world.integer(0, 3), world.chance(0.7)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        sprite = world.sprite(2, 3)
        room = np.full((sprite.shape[0] * 2, sprite.shape[1]), sprite[0, 0], np.int8)
        height, width = grid.shape
        y, x = world.integer(0, height - len(room)), world.integer(0, width - room.shape[1])
        grid[y : y + len(sprite), x : x + sprite.shape[1]] = sprite
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        rows, columns = content(out, world.background)
        sprite = out[rows, columns]
        paste(out, sprite[::-1] if mirrored else sprite, rows.stop, columns.start, world.background)
        return np.rot90(out, k)

    return sample, apply


@rule("enlarge_object", anywhere=True)
def enlarge_object(world: World) -> Drawn:
    """The content is cut out and every cell becomes a k × k block."""
    k = world.choice((2, 2, 3))

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        if not world.place(grid, [world.sprite(2, 4)]):
            raise Misfit("no room")
        return grid

    return sample, lambda grid: grid[content(grid, world.background)].repeat(k, 0).repeat(k, 1)


@rule("repeat_object")
def repeat_object(world: World) -> Drawn:
    """The object is repeated in one direction up to the side."""
    k, gap, slope = world.integer(0, 3), world.integer(0, 1), world.choice((0, 0, 1))

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        sprite = world.sprite(2, 3)
        y = world.integer(0, max(0, min(2, len(grid) - 2 * len(sprite))))
        x = world.integer(0, grid.shape[1] - sprite.shape[1])
        grid[y : y + len(sprite), x : x + sprite.shape[1]] = sprite
        return np.rot90(grid, k)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.rot90(grid, -k).copy()
        rows, columns = content(out, world.background)
        sprite = out[rows, columns].copy()
        dy, dx = len(sprite) + gap, slope * (sprite.shape[1] + gap)
        y, x = rows.start + dy, columns.start + dx
        while y < len(out):
            paste(out, sprite, y, x, world.background)
            y, x = y + dy, x + dx
        return np.rot90(out, k)

    return sample, apply


@rule("mirror_over_line")
def mirror_over_line(world: World) -> Drawn:
    """What lies on one side of the line is mirrored to the other side."""
    line, turned, erase = world.mark(), world.chance(0.5), world.chance(0.3)

    def sample() -> np.ndarray:
        height, width = world.shape(5)
        width -= (width + 1) % 2
        grid = world.blank((height, width))
        half = width // 2
        if not world.place(grid[:, :half], [world.sprite(1, 3), world.sprite(1, 2)]):
            raise Misfit("no room")
        grid[:, half] = line
        if world.chance(0.5):
            grid = grid[:, ::-1]
        return grid.T if turned else grid

    def apply(grid: np.ndarray) -> np.ndarray:
        grid = grid.T if turned else grid
        image = grid[:, ::-1]
        out = image if erase else np.where(grid == world.background, image, grid)
        return out.T if turned else out

    return sample, apply


@rule("throw_corners")
def throw_corners(world: World) -> Drawn:
    """A little square of colours throws each of its corners outwards, as rays."""
    world.widen(3)

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        grid = world.blank((height, width))
        y, x = world.integer(1, height - 3), world.integer(1, width - 3)
        grid[y : y + 2, x : x + 2] = [[world.color(), world.color()], [world.color(), world.color()]]
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        height, width = grid.shape
        rows, columns = bounds(grid != world.background)
        y, x = rows.start, columns.start
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            v, u, dy, dx = y + i, x + j, 2 * i - 1, 2 * j - 1
            while 0 <= v < height and 0 <= u < width:
                out[v, u] = grid[y + i, x + j]
                v, u = v + dy, u + dx
        return out

    return sample, apply


@rule("opposite_blocks")
def opposite_blocks(world: World) -> Drawn:
    """A little square of four colours casts each of them as a block beyond the opposite corner."""
    world.widen(4)
    size, opposite = world.integer(1, 2), world.chance(0.7)

    def sample() -> np.ndarray:
        height, width = world.shape(6)
        grid = world.blank((height, width))
        y, x = world.integer(1, height - 3), world.integer(1, width - 3)
        grid[y : y + 2, x : x + 2] = np.reshape(world.colors(4), (2, 2))
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        rows, columns = content(grid, world.background)
        y, x = rows.start, columns.start
        for i in (0, 1):
            for j in (0, 1):
                color = grid[y + 1 - i, x + 1 - j] if opposite else grid[y + i, x + j]
                block = np.full((size, size), color, np.int8)
                v = y - size if i == 0 else y + 2
                u = x - size if j == 0 else x + 2
                paste(out, block, v, u, world.background)
        return out

    return sample, apply

"""Rules whose output is a piece of the input."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import Object, bounds, components, content, holes, unique_extreme
from arc_helpers.rules.world import Misfit, World


def picture(world: World, one: Object) -> np.ndarray:
    """An object alone, on background."""
    return np.where(one.mask, np.int8(one.color), np.int8(world.background))


@rule("crop_extreme", anywhere=True)
def crop_extreme(world: World) -> Drawn:
    """The output is the largest (or smallest) object alone, cropped."""
    largest = world.chance(0.6)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        return picture(world, found[unique_extreme([o.size for o in found], largest)])

    return lambda: world.objects(2, 5, lambda: world.blob(2, 5)), apply


@rule("crop_content", anywhere=True)
def crop_content(world: World) -> Drawn:
    """The grid is cropped to all that is not background."""

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        if not world.place(grid, [world.sprite(2, 4)]):
            raise Misfit("no room")
        return grid

    return sample, lambda grid: grid[content(grid, world.background)]


@rule("crop_color", anywhere=True)
def crop_color(world: World) -> Drawn:
    """The grid is cropped to the bounding box of one colour."""
    world.narrow(4)
    color = world.colors(2)[0]

    def sample() -> np.ndarray:
        grid = world.objects(2, 5)
        color in grid or world.place(grid, [world.blob()], [color])
        return grid

    return sample, lambda grid: grid[bounds(grid == color)]


@rule("crop_inside")
def crop_inside(world: World) -> Drawn:
    """The output is what lies inside the frame (with or without the frame)."""
    frame, keep = world.mark(), world.chance(0.3)

    def sample() -> np.ndarray:
        shape = world.shape(6)
        grid = world.speckle(shape)
        h, w = world.integer(4, min(shape[0], 7)), world.integer(4, min(shape[1], 7))
        y, x = world.integer(0, shape[0] - h), world.integer(0, shape[1] - w)
        view = grid[y : y + h, x : x + w]
        view[0] = view[-1] = frame
        view[:, 0] = view[:, -1] = frame
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid[bounds(grid == frame)]
        return out if keep else out[1:-1, 1:-1]

    return sample, apply


@rule("crop_odd_shape")
def crop_odd_shape(world: World) -> Drawn:
    """The output is the object whose shape differs from all the others."""

    def sample() -> np.ndarray:
        usual, odd = world.blob(2, 3), world.blob(2, 3)
        n = world.integer(2, 4)
        grid = world.blank(world.shape(6))
        if world.place(grid, [odd] + [usual] * n) < 3:
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        keys = [(o.shape, o.mask.tobytes()) for o in found]
        return picture(world, found[unique_extreme([keys.count(k) for k in keys], largest=False)])

    return sample, apply


@rule("crop_odd_color")
def crop_odd_color(world: World) -> Drawn:
    """The output is the object whose colour no other has."""
    world.widen(2)

    def sample() -> np.ndarray:
        usual, odd = world.colors(2)
        n = world.integer(2, 4)
        grid = world.blank(world.shape(6))
        if world.place(grid, [world.blob() for _ in range(n + 1)], [odd] + [usual] * n) < 3:
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        colors = [o.color for o in found]
        return picture(world, found[unique_extreme([colors.count(c) for c in colors], largest=False)])

    return sample, apply


@rule("crop_most_common")
def crop_most_common(world: World) -> Drawn:
    """The output is the shape that occurs most often."""
    world.narrow(1)

    def sample() -> np.ndarray:
        kinds = [world.blob(2, 3) for _ in range(world.integer(2, 3))]
        n = world.integer(2, 3)
        grid = world.blank(world.shape(7))
        world.place(grid, [kinds[0]] * n + [k for k in kinds[1:] for _ in range(world.integer(1, n - 1))])
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        keys = [(o.shape, o.mask.tobytes()) for o in found]
        kinds = list(dict.fromkeys(keys))
        best = kinds[unique_extreme([keys.count(k) for k in kinds], True)]
        return picture(world, found[keys.index(best)])

    return sample, apply


@rule("crop_symmetric")
def crop_symmetric(world: World) -> Drawn:
    """The output is the only object that is its own mirror image, left to right."""

    def sample() -> np.ndarray:
        n = world.integer(1, 3)
        stamps = [world.blob(4, 4) for _ in range(n)]
        half = world.blob(2, 3)
        whole = np.hstack((half, half[:, ::-1]))
        grid = world.blank(world.shape(7))
        if world.place(grid, [whole, *stamps]) < 2:
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        same = [int((o.mask == o.mask[:, ::-1]).all()) for o in found]
        return picture(world, found[unique_extreme(same, True)])

    return sample, apply


@rule("crop_most_holes")
def crop_most_holes(world: World) -> Drawn:
    """The output is the only object with a hole (or the only one without)."""
    hollow = world.chance(0.6)

    def sample() -> np.ndarray:
        n = world.integer(1, 3)
        rings = [world.ring(3, 4) for _ in range(1 if hollow else n)]
        solids = [world.blob(3, 3) for _ in range(n if hollow else 1)]
        grid = world.blank(world.shape(7))
        if world.place(grid, rings + solids) < 2:
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        counts = [min(1, holes(o.mask)) for o in found]
        return picture(world, found[unique_extreme(counts, hollow)])

    return sample, apply


@rule("crop_in_key_color")
def crop_in_key_color(world: World) -> Drawn:
    """The large object is cropped, in the colour of the single dot."""
    body = world.mark()
    world.widen(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(6))
        if world.place(grid, [world.blob(4, 5), np.ones((1, 1), bool)], [body, world.color()]) < 2:
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        keys = grid[(grid != world.background) & (grid != body)]
        if len(keys) != 1:
            raise Misfit("no single key")
        piece = grid[bounds(grid == body)]
        return np.where(piece == body, keys[0], np.int8(world.background))

    return sample, apply


@rule("list_objects")
def list_objects(world: World) -> Drawn:
    """Equal-sized pictures are cut out and put in one line, from left to right (or top to bottom)."""
    side = 3 if world.max_side >= 9 else 2
    across, upright = world.chance(0.5), world.chance(0.5)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(min(world.max_side, 2 * side + 2), world.max_side))
        n = world.integer(2, world.max_side // side)
        if world.place(grid, [world.sprite(side, side) for _ in range(n)]) < 2:
            raise Misfit("no room")
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background, by_color=False, corners=True)
        if any(o.shape != (side, side) for o in found):
            raise Misfit("objects of other sizes")
        starts = [o.left if across else o.top for o in found]
        if len(set(starts)) < len(starts):
            raise Misfit("no clear order")
        found.sort(key=lambda o: o.left if across else o.top)
        return np.concatenate([grid[o.box] for o in found], 0 if upright else 1)

    return sample, apply

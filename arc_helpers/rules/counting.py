"""Rules that count: objects, cells, colours, heights."""

from collections.abc import Callable

import numpy as np

from arc_helpers.rules.colors import counts
from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import components, unique_extreme
from arc_helpers.rules.world import Misfit, World


def _bar(world: World, most: int) -> Callable[[int], np.ndarray]:
    """A function from a number to its picture: a row, column or diagonal of `most` cells, n coloured."""
    kind = world.choice(("row", "row", "column", "diagonal"))
    color = np.int8(world.mark())

    def draw(n: int) -> np.ndarray:
        if not 0 < n <= most:
            raise Misfit("too many to draw")
        cells = np.where(np.arange(most) < n, color, np.int8(world.background))
        if kind == "diagonal":
            return np.where(np.eye(most, dtype=bool), cells, np.int8(world.background))
        return cells[None] if kind == "row" else cells[:, None]

    return draw


@rule("count_objects")
def count_objects(world: World) -> Drawn:
    """The number of objects is drawn as a bar."""
    most = world.integer(4, 6)
    draw = _bar(world, most)
    world.narrow(world.integer(1, 3))
    return lambda: world.objects(1, most, lambda: world.box(1, 3)), lambda grid: draw(
        len(components(grid, world.background))
    )


@rule("count_color")
def count_color(world: World) -> Drawn:
    """The number of cells (as single dots) of one colour is drawn as a bar."""
    most = world.integer(4, 6)
    draw = _bar(world, most)
    a, b = world.colors(2)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(4))
        n, m = world.integer(1, most), world.integer(0, 5)
        world.place(grid, [np.ones((1, 1), bool)] * (n + m), [a] * n + [b] * m, gap=0)
        return grid

    return sample, lambda grid: draw(int((grid == a).sum()))


@rule("majority_cell")
def majority_cell(world: World) -> Drawn:
    """The output is one cell of the most (or least) frequent colour."""
    most = world.chance(0.7)
    world.widen(3)

    def apply(grid: np.ndarray) -> np.ndarray:
        n = counts(grid, world.background)
        present = np.flatnonzero(n)
        return np.array([[present[unique_extreme(n[present].tolist(), most)]]], np.int8)

    return lambda: world.speckle(None, 0.6), apply


@rule("majority_fill")
def majority_fill(world: World) -> Drawn:
    """The whole grid takes its most frequent colour."""
    world.widen(3)

    def sample() -> np.ndarray:
        pool = np.array(world.pool, np.int8)
        return pool[world.rng.integers(0, len(pool), world.shape(3, 6))]

    def apply(grid: np.ndarray) -> np.ndarray:
        n = np.bincount(grid.ravel(), minlength=10).tolist()
        return np.full_like(grid, unique_extreme(n, True))

    return sample, apply


@rule("rank_colors")
def rank_colors(world: World) -> Drawn:
    """The colours are listed by how often they occur."""
    upright, falling = world.chance(0.6), world.chance(0.7)
    world.widen(4)

    def apply(grid: np.ndarray) -> np.ndarray:
        n = counts(grid, world.background)
        present = np.flatnonzero(n)
        if len(present) < 2 or len(set(n[present].tolist())) < len(present):
            raise Misfit("a tie")
        order = present[np.argsort(-n[present] if falling else n[present])].astype(np.int8)
        return order[:, None] if upright else order[None]

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(5))
        k = world.integer(2, 4)
        colors = world.colors(k)
        for color, n in zip(colors, world.random.sample(range(1, 8), k), strict=True):
            world.place(grid, [np.ones((1, 1), bool)] * n, [color] * n, gap=0)
        return grid

    return sample, apply


@rule("histogram")
def histogram(world: World) -> Drawn:
    """Each colour becomes a bar as long as its number of cells, sorted by length."""
    k = world.integer(0, 3)
    world.widen(4)

    def sample() -> np.ndarray:
        grid = world.blank(world.shape(4))
        n = world.integer(2, 4)
        for color, m in zip(world.colors(n), world.random.sample(range(1, 7), n), strict=True):
            world.place(grid, [np.ones((1, 1), bool)] * m, [color] * m, gap=0)
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        n = counts(grid, world.background)
        present = np.flatnonzero(n)
        if len(present) < 2 or len(set(n[present].tolist())) < len(present):
            raise Misfit("a tie")
        order = present[np.argsort(-n[present])]
        lengths = np.arange(n.max())[None] < n[order][:, None]
        return np.rot90(np.where(lengths, order[:, None], world.background).astype(np.int8), k)

    return sample, apply


@rule("upscale_by_colors")
def upscale_by_colors(world: World) -> Drawn:
    """The grid is enlarged as many times as it has colours."""
    world.widen(3)
    side = world.integer(2, 3)
    most = min(4, world.max_side // side)
    if most < 2:
        raise Misfit("no room to grow")

    def sample() -> np.ndarray:
        palette = np.array(world.colors(world.integer(2, min(most, len(world.pool)))), np.int8)
        return palette[world.rng.integers(0, len(palette), (side, side))]

    def apply(grid: np.ndarray) -> np.ndarray:
        k = len(set(grid.ravel().tolist()))
        return grid.repeat(k, 0).repeat(k, 1)

    return sample, apply


@rule("list_sizes")
def list_sizes(world: World) -> Drawn:
    """Every object becomes a bar of its size and colour; the bars are sorted."""
    falling = world.chance(0.7)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        sizes = [o.size for o in found]
        if len(found) < 2 or len(set(sizes)) < len(sizes) or max(sizes) > world.max_side:
            raise Misfit("sizes are equal or too large")
        out = np.full((len(found), max(sizes)), world.background, np.int8)
        for row, o in zip(out, sorted(found, key=lambda o: -o.size if falling else o.size), strict=True):
            row[: o.size] = o.color
        return out

    return lambda: world.objects(2, 4, lambda: world.blob(1, 3)), apply


@rule("most_objects")
def most_objects(world: World) -> Drawn:
    """The output is one cell of the colour that the most objects have."""
    world.widen(3)

    def apply(grid: np.ndarray) -> np.ndarray:
        n = np.bincount([o.color for o in components(grid, world.background)], minlength=10).tolist()
        return np.array([[unique_extreme(n, True)]], np.int8)

    return lambda: world.objects(3, 7, lambda: world.box(1, 3)), apply


def bars(world: World, least: int = 3) -> np.ndarray:
    """Bars of distinct heights that stand on the ground."""
    height, width = world.shape(5)
    grid = world.blank((height, width))
    columns = world.choice((range(width), range(0, width, 2), range(1, width, 2)))
    heights = world.random.sample(range(1, height + 1), min(len(columns), height))
    if len(heights) < least:
        raise Misfit("too few bars")
    for x, n in zip(columns, heights, strict=False):
        grid[height - n :, x] = world.color()
    return grid


@rule("sort_bars")
def sort_bars(world: World) -> Drawn:
    """Bars are sorted by height."""
    rising, k = world.chance(0.5), world.choice((0, 0, 1, 2, 3))

    def apply(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(grid, -k)
        n = (turned != world.background).sum(0)
        places = np.flatnonzero(n)
        out = turned.copy()
        out[:, places] = turned[:, places[np.argsort(n[places] if rising else -n[places], kind="stable")]]
        return np.rot90(out, k)

    return lambda: np.rot90(bars(world), k), apply


@rule("rank_bars")
def rank_bars(world: World) -> Drawn:
    """Bars take colours by the rank of their height; those below the last rank stay."""
    ranks = [world.mark() for _ in range(world.integer(2, 3))]
    falling = world.chance(0.6)
    world.narrow(1)

    def apply(grid: np.ndarray) -> np.ndarray:
        n = (grid != world.background).sum(0)
        places = np.flatnonzero(n)
        out = grid.copy()
        for color, x in zip(ranks, places[np.argsort(-n[places] if falling else n[places])], strict=False):
            out[:, x][grid[:, x] != world.background] = color
        return out

    return lambda: bars(world, len(ranks)), apply

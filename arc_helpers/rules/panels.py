"""Rules about panels: a grid cut into equal parts, most often by separator lines."""

from collections.abc import Callable

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.shapes import unique_extreme
from arc_helpers.rules.world import Misfit, World


class Lattice:
    """A task's layout: rows × columns of panels, with a separator colour or none."""

    def __init__(self, world: World, rows: int, columns: int, bar: int | None) -> None:
        self.world, self.rows, self.columns, self.bar = world, rows, columns, bar
        self.gap = 0 if bar is None else 1
        self.most = (
            (world.max_side + self.gap) // rows - self.gap,
            (world.max_side + self.gap) // columns - self.gap,
        )
        if min(self.most) < 1 or max(self.most) < 2:
            raise Misfit("panels would be too small")

    def shape(self, most: int = 5) -> tuple[int, int]:
        """A panel's height and width, drawn anew for each pair of a task."""
        height, width = self.most
        if self.world.fixed:
            height, width = min(height, 3), min(width, 3)
            return height, width
        low = self.world.integer
        return low(min(2, height), min(most, height)), low(min(2, width), min(most, width))

    def join(self, panels: list[np.ndarray]) -> np.ndarray:
        """One grid of the panels in reading order."""
        h, w = panels[0].shape
        dy, dx = h + self.gap, w + self.gap
        out = np.full(
            (self.rows * dy - self.gap, self.columns * dx - self.gap),
            self.world.background if self.bar is None else self.bar,
            np.int8,
        )
        for i, panel in enumerate(panels):
            y, x = i // self.columns * dy, i % self.columns * dx
            out[y : y + h, x : x + w] = panel
        return out

    def split(self, grid: np.ndarray) -> list[np.ndarray]:
        """The panels of a grid in reading order."""
        dy, dx = (grid.shape[0] + self.gap) // self.rows, (grid.shape[1] + self.gap) // self.columns
        h, w = dy - self.gap, dx - self.gap
        return [grid[y * dy : y * dy + h, x * dx : x * dx + w] for y in range(self.rows) for x in range(self.columns)]


def line_of(world: World, count: int, bar: float = 0.7) -> Lattice:
    """A lattice of `count` panels in a row or a column, a separator between them with chance `bar`."""
    color = world.mark() if world.chance(bar) else None
    rows, columns = (1, count) if world.chance(0.5) else (count, 1)
    return Lattice(world, rows, columns, color)


def field_of(world: World) -> Lattice:
    """A lattice of 2-3 × 2-3 panels with separators."""
    most = 3 if world.max_side >= 8 else 2
    return Lattice(world, world.integer(2, most), world.integer(2, most), world.mark())


def sparse(world: World, shape: tuple[int, int], color: int, density: float = 0.5) -> np.ndarray:
    """A panel with cells of one colour."""
    return np.where(world.rng.random(shape) < density, np.int8(color), np.int8(world.background))


OPERATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "nor": lambda a, b: ~(a | b),
    "nand": lambda a, b: ~(a & b),
    "minus": lambda a, b: a & ~b,
}


def _boolean(world: World, operation: str) -> Drawn:
    lattice = line_of(world, 2)
    a, b = world.colors(2) if world.chance(0.7) else world.colors(1) * 2
    color = world.mark()

    def sample() -> np.ndarray:
        shape = lattice.shape()
        return lattice.join([sparse(world, shape, a), sparse(world, shape, b)])

    def apply(grid: np.ndarray) -> np.ndarray:
        left, right = (panel != world.background for panel in lattice.split(grid))
        return np.where(OPERATIONS[operation](left, right), np.int8(color), np.int8(world.background))

    return sample, apply


@rule("halves_and")
def halves_and(world: World) -> Drawn:
    """The cells that are coloured in both halves."""
    return _boolean(world, "and")


@rule("halves_or")
def halves_or(world: World) -> Drawn:
    """The cells that are coloured in either half."""
    return _boolean(world, "or")


@rule("halves_xor")
def halves_xor(world: World) -> Drawn:
    """The cells that are coloured in exactly one half."""
    return _boolean(world, "xor")


@rule("halves_nor")
def halves_nor(world: World) -> Drawn:
    """The cells that are free in both halves (or not coloured in both)."""
    return _boolean(world, world.choice(("nor", "nor", "nand")))


@rule("halves_minus")
def halves_minus(world: World) -> Drawn:
    """The cells that are coloured in the first half alone."""
    return _boolean(world, "minus")


@rule("overlay_panels")
def overlay_panels(world: World) -> Drawn:
    """Panels are laid on each other, the first (or last) one on top."""
    count = world.integer(2, 4 if world.max_side >= 11 else 3)
    lattice, first = line_of(world, count), world.chance(0.5)
    colors = world.colors(count)

    def sample() -> np.ndarray:
        shape = lattice.shape()
        return lattice.join([sparse(world, shape, color) for color in colors])

    def apply(grid: np.ndarray) -> np.ndarray:
        panels = lattice.split(grid)
        out, *others = panels if first else panels[::-1]
        for panel in others:
            out = np.where(out == world.background, panel, out)
        return out

    return sample, apply


@rule("panel_fullest")
def panel_fullest(world: World) -> Drawn:
    """The output is the panel with the most (or fewest) coloured cells."""
    lattice = field_of(world) if world.chance(0.6) else line_of(world, 3, 1.0)
    most = world.chance(0.6)
    world.narrow(2)

    def sample() -> np.ndarray:
        shape = lattice.shape()
        n = lattice.rows * lattice.columns
        return lattice.join([world.speckle(shape, world.random.uniform(0.2, 0.8)) for _ in range(n)])

    def apply(grid: np.ndarray) -> np.ndarray:
        panels = lattice.split(grid)
        counts = [int((p != world.background).sum()) for p in panels]
        if 0 in counts:
            raise Misfit("an empty panel")
        return panels[unique_extreme(counts, most)]

    return sample, apply


@rule("panel_odd")
def panel_odd(world: World) -> Drawn:
    """All panels are equal but one, which is the output."""
    lattice = field_of(world) if world.chance(0.6) else line_of(world, 3, 1.0)

    def sample() -> np.ndarray:
        shape = lattice.shape()
        usual, odd = world.speckle(shape, 0.5), world.speckle(shape, 0.5)
        panels = [usual] * (lattice.rows * lattice.columns)
        panels[world.integer(0, len(panels) - 1)] = odd
        return lattice.join(panels)

    def apply(grid: np.ndarray) -> np.ndarray:
        panels = lattice.split(grid)
        keys = [p.tobytes() for p in panels]
        return panels[unique_extreme([keys.count(k) for k in keys], largest=False)]

    return sample, apply


@rule("panel_symmetric")
def panel_symmetric(world: World) -> Drawn:
    """The output is the only panel that is its own mirror image."""
    lattice = line_of(world, 3, 1.0)
    axis = 1 if lattice.rows == 3 else 0
    world.narrow(2)

    def sample() -> np.ndarray:
        shape = lattice.shape()
        panels = [world.speckle(shape, 0.55) for _ in range(3)]
        chosen = panels[world.integer(0, 2)]
        size = shape[axis] // 2
        if size == 0:
            raise Misfit("too thin")
        if axis:
            chosen[:, -size:] = chosen[:, :size][:, ::-1]
        else:
            chosen[-size:] = chosen[:size][::-1]
        return lattice.join(panels)

    def apply(grid: np.ndarray) -> np.ndarray:
        panels = lattice.split(grid)
        return panels[unique_extreme([int((p == np.flip(p, axis)).all()) for p in panels], largest=True)]

    return sample, apply


@rule("panel_fixed")
def panel_fixed(world: World) -> Drawn:
    """The output is the panel at one fixed place."""
    lattice = field_of(world)
    place = world.integer(0, lattice.rows * lattice.columns - 1)

    def sample() -> np.ndarray:
        shape = lattice.shape()
        return lattice.join([world.speckle(shape, 0.5) for _ in range(lattice.rows * lattice.columns)])

    return sample, lambda grid: lattice.split(grid)[place]


@rule("lattice_summary")
def lattice_summary(world: World) -> Drawn:
    """Every panel becomes one cell, of the colour of what lies in it."""
    lattice, solid = field_of(world), world.chance(0.5)

    def sample() -> np.ndarray:
        shape = lattice.shape(3)
        panels = []
        for _ in range(lattice.rows * lattice.columns):
            color = world.color() if world.chance(0.7) else world.background
            panel = world.blank(shape)
            if solid:
                panel[:] = color
            else:
                panel[world.integer(0, shape[0] - 1), world.integer(0, shape[1] - 1)] = color
            panels.append(panel)
        return lattice.join(panels)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = []
        for panel in lattice.split(grid):
            inside = panel[panel != world.background]
            out.append(inside[0] if len(inside) else world.background)
        return np.array(out, np.int8).reshape(lattice.rows, lattice.columns)

    return sample, apply


@rule("panel_flood")
def panel_flood(world: World) -> Drawn:
    """Every panel is filled with the colour of the dot in it."""
    lattice = field_of(world)

    def sample() -> np.ndarray:
        shape = lattice.shape(4)
        panels = [world.blank(shape) for _ in range(lattice.rows * lattice.columns)]
        for panel in panels:
            if world.chance(0.5):
                panel[world.integer(0, shape[0] - 1), world.integer(0, shape[1] - 1)] = world.color()
        return lattice.join(panels)

    def apply(grid: np.ndarray) -> np.ndarray:
        out = []
        for panel in lattice.split(grid):
            inside = panel[panel != world.background]
            out.append(np.full_like(panel, inside[0] if len(inside) else world.background))
        return lattice.join(out)

    return sample, apply


@rule("panel_repeat")
def panel_repeat(world: World) -> Drawn:
    """The only filled panel is copied into all the others."""
    lattice = field_of(world)

    def sample() -> np.ndarray:
        shape = lattice.shape()
        panels = [world.blank(shape) for _ in range(lattice.rows * lattice.columns)]
        panels[world.integer(0, len(panels) - 1)] = world.speckle(shape, 0.6)
        return lattice.join(panels)

    def apply(grid: np.ndarray) -> np.ndarray:
        panels = lattice.split(grid)
        full = panels[unique_extreme([int((p != world.background).any()) for p in panels], largest=True)]
        return lattice.join([full] * len(panels))

    return sample, apply


@rule("draw_lattice", anywhere=True)
def draw_lattice(world: World) -> Drawn:
    """Separator lines are drawn between all cells, which are enlarged k times."""
    k, color = world.choice((1, 1, 2)), world.mark()
    world.reserve(k + 1)

    def apply(grid: np.ndarray) -> np.ndarray:
        height, width = grid.shape
        out = np.full((height * (k + 1) - 1, width * (k + 1) - 1), color, np.int8)
        for dy in range(k):
            for dx in range(k):
                out[dy :: k + 1, dx :: k + 1] = grid
        return out

    return world.scene, apply

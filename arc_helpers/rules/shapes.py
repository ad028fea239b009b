"""Pieces that many rules share: connected objects, boxes, holes, painting with clipping."""

from dataclasses import dataclass

import numpy as np

from arc_helpers.rules.world import Misfit

CROSS = ((0, 1), (1, 0), (0, -1), (-1, 0))
DIAGONAL = ((1, 1), (1, -1), (-1, -1), (-1, 1))


@dataclass(frozen=True, eq=False)
class Object:
    """A connected region: its cells, bounding box and (first) colour."""

    ys: np.ndarray
    xs: np.ndarray
    color: int
    top: int
    left: int
    bottom: int  # inclusive, as right
    right: int

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.ys)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the bounding box."""
        return self.bottom - self.top + 1, self.right - self.left + 1

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """An index for grids."""
        return self.ys, self.xs

    @property
    def mask(self) -> np.ndarray:
        """The object in its bounding box."""
        mask = np.zeros(self.shape, bool)
        mask[self.ys - self.top, self.xs - self.left] = True
        return mask

    @property
    def box(self) -> tuple[slice, slice]:
        """The bounding box as slices."""
        return slice(self.top, self.bottom + 1), slice(self.left, self.right + 1)


def components(grid: np.ndarray, background: int, by_color: bool = True, corners: bool = False) -> list[Object]:
    """Connected objects in reading order; one colour each, or all that is not background together."""
    height, width = grid.shape
    stride = width + 1  # one wall column: steps never wrap
    flat = np.full((height + 2, stride), background, np.int8)
    flat[1:-1, :width] = grid
    cells = flat.ravel().tolist()
    steps = (1, -1, stride, -stride) + ((stride + 1, stride - 1, -stride + 1, -stride - 1) if corners else ())
    found = []
    for start, color in enumerate(cells):
        if color == background:
            continue
        cells[start] = background
        region = [start]
        for cell in region:
            for step in steps:
                other = cells[cell + step]
                if other != background and (other == color or not by_color):
                    cells[cell + step] = background
                    region.append(cell + step)
        ys, xs = [c // stride - 1 for c in region], [c % stride for c in region]
        found.append(Object(np.array(ys), np.array(xs), color, min(ys), min(xs), max(ys), max(xs)))
    return found


def outside(free: np.ndarray) -> np.ndarray:
    """The free cells that are connected to the border through free cells."""
    height, width = free.shape
    padded = np.ones((height + 2, width + 2), bool)
    padded[1:-1, 1:-1] = free
    stride = width + 2
    cells = padded.ravel().tolist()
    last = len(cells)
    reached = [0]
    cells[0] = False
    for cell in reached:
        for other in (cell + 1, cell - 1, cell + stride, cell - stride):
            if 0 <= other < last and cells[other]:
                cells[other] = False
                reached.append(other)
    seen = np.zeros(last, bool)
    seen[reached] = True
    return seen.reshape(padded.shape)[1:-1, 1:-1]


def enclosed(grid: np.ndarray, background: int) -> np.ndarray:
    """Mask of the background cells that cannot reach the border."""
    free = grid == background
    return free & ~outside(free)


def holes(mask: np.ndarray) -> int:
    """How many separate holes a mask has."""
    inside = ~mask & ~outside(~mask)
    return len(components(inside.astype(np.int8), 0))


def unique_extreme(values: list[int], largest: bool) -> int:
    """The index of the only largest (smallest) value."""
    if len(values) < 2:
        raise Misfit("no choice")
    best = max(values) if largest else min(values)
    if values.count(best) != 1:
        raise Misfit("no single extreme")
    return values.index(best)


def content(grid: np.ndarray, background: int) -> tuple[slice, slice]:
    """The bounding box of all that is not background, as slices."""
    return bounds(grid != background)


def bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """The bounding box of a mask, as slices."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(ys):
        raise Misfit("nothing to bound")
    return slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)


def shifted(grid: np.ndarray, dy: int, dx: int, fill: int) -> np.ndarray:
    """The grid moved by (dy, dx); what leaves is lost, what opens is `fill`."""
    height, width = grid.shape
    out = np.full_like(grid, fill)
    if abs(dy) < height and abs(dx) < width:
        out[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = grid[
            max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
        ]
    return out


def around(mask: np.ndarray, corners: bool = True) -> np.ndarray:
    """The cells next to a mask, without the mask."""
    padded = np.pad(mask, 1)
    grown = padded[:-2, 1:-1] | padded[2:, 1:-1]
    if corners:
        grown |= mask
        wide = np.pad(grown, ((0, 0), (1, 1)))
        grown = wide[:, :-2] | wide[:, 2:] | grown
    else:
        grown |= padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown & ~mask

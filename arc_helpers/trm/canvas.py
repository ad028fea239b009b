"""Grids on canvases: 12 tokens, and an L of end-of-sequence tokens that says where a grid ends.

A canvas is a number of cells and a width, filled row after row; its last row may be cut. Three layouts:
`official` (30 × 30 for everything), `buckets` (the smallest square of 10, 16, 20, 30 that the task fits), and
`tight` (as wide as the pair can be, with the number of cells rounded up to one of LENGTHS).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from arc_helpers.arc import DIHEDRAL, MAX_SIDE, Pair, Transform

PAD, EOS, FIRST_COLOR, VOCAB_SIZE = 0, 1, 2, 12
LAYOUTS = ("official", "buckets", "tight")
BUCKETS = (10, 16, 20, 30)
#: numbers of cells a tight canvas may have: few enough to batch by, and at most a fifth is lost
LENGTHS: tuple[int, ...] = (
    9,
    12,
    16,
    20,
    25,
    30,
    36,
    42,
    49,
    56,
    64,
    72,
    81,
    90,
    100,
    121,
    144,
    169,
    196,
    225,
    256,
    324,
    400,
    484,
    625,
)
LENGTHS += (729, 900)


class Canvas(NamedTuple):
    """`cells` tokens, `width` of them a row."""

    width: int
    cells: int

    @property
    def height(self) -> int:
        """Whole rows."""
        return self.cells // self.width


class CanvasError(ValueError):
    """Something does not fit a canvas; one line. It is never cropped."""


def place(grid: np.ndarray, canvas: Canvas) -> np.ndarray:
    """A grid int8 [H, W] as tokens uint8 [cells]: colours + 2, EOS right of it and below, PAD elsewhere.

    Raises CanvasError if it does not fit.
    """
    height, width = grid.shape
    if height > canvas.height or width > canvas.width:
        raise CanvasError(f"a {height}×{width} grid does not fit a canvas of {canvas.height}×{canvas.width}")
    rows = -(-canvas.cells // canvas.width)
    sheet = np.full((rows, canvas.width), PAD, dtype=np.uint8)
    sheet[:height, :width] = grid + FIRST_COLOR
    sheet[:height, width : width + 1] = EOS
    sheet[height : height + 1, :width] = EOS
    return sheet.ravel()[: canvas.cells]


def read(tokens: np.ndarray, width: int) -> np.ndarray | None:
    """The grid int8 [H, W] at the top left of a canvas [cells]: its largest rectangle of colours; None without one."""
    rows = len(tokens) // width
    sheet = np.asarray(tokens[: rows * width]).reshape(rows, width)
    best, reach = (0, 0), width
    for row in range(min(rows, MAX_SIDE)):
        other = np.flatnonzero(sheet[row, :reach] < FIRST_COLOR)
        reach = int(other[0]) if len(other) else reach
        if (row + 1) * reach > best[0] * best[1]:
            best = row + 1, reach
    if 0 in best:
        return None
    return (sheet[: best[0], : best[1]] - FIRST_COLOR).astype(np.int8)


def choose_canvas(
    layout: str, demonstrations: Sequence[Pair], question: np.ndarray, view: Transform = DIHEDRAL[0]
) -> Canvas:
    """The canvas of one question of a task, seen in a view, from what a solver may see: demonstrations and question.

    Training pairs get theirs by the same rule, so a canvas tells nothing about an answer. `demonstrations` and
    `question` are as in the task; the view turns the canvas. Raises CanvasError on an unknown layout.
    """
    if layout not in LAYOUTS:
        raise CanvasError(f"layout = {layout!r}: must be one of {', '.join(LAYOUTS)}")
    if layout == "official":
        return Canvas(MAX_SIDE, MAX_SIDE**2)
    height, width = (
        _room([(p.input.shape[axis], p.output.shape[axis]) for p in demonstrations], question.shape[axis])
        for axis in (0, 1)
    )
    if layout == "buckets":
        shown = [side for p in demonstrations for side in (*p.input.shape, *p.output.shape)]
        side = next(side for side in BUCKETS if side >= max(height, width, *shown))
        return Canvas(side, side**2)
    return Canvas(height if view.k % 2 else width, next(cells for cells in LENGTHS if cells >= height * width))


def _room(sides: Sequence[tuple[int, int]], asked: int) -> int:
    """How long a side the answer to a question of side `asked` may need.

    sides: (input, output) of the demonstrations. One fixed ratio is carried over; otherwise the longest output seen.
    """
    if not sides:
        return asked
    ratios = {after / before for before, after in sides}
    if len(ratios) == 1:
        return min(MAX_SIDE, max(asked, round(ratios.pop() * asked)))
    return max(asked, *(after for _, after in sides))

"""A grid: a small rectangle of colours 0 to 9, held as a read-only int8 array."""

import reprlib
from dataclasses import dataclass
from itertools import chain

import numpy as np

MAX_SIDE = 30
ARC_COLORS: tuple[str, ...] = (
    "#000000",
    "#0074D9",
    "#FF4136",
    "#2ECC40",
    "#FFDC00",
    "#AAAAAA",
    "#F012BE",
    "#FF851B",
    "#7FDBFF",
    "#870C25",
)
#: those that arcprize.org draws with
ARCPRIZE_COLORS: tuple[str, ...] = (
    "#000000",
    "#1E93FF",
    "#F93C31",
    "#4FCC30",
    "#FFDC00",
    "#999999",
    "#E53AA3",
    "#FF851B",
    "#87D8F1",
    "#921231",
)

_SIZES = f"allowed are 1×1 to {MAX_SIDE}×{MAX_SIDE}"
_CELLS = "allowed are the integers 0 to 9"


class GridError(ValueError):
    """Something is not an ARC grid; the message is one line: where, what, what is allowed."""


def as_grid(value, where: str = "grid") -> np.ndarray:
    """Check `value` and return it as a fresh, read-only int8 array [H, W].

    `value` is a list of rows or anything that turns into an integer array; `where` names it in errors.
    Raises GridError if it is ragged, empty, larger than 30×30, or holds anything but the integers 0 to 9.
    """
    if hasattr(value, "__array__"):
        grid = _checked_array(np.asarray(value), where)
    elif isinstance(value, (list, tuple)):
        grid = _checked_rows(value, where)
    else:
        raise GridError(f"{where}: expected a list of rows, got {short(value)}")
    grid.setflags(write=False)
    return grid


def _checked_array(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim != 2:
        raise GridError(f"{where}: expected 2 dimensions (rows, columns), got {array.ndim}")
    height, width = array.shape
    _check_size(height, width, where)
    if array.dtype.kind not in "iu":
        raise GridError(f"{where}: cells are of type {array.dtype}; {_CELLS}")
    if array.min() < 0 or array.max() > 9:
        y, x = np.argwhere((array < 0) | (array > 9))[0]
        raise GridError(f"{where}: row {y}, column {x}: value {array[y, x]}; {_CELLS}")
    return np.array(array, dtype=np.int8, order="C")


def _checked_rows(rows: list | tuple, where: str) -> np.ndarray:
    for y, row in enumerate(rows):
        if not isinstance(row, (list, tuple, np.ndarray)):
            raise GridError(f"{where}: row {y}: expected a list of cells, got {short(row)}")
        if len(row) != len(rows[0]):
            raise GridError(f"{where}: row {y} has {len(row)} cells, row 0 has {len(rows[0])}; rows must be equal")
    _check_size(len(rows), len(rows[0]) if rows else 0, where)
    # Types first, since numpy would take True for 1; a set of types is quick, this runs on millions of rows.
    if set(map(type, chain.from_iterable(rows))) != {int}:
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                if isinstance(cell, bool) or not isinstance(cell, (int, np.integer)):
                    raise GridError(f"{where}: row {y}, column {x}: value {short(cell)}; {_CELLS}")
    return _checked_array(np.array(rows), where)


def _check_size(height: int, width: int, where: str) -> None:
    if height == 0 or width == 0:
        raise GridError(f"{where}: the grid is empty; {_SIZES}")
    if height > MAX_SIDE or width > MAX_SIDE:
        raise GridError(f"{where}: the grid is {height}×{width}; {_SIZES}")


def short(value: object) -> str:
    """`repr` of any value cut to fit into a one-line message."""
    return " ".join(reprlib.repr(value).split())


def grid_to_string(grid) -> str:
    """Rows of digits joined by newlines, without a trailing one: [[1, 2], [3, 4]] becomes "12\\n34"."""
    return "\n".join("".join(map(str, row)) for row in as_grid(grid).tolist())


def string_to_grid(text: str) -> np.ndarray:
    """The exact inverse of `grid_to_string`: int8 [H, W]. Raises GridError for any other text."""
    if not isinstance(text, str):
        raise GridError(f"text: expected a string, got {short(text)}")
    rows = text.split("\n")
    for y, row in enumerate(rows):
        # `isdigit` alone also says yes to "²" and to other scripts.
        if row and not (row.isascii() and row.isdigit()):
            raise GridError(f"text: row {y} is {short(row)}; allowed are the digits 0 to 9")
    return as_grid([list(map(int, row)) for row in rows], "text")


@dataclass(frozen=True, eq=False)
class GridDiff:
    """Where a prediction differs. `wrong` is bool [H, W] of the truth, all True if the shapes differ."""

    same_shape: bool
    wrong: np.ndarray

    @property
    def n_wrong(self) -> int:
        """Number of wrong cells, counted over the truth."""
        return int(self.wrong.sum())

    @property
    def cell_accuracy(self) -> float:
        """Share of the truth's cells that are right; 0.0 if the shapes differ."""
        return 1.0 - self.n_wrong / self.wrong.size

    @property
    def correct(self) -> bool:
        """Same shape and every cell right: the only thing that scores."""
        return self.n_wrong == 0


def compare_grids(prediction, truth) -> GridDiff:
    """Compare two grids cell by cell. Raises GridError if either is not a grid."""
    prediction, truth = as_grid(prediction, "prediction"), as_grid(truth, "truth")
    if prediction.shape != truth.shape:
        return GridDiff(False, np.ones(truth.shape, dtype=bool))
    return GridDiff(True, prediction != truth)

"""6 × 6 Sudoku (boxes of 2 × 3) as a test of reasoning: our own puzzles, each with exactly one solution.

Puzzles are ARC grids: 0 is an empty cell, 1 to 6 are digits. Two solutions count as the same one if renaming the
digits turns one into the other; no solution in that sense is both trained on and tested, augmented or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch

from arc_helpers.arc import Pair
from arc_helpers.trm.batch import Batch
from arc_helpers.trm.canvas import Canvas, place

SIDE, BOX_ROWS, BOX_COLUMNS = 6, 2, 3
CANVAS = Canvas(SIDE, SIDE**2)
ALL = (1 << SIDE) - 1
_ROW, _COLUMN = np.divmod(np.arange(SIDE**2), SIDE)
_BOX = _ROW // BOX_ROWS * (SIDE // BOX_COLUMNS) + _COLUMN // BOX_COLUMNS
_GROUPS = [(int(r), SIDE + int(c), 2 * SIDE + int(b)) for r, c, b in zip(_ROW, _COLUMN, _BOX, strict=True)]


def solutions(cells: list[int], rng: np.random.Generator | None = None) -> Iterator[list[int]]:
    """Every solution of a puzzle of 36 cells, 0 = empty; in random order with `rng`. The fewest choices go first."""
    cells, used = list(cells), [0] * (3 * SIDE)
    for cell, digit in enumerate(cells):
        if digit:
            bit = 1 << (digit - 1)
            if any(used[g] & bit for g in _GROUPS[cell]):
                return
            for g in _GROUPS[cell]:
                used[g] |= bit

    def search() -> Iterator[list[int]]:
        best, choices = -1, 0
        fewest = SIDE + 1
        for cell in range(SIDE**2):
            if not cells[cell]:
                row, column, box = _GROUPS[cell]
                free = ALL & ~(used[row] | used[column] | used[box])
                n = free.bit_count()
                if n < fewest:
                    best, choices, fewest = cell, free, n
                    if n <= 1:
                        break
        if best < 0:
            yield list(cells)
            return
        digits = [d for d in range(1, SIDE + 1) if choices >> (d - 1) & 1]
        if rng is not None:
            rng.shuffle(digits)
        for digit in digits:
            bit = 1 << (digit - 1)
            cells[best] = digit
            for g in _GROUPS[best]:
                used[g] |= bit
            yield from search()
            cells[best] = 0
            for g in _GROUPS[best]:
                used[g] &= ~bit

    yield from search()


def is_unique(cells: list[int]) -> bool:
    """Whether a puzzle has exactly one solution."""
    found = solutions(cells)
    return next(found, None) is not None and next(found, None) is None


def canonical(solution: np.ndarray) -> bytes:
    """The same bytes for all renamings of the digits of a solution [6, 6]: its first row becomes 1 to 6."""
    names = np.zeros(SIDE + 1, dtype=np.int8)
    names[solution.ravel()[:SIDE]] = np.arange(1, SIDE + 1)
    return names[solution].tobytes()


def make_puzzle(rng: np.random.Generator, clues: int = 12) -> Pair:
    """A puzzle with `clues` given digits and exactly one solution, and that solution; int8 [6, 6] each."""
    if not 8 <= clues <= SIDE**2:
        raise ValueError(f"clues = {clues}: must be 8 (fewer never suffice) to {SIDE**2}")
    while True:
        solution = next(solutions([0] * SIDE**2, rng))
        cells, left = list(solution), SIDE**2
        for cell in rng.permutation(SIDE**2).tolist():
            if left == clues:
                break
            digit, cells[cell] = cells[cell], 0
            if is_unique(cells):
                left -= 1
            else:
                cells[cell] = digit
        if left == clues:
            grids = (np.array(g, dtype=np.int8).reshape(SIDE, SIDE) for g in (cells, solution))
            return Pair(*grids)


@dataclass(frozen=True)
class SudokuSet:
    """Puzzles with their solutions; `train` and `test` share no solution, whatever its digits are called."""

    train: list[Pair]
    test: list[Pair]


def make_sudoku(n_train: int, n_test: int, clues: int = 12, seed: int = 0) -> SudokuSet:
    """Draw the test puzzles first, each with a solution of its own; then training puzzles with other solutions."""
    rng = np.random.default_rng(seed)
    test: dict[bytes, Pair] = {}
    while len(test) < n_test:
        puzzle = make_puzzle(rng, clues)
        test.setdefault(canonical(puzzle.output), puzzle)
    train = []
    while len(train) < n_train:
        puzzle = make_puzzle(rng, clues)
        if canonical(puzzle.output) not in test:
            train.append(puzzle)
    return SudokuSet(train, list(test.values()))


def fingerprint(puzzles: SudokuSet) -> str:
    """A hash of all puzzles."""
    return sha256(b"".join(p.input.tobytes() for p in puzzles.train + puzzles.test)).hexdigest()[:16]


def as_batch(puzzles: list[Pair]) -> Batch:
    """Puzzles as canvases of 36 cells, of task 1; labels where there are solutions."""
    cells = np.stack([place(p.input, CANVAS) for p in puzzles])
    known = all(p.output is not None for p in puzzles)
    labels = torch.from_numpy(np.stack([place(p.output, CANVAS) for p in puzzles])) if known else None
    return Batch.of(torch.from_numpy(cells), SIDE, labels, task=torch.ones(len(puzzles), dtype=torch.int64))


class SudokuSource:
    """Training batches: puzzles with renamed digits and exchanged rows, columns, bands and stacks.

    An exchange that leads to a tested solution is drawn again. `seen` counts the examples given out.
    """

    def __init__(self, puzzles: SudokuSet, exchange: bool = True):
        self.puzzles, self.exchange, self.seen = puzzles, exchange, 0
        self.options = {"puzzles": fingerprint(puzzles), "exchange": exchange}
        self._tested = {canonical(p.output) for p in puzzles.test}
        self.shares = {CANVAS.cells: 1.0}

    def draw(self, cells: int, n: int, generator: torch.Generator) -> Batch:
        """n augmented training puzzles; `cells` is 36, the only canvas there is."""
        rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item())
        self.seen += n
        return as_batch([self._augmented(rng) for _ in range(n)])

    def _augmented(self, rng: np.random.Generator) -> Pair:
        pair = self.puzzles.train[rng.integers(len(self.puzzles.train))]
        names = np.concatenate([[0], 1 + rng.permutation(SIDE)]).astype(np.int8)
        while self.exchange:
            rows, columns = _exchange(rng, BOX_ROWS), _exchange(rng, BOX_COLUMNS)
            solution = pair.output[rows][:, columns]
            if canonical(solution) not in self._tested:
                return Pair(names[pair.input[rows][:, columns]], names[solution])
        return Pair(names[pair.input], names[pair.output])


def _exchange(rng: np.random.Generator, band: int) -> np.ndarray:
    """A random order of the six lines that keeps bands of `band` lines together."""
    order = rng.permutation(SIDE // band)
    return np.concatenate([b * band + rng.permutation(band) for b in order])

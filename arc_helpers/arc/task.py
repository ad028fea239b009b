"""A task: demonstration pairs that show a rule, and test inputs to apply it to."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np

from arc_helpers.arc.grid import ARC_COLORS, GridError, as_grid, short

# An id that is a file's name as it stands; any other one gets a safe name apart from it.
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_ID = 256  # characters


class TaskError(ValueError):
    """A task or a source of tasks is unusable; the message is one line: where, what, what is allowed."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and its output grid (int8 [H, W] each); `output` is None where it is not known.

    Any grid-like value is accepted and checked (GridError). Pairs are equal if their grids are.
    """

    input: np.ndarray
    output: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "input", as_grid(self.input, "input"))
        if self.output is not None:
            object.__setattr__(self, "output", as_grid(self.output, "output"))

    @property
    def _key(self) -> tuple:
        return tuple((g.shape, g.tobytes()) for g in (self.input, self.output) if g is not None)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Pair) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self):
        # numpy forgets "read-only" when pickled; going through the constructor restores it.
        return Pair, (self.input, self.output)


@dataclass(frozen=True)
class Task:
    """One ARC task. Equal if id and pairs are equal; `source` only tells where it came from.

    `train` may be empty here, because a pseudo-task of a one-demonstration task has no demonstration left;
    tasks that are read (`from_dict`) need at least one. Raises TaskError.
    """

    id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    source: str = field(default="", compare=False)

    def __post_init__(self):
        object.__setattr__(self, "train", tuple(self.train))
        object.__setattr__(self, "test", tuple(self.test))
        if not (isinstance(self.id, str) and 1 <= len(self.id) <= MAX_ID and self.id.isprintable()):
            raise TaskError(f"task id {short(self.id)}: allowed are 1 to {MAX_ID} printable characters")
        if not self.test:
            raise TaskError(f"task {shown_id(self.id)}: test: there is no test input; at least one is needed")
        for i, pair in enumerate(self.train):
            if pair.output is None:
                raise TaskError(
                    f"task {shown_id(self.id)}: train[{i}].output: is missing; every demonstration needs one"
                )

    @classmethod
    def from_dict(cls, task_id: str, mapping: Mapping, source: str = "") -> "Task":
        """Build a task from ARC's JSON form {"train": [{"input", "output"}, ...], "test": [...]}.

        Test outputs may be absent; other fields are ignored. Raises TaskError, naming the task and the grid.
        """
        if not isinstance(mapping, Mapping):
            raise TaskError(
                f"task {shown_id(task_id)}: expected a mapping with 'train' and 'test', got {short(mapping)}"
            )
        train, test = (read_pairs(task_id, mapping, part) for part in ("train", "test"))
        task = cls(task_id, train, test, source)
        if not task.train:
            raise TaskError(f"task {shown_id(task_id)}: train: there are no demonstrations; at least one is needed")
        return task

    def to_dict(self) -> dict[str, list[dict[str, list[list[int]]]]]:
        """ARC's JSON form with plain ints; unknown test outputs are left out."""

        def plain(pair: Pair) -> dict[str, list[list[int]]]:
            grids = {"input": pair.input, "output": pair.output}
            return {name: grid.tolist() for name, grid in grids.items() if grid is not None}

        return {"train": [plain(pair) for pair in self.train], "test": [plain(pair) for pair in self.test]}

    def without_answers(self) -> "Task":
        """The same task with every test output removed: what test-time training may see."""
        return replace(self, test=tuple(Pair(pair.input) for pair in self.test))

    @property
    def has_answers(self) -> bool:
        """Whether every test output is known."""
        return all(pair.output is not None for pair in self.test)

    def answers(self) -> list[np.ndarray]:
        """The test outputs, int8 [H, W] each. Raises TaskError if one is not known."""
        for i, pair in enumerate(self.test):
            if pair.output is None:
                raise TaskError(
                    f"task {shown_id(self.id)}: test[{i}].output: is missing; scoring needs every test output"
                )
        return [pair.output for pair in self.test]

    @property
    def max_side(self) -> int:
        """The largest side of any grid one may look at: all inputs and the demonstration outputs."""
        visible = [pair.input for pair in self.train + self.test] + [pair.output for pair in self.train]
        return max(max(grid.shape) for grid in visible)

    def _repr_html_(self) -> str:
        pairs = [(f"train {i}", pair) for i, pair in enumerate(self.train)]
        pairs += [(f"test {i}", pair) for i, pair in enumerate(self.test)]
        title = html.escape(" · ".join(filter(None, [self.id, self.source])))
        return f"<div><b>{title}</b><div>{''.join(_pair_html(*named) for named in pairs)}</div></div>"


def shown_id(task_id: object) -> str:
    """A task id for a message: bare if it is a plain one, quoted and cut if not."""
    return task_id if isinstance(task_id, str) and _PLAIN.fullmatch(task_id) else short(task_id)


def safe_name(task_id: str) -> str:
    """What a task's files are called: its id, or what of it is fit for a file's name and eight digits of its sha256."""
    if _PLAIN.fullmatch(task_id):
        return task_id
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", task_id).strip("_")[:48]
    return f"{kept}-{sha256(task_id.encode()).hexdigest()[:8]}"


def plain_cells(grid: Any) -> Any:
    """A grid as it was read, with every cell `1.0` or `"1"` as the whole number it means; `as_grid` checks the rest."""
    if not (isinstance(grid, list) and all(isinstance(row, list) for row in grid)):
        return grid
    if set(map(type, chain.from_iterable(grid))) <= {int}:  # the rule; this runs on millions of rows
        return grid
    return [[_whole(cell) for cell in row] for row in grid]


def _whole(cell: Any) -> Any:
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return int(cell) if isinstance(cell, str) and re.fullmatch(r"[0-9]", cell) else cell


def read_pairs(task_id: str, mapping: Mapping, part: str) -> tuple[Pair, ...]:
    """The pairs of mapping[part], outputs optional.

    Raises TaskError, in which a bad grid is named like "task 007bbfb7: train[0].output: row 2 ...".
    """
    where = f"task {shown_id(task_id)}: {part}"
    entries = mapping.get(part)
    if not isinstance(entries, (list, tuple)):
        got = short(entries) if part in mapping else "nothing"
        raise TaskError(f"{where}: expected a list of pairs, got {got}")
    pairs = []
    for i, entry in enumerate(entries):
        if not (isinstance(entry, Mapping) and "input" in entry):
            raise TaskError(f"{where}[{i}]: expected a mapping with 'input' and 'output', got {short(entry)}")
        try:
            output = entry.get("output")
            if part == "test" and output == []:  # some hidden sets say "not known" so
                output = None
            pairs.append(Pair(plain_cells(entry["input"]), plain_cells(output)))
        except GridError as error:
            raise TaskError(f"{where}[{i}].{error}") from None
    return tuple(pairs)


def _pair_html(name: str, pair: Pair) -> str:
    arrow = '<span style="margin:0 6px">→</span>'
    output = "?" if pair.output is None else _grid_html(pair.output)
    return (
        '<div style="display:inline-block;vertical-align:top;margin:4px 14px 4px 0">'
        f"<div>{html.escape(name)}</div>{_grid_html(pair.input)}{arrow}{output}</div>"
    )


def _grid_html(grid: np.ndarray) -> str:
    """A table of coloured cells; every style is inline because notebooks bring their own table style."""
    height, width = grid.shape
    side = max(4, min(14, 150 // max(height, width)))  # pixels a cell, so that grids end up of similar size
    cells = [f'<td style="background:{color};padding:0"></td>' for color in ARC_COLORS]
    rows = "".join(
        f'<tr style="height:{side}px">{"".join(cells[value] for value in row)}</tr>' for row in grid.tolist()
    )
    style = (
        f"table-layout:fixed;width:{width * (side + 1) + 1}px;margin:0;border:none;"
        "border-collapse:separate;border-spacing:1px;background:#555555"
    )
    return (
        '<div style="display:inline-block;vertical-align:middle">'
        f'<table style="{style}">{rows}</table><small>{height}×{width}</small></div>'
    )

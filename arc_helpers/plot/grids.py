"""Pictures of grids, tasks, augmentations and predictions."""

from collections.abc import Iterable, Sequence

import numpy as np

from arc_helpers.arc import Pair, Task, Transform, as_grid, compare_grids
from arc_helpers.plot.cells import draw_grid
from arc_helpers.plot.picture import ACCENT, BAD, GOOD, INK, Picture
from arc_helpers.plot.sheet import Cells, Panel, bands, lay_out

__all__ = [
    "describe_transform",
    "draw_grid",
    "plot_before_after",
    "plot_gallery",
    "plot_pair",
    "plot_prediction",
    "plot_round_trip",
    "plot_task",
    "plot_transforms",
]


def plot_task(task: Task, digits: bool = False) -> Picture:
    """Demonstrations, then tests: each a column, input over output, `?` for an output that is not known."""
    columns = [_column(f"train {i}", pair, INK) for i, pair in enumerate(task.train)]
    columns += [_column(f"test {i}", pair, ACCENT) for i, pair in enumerate(task.test)]
    rows, labels = _in_bands(columns, Cells(digits))
    return lay_out(rows, row_labels=labels, heading=task.id, cells=Cells(digits))


def plot_pair(pair: Pair, digits: bool = False) -> Picture:
    """One pair: input → output."""
    return lay_out([[Panel(pair.input, "input"), Panel(pair.output, "→ output")]], cells=Cells(digits))


def plot_gallery(items: Iterable[tuple[str, np.ndarray]], digits: bool = False, scale: float = 0.6) -> Picture:
    """Many little grids with their titles, as many in a row as a page holds."""
    cells = Cells(digits=digits, scale=scale)
    columns = [[Panel(as_grid(grid), title)] for title, grid in items]
    return lay_out([[panel for [panel] in band] for band in bands(columns, cells)], cells=cells)


def plot_transforms(grid, transforms: Iterable[Transform], digits: bool = False) -> Picture:
    """The same grid under each transform, titled by what was done to it."""
    grid = as_grid(grid)
    present = np.unique(grid)
    views = [(describe_transform(transform, present), transform.grid(grid)) for transform in transforms]
    return plot_gallery(views, digits=digits, scale=0.8)


def plot_round_trip(pair: Pair, transform: Transform, digits: bool = False) -> Picture:
    """Original | transformed | inverse of the transformed, which gives the original back."""
    rows = []
    for grid in (pair.input, pair.output):
        if grid is None:
            continue
        moved = transform.grid(grid)
        back = transform.inverse.grid(moved)
        mark, color = ("✓ the original", GOOD) if np.array_equal(back, grid) else ("✗ differs", BAD)
        done = describe_transform(transform, np.unique(grid))
        rows.append([Panel(grid, "original"), Panel(moved, done), Panel(back, f"inverse\n{mark}", color)])
    return lay_out(rows, row_labels=["input", "output"][: len(rows)], cells=Cells(digits))


def plot_prediction(
    task: Task,
    attempts: Sequence[Sequence],
    truth: Sequence | None = None,
    digits: bool = False,
) -> Picture:
    """A row a test input: input | attempt 1 | attempt 2 | truth; with a truth, wrong cells are outlined.

    `attempts` holds the attempts of each test input, `truth` its answer (or None where it is not known).
    """
    truth = [None] * len(task.test) if truth is None else truth
    for name, value in (("attempts", attempts), ("truth", truth)):
        if len(value) != len(task.test):
            raise ValueError(f"{name}: {len(value)} given, but {task.id} has {len(task.test)} test inputs")
    rows = []
    for pair, tries, answer in zip(task.test, attempts, truth, strict=True):
        row = [Panel(pair.input, "test input")]
        row += [judged(grid, f"attempt {i}", answer) for i, grid in enumerate(tries, 1)]
        if answer is not None:
            row.append(Panel(as_grid(answer), "truth"))
        rows.append(row)
    labels = [f"test {i}" for i in range(len(rows))] if len(rows) > 1 else []
    return lay_out(rows, row_labels=labels, heading=task.id, cells=Cells(digits))


def plot_before_after(
    task: Task, before: Sequence[Sequence], after: Sequence[Sequence], truth: Sequence, digits: bool = False
) -> Picture:
    """The demonstrations; below them, a row a test input: input | answer before training | answer after training.

    `before` and `after` hold the attempts of each test input, `truth` its answer. Of two attempts the right one is
    shown, or the first.
    """
    rows, labels = demonstrations(task, Cells(digits))
    for i, (pair, *tries, answer) in enumerate(zip(task.test, before, after, truth, strict=True)):
        row = [Panel(pair.input, f"test {i}" if len(task.test) > 1 else "test input", ACCENT)]
        for attempts, title in zip(tries, ("before training", "after training"), strict=True):
            best = next((grid for grid in attempts if compare_grids(grid, answer).correct), attempts[0])
            row.append(judged(best, title, answer))
        rows.append(row)
    return lay_out(rows, row_labels=[*labels, *["question"] * len(task.test)], heading=task.id, cells=Cells(digits))


def describe_transform(transform: Transform, present: Iterable[int] = range(10)) -> str:
    """What a transform does to one grid, in words: `flip, rot 90` and on a second line `1→5 2→3 …`.

    `present` limits the colours to those of a grid. The order of the pairs is left out: no grid shows it.
    """
    geometry = ["flip"] if transform.flip else []
    geometry += [f"rot {90 * transform.k}"] if transform.k else []
    moves = [f"{c}→{transform.colors[c]}" for c in present if transform.colors[c] != c]
    if not geometry and not moves:
        return "as it is"
    colors = " ".join(moves[:4]) + (" …" if len(moves) > 4 else "")
    return "\n".join(line for line in (", ".join(geometry) or "colours", colors) if line)


def demonstrations(task: Task, cells: Cells) -> tuple[list[list[Panel]], list[str]]:
    """The demonstrations of a task as rows that fit a page, and the rows' labels."""
    return _in_bands([_column(f"train {i}", pair, INK) for i, pair in enumerate(task.train)], cells)


def _in_bands(columns: Sequence[tuple[Panel, Panel]], cells: Cells) -> tuple[list[list[Panel]], list[str]]:
    """Columns of input over output as rows that fit a page, and the rows' labels."""
    rows = [list(row) for band in bands(columns, cells) for row in zip(*band, strict=True)]
    return rows, ["input", "output"] * (len(rows) // 2)


def _column(name: str, pair: Pair, color: str) -> tuple[Panel, Panel]:
    return Panel(pair.input, name, color), Panel(pair.output, "", color)


def judged(grid, title: str, truth) -> Panel:
    """A panel of an answer; with a truth, whether it is right, and which cells are not."""
    if grid is None or truth is None:
        return Panel(None if grid is None else as_grid(grid), title)
    grid = as_grid(grid)
    diff = compare_grids(grid, truth)
    if diff.correct:
        return Panel(grid, f"{title}\n✓ solved", GOOD)
    if not diff.same_shape:
        return Panel(grid, f"{title}\n✗ wrong size {grid.shape[0]}×{grid.shape[1]}", BAD)
    cells = "1 cell" if diff.n_wrong == 1 else f"{diff.n_wrong} cells"
    return Panel(grid, f"{title}\n✗ {cells} wrong", BAD, wrong=diff.wrong)

"""Grids as a browser gets them: a text of digits a row."""

from typing import Any

from arc_helpers.arc import Task, as_grid


def rows_of(grid: Any) -> list[str]:
    """A grid as texts of digits."""
    return ["".join(map(str, row)) for row in as_grid(grid).tolist()]


def task_for_browser(task: Task) -> dict[str, Any]:
    """A task's visible grids: its test outputs are left out, whether they are known or not."""
    train = [(rows_of(pair.input), rows_of(pair.output)) for pair in task.train]
    return {"id": task.id, "train": train, "test": [(rows_of(pair.input), None) for pair in task.test]}

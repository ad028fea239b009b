"""What became of a task: an object, plain JSON that reads back as the same object, and text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arc_helpers.arc import as_grid, grid_to_string
from arc_helpers.ttt.select import Ranked

NOT_FINITE = {str(value): value for value in (math.nan, math.inf, -math.inf)}  # JSON has no such numbers


@dataclass
class TaskResult:
    """What a task ended with.

    `ranked[i]` are the distinct answers to test input i, best first; `attempts[i]` the two that are submitted, or
    the fallback where no view gave a valid grid. `losses` is one number a training step. A task that failed has
    an `error`, one line, and nothing else. `stats` are numbers of the group it was trained in (seconds, tokens a
    second, …), one object for all of the group's tasks; they are no result, and are not written with it.
    """

    task_id: str
    attempts: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    ranked: list[list[Ranked]] = field(default_factory=list)
    losses: np.ndarray = field(default_factory=lambda: np.empty(0))
    notes: list[str] = field(default_factory=list)
    error: str = ""
    stats: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def status(self) -> str:
        """One of "answered", "fallback" (some test input has no answer) and "error"."""
        if self.error:
            return "error"
        return "answered" if all(self.ranked) else "fallback"

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON's own types."""
        return {name: _plain(value) for name, value in vars(self).items() if name != "stats"}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "TaskResult":
        """What to_dict wrote. Raises ValueError, KeyError or TypeError where it did not."""
        return cls(
            task_id=record["task_id"],
            attempts=[(as_grid(first), as_grid(second)) for first, second in record["attempts"]],
            ranked=[[_ranked(answer) for answer in answers] for answers in record["ranked"]],
            losses=np.array([NOT_FINITE.get(loss, loss) for loss in record["losses"]], dtype=float),
            notes=list(record["notes"]),
            error=record["error"],
        )


def prediction_text(result: TaskResult) -> str:
    """The seed's text form of a task's attempts. It holds no true output: the scoring step adds those."""
    parts = [f"TASK {result.task_id}"]
    for i, (attempts, ranked) in enumerate(zip(result.attempts, result.ranked, strict=True), start=1):
        if not ranked:
            parts.append(f"MODEL OUTPUT {i}\n(no valid grid)")
            continue
        for n, grid in enumerate(attempts, start=1):
            parts.append(f"MODEL OUTPUT {i}, attempt {n}\n{grid_to_string(grid)}")
    return "\n\n".join(parts) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Ranked):
        return {name: _plain(item) for name, item in vars(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _ranked(record: Mapping[str, Any]) -> Ranked:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    fields = {name: NOT_FINITE.get(value, value) if isinstance(value, str) else value for name, value in fields.items()}
    return Ranked(**{**fields, "grid": as_grid(record["grid"])})

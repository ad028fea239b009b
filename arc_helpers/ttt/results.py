"""What became of a task, as an object, plain JSON and text; and what makes a run continue where it was killed.

`groups.json` is written before the first group starts. It freezes which tasks train together, since that decides the
last digits of a result, and says for which model, settings and tasks it holds. `results/<task id>.json` is written
when a group is done. A group counts as done when all of its tasks have their file; else all of it is done again.
"""

import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arc_helpers.arc import Task, as_grid, grid_to_string, safe_name
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import first_change, seal_json, usable
from arc_helpers.ttt.ranking import Ranked
from arc_helpers.ttt.settings import TTTSettings

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


SAMPLED = 2**28  # bytes of weights that are hashed


HOW = ("tokens_at_once", "activation_checkpointing")  # settings that change memory and time, and no result


class ResumeError(ValueError):
    """A run cannot be continued as asked. One line, naming what differs."""


class Journal:
    """The durable side of a run in one folder.

    identity: what the results depend on, as `identify` returns it. groups: ids of the tasks that train together.
    resume: continue what is in the folder, if there is anything; its groups then replace those given. Without it,
        what an earlier run left is removed. Raises ResumeError where its identity differs.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], groups: Sequence[Sequence[str]], resume: bool):
        self._plan, self._results = Path(folder) / "groups.json", Path(folder) / "results"
        self._run = _crc(json.dumps(identity, sort_keys=True).encode())
        self.groups = [list(group) for group in groups]
        if resume and usable(self._plan):
            plan = json.loads(self._plan.read_text(encoding="utf-8"))
            changed = first_change(plan["identity"], identity)
            if changed:
                raise ResumeError(f"{folder}: this run cannot be resumed: {changed}; start in another folder")
            self.groups = plan["groups"]
            return
        if not resume:  # a plan that is damaged is made again, for groups follow from the tasks and the settings
            self._plan.unlink(missing_ok=True)  # first: without it, no result counts
            for file in self._results.glob("*.json"):
                file.unlink()
        seal_json(self._plan, {"identity": identity, "groups": self.groups})

    def read(self, group: Iterable[str]) -> list[TaskResult] | None:
        """The results of a group that is done, else None."""
        results = [self._read(task_id) for task_id in group]
        return None if None in results else results

    def write(self, results: Iterable[TaskResult]) -> None:
        """Make a group's results durable."""
        for result in results:
            file = self._results / f"{safe_name(result.task_id)}.json"
            seal_json(file, {"run": self._run, **result.to_dict()}, indent=None)

    def _read(self, task_id: str) -> TaskResult | None:
        file = self._results / f"{safe_name(task_id)}.json"
        if not usable(file):
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
        # a file of another run, or under another's name, is whole and yet not this task's result
        return TaskResult.from_dict(record) if (record["run"], record["task_id"]) == (self._run, task_id) else None


def identify(lm: LoadedLM, tasks: Iterable[Task], settings: TTTSettings) -> dict[str, Any]:
    """All that a result depends on, flat: {name: number or text}. Answers are not looked at."""
    return {
        "model": lm.name,
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "weights": weights_hash(lm.model),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "max_len": lm.max_len,
        "form": _crc(repr(lm.prompt_form).encode()),
        **{name: value for name, value in dataclasses.asdict(settings).items() if name not in HOW},
        **{f"task {task.id}": _crc(json.dumps(task.without_answers().to_dict()).encode()) for task in tasks},
    }


def weights_hash(model: torch.nn.Module) -> str:
    """Of a model's config and of all numbers of its weights; of more than `SAMPLED` bytes, of so many evenly spread."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    every = max(1, -(-size // SAMPLED))
    config = getattr(model, "config", None)
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True, default=str).encode() if config else b"")
    for p in model.parameters():
        digest.update(p.detach().reshape(-1)[::every].cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _crc(*parts: bytes) -> str:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"

"""What makes a run continue where it was killed: its groups, what they depend on, and a file for each result.

`groups.json` is written before the first group starts. It freezes which tasks train together, since that decides the
last digits of a result, and says for which model, settings and tasks it holds. `results/<task id>.json` is written
when a group is done. A group counts as done when all of its tasks have their file; else all of it is done again.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from arc_helpers.arc import Task, safe_name
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import atomic_write_json
from arc_helpers.ttt.result import TaskResult
from arc_helpers.ttt.settings import TTTSettings

SAMPLE = 256  # numbers of each weight matrix that go into its fingerprint


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
        self.groups = [list(group) for group in groups]
        if resume and self._plan.exists():
            plan = json.loads(self._plan.read_text(encoding="utf-8"))
            changed = _first_change(plan["identity"], identity)
            if changed:
                raise ResumeError(f"{folder}: this run cannot be resumed: {changed}; to start anew, delete groups.json")
            self.groups = plan["groups"]
            return
        self._plan.unlink(missing_ok=True)  # first: without it, no result counts
        for file in self._results.glob("*.json"):
            file.unlink()
        atomic_write_json(self._plan, {"identity": identity, "groups": self.groups})

    def read(self, group: Iterable[str]) -> list[TaskResult] | None:
        """The results of a group that is done, else None."""
        results = [self._read(task_id) for task_id in group]
        return None if None in results else results

    def write(self, results: Iterable[TaskResult]) -> None:
        """Make a group's results durable."""
        for result in results:
            atomic_write_json(self._results / f"{safe_name(result.task_id)}.json", result.to_dict(), indent=None)

    def _read(self, task_id: str) -> TaskResult | None:
        try:
            return TaskResult.from_dict(
                json.loads((self._results / f"{safe_name(task_id)}.json").read_text(encoding="utf-8"))
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # no such file, or a damaged one
            return None


def identify(lm: LoadedLM, tasks: Iterable[Task], settings: TTTSettings) -> dict[str, Any]:
    """All that a result depends on, flat: {name: number or text}. Answers are not looked at."""
    return {
        "model": lm.name,
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "weights": _weights_crc(lm.model),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "max_len": lm.max_len,
        **dataclasses.asdict(settings),
        **{f"task {task.id}": _crc(json.dumps(task.without_answers().to_dict()).encode()) for task in tasks},
    }


def _first_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    for name in {**before, **now}:
        if name not in now:
            return f"{name} is missing now"
        if name not in before:
            return f"{name} is new"
        if before[name] != now[name]:
            return f"{name} was {before[name]} and is {now[name]} now"
    return None


def _weights_crc(model: torch.nn.Module) -> str:
    """Of the first numbers of every weight: quick for a large model, and another one after any training."""
    samples = [p.detach().reshape(-1)[:SAMPLE].cpu().contiguous().view(torch.uint8) for p in model.parameters()]
    return _crc(*(sample.numpy().tobytes() for sample in samples))


def _crc(*parts: bytes) -> str:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"

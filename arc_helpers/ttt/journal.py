"""What makes a run continue where it was killed: its groups, what they depend on, and a file for each result.

`groups.json` is written before the first group starts. It freezes which tasks train together, since that decides the
last digits of a result, and says for which model, settings and tasks it holds. `results/<task id>.json` is written
when a group is done. A group counts as done when all of its tasks have their file; else all of it is done again.
"""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from arc_helpers.arc import Task, safe_name
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import first_change, seal_json, usable
from arc_helpers.ttt.result import TaskResult
from arc_helpers.ttt.settings import TTTSettings

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

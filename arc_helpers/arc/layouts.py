"""One recogniser for the layouts that puzzles come in: what a JSON value is, and the tasks under any folder or file."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from arc_helpers.arc.grid import short
from arc_helpers.arc.json_file import LINES, read_json, read_lines
from arc_helpers.arc.task import TaskError

log = logging.getLogger(__name__)
SUFFIXES = (".json", *LINES)
SKIPPED = "__MACOSX"  # what macOS puts into every zip
MAX_ENTRIES = 200_000  # files and folders looked at; all public sets together have about 30,000
SHOWN = 4  # files named in a message
#: what a value is, and where it belongs if it holds no tasks
KINDS = {
    "task": "a task",
    "challenges": "a challenges file: give its own path",
    "tasks": "a list of tasks: give its own path",
    "solutions": "a solutions file: give it as solutions=",
    "submission": "a submission: `validate`, `score` and `merge` read it",
    "answers": "a task's answers in the benchmarking layout: `validate` and `score` read their folder as a submission",
    "pairs": "a list of generated pairs as in RE-ARC: notebook 00 reads their folder as re_arc=",
    "grid": "a bare grid, not a task",
    "model": "a model's config: give its folder as model_dir=",
}


def kind_of(value: object) -> str:
    """Which of KINDS a JSON value is, or "other"."""
    if isinstance(value, dict):
        return _kind_of_mapping(value)
    if not isinstance(value, list) or not value:
        return "other"
    if any(_is_task(item) for item in value):
        return "tasks"
    if all(isinstance(item, dict) and "input" in item for item in value):
        return "pairs"
    if all(isinstance(item, dict) and any(str(name).startswith("attempt_") for name in item) for item in value):
        return "answers"
    return "grid" if _is_grid(value) else "other"


def _kind_of_mapping(value: Mapping) -> str:
    if _is_task(value):
        return "task"
    if "architectures" in value or "model_type" in value:
        return "model"
    entries = list(value.values())
    if any(_is_task(entry) for entry in entries):
        return "challenges"
    lists = [entry for entry in entries if isinstance(entry, list) and entry]
    if not lists or len(lists) < len(entries) / 2:
        return "other"
    first = lists[0][0]
    if isinstance(first, dict):
        return "submission" if any(str(name).startswith("attempt_") for name in first) else _solutions(first)
    return "solutions" if _is_grid(lists[0]) or _is_grid(first) else "other"


def _solutions(entry: Mapping) -> str:
    return "solutions" if "output" in entry else "other"


def _is_task(value: object) -> bool:
    return isinstance(value, dict) and ("train" in value or "test" in value)


def _is_grid(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list) and not isinstance(value[0][:1], dict)


def explain(value: object) -> str:
    """What a value that was meant for tasks is, and where it belongs."""
    if isinstance(value, TaskError):
        return str(value)
    return "is " + KINDS[kind_of(value)] if kind_of(value) in KINDS else f"holds no tasks, but {short(value)}"


# --- one file


def file_entries(file: Path) -> Iterator[tuple[str, Any]]:
    """(id, mapping) of every task of one file; a mapping that could not be read is a TaskError.

    A single task's id is its field "id", else the file's name. Raises TaskError if the file holds no tasks.
    """
    if is_lines(file):
        yield from _line_entries(file)
        return
    content = read_json(file)
    kind = kind_of(content)
    if kind == "task":
        yield own_id(content, stem(file)), content
    elif kind == "challenges":
        yield from content.items()  # type: ignore[attr-defined]  # it is a mapping
    elif kind == "tasks":
        for i, entry in enumerate(content):  # type: ignore[arg-type]  # it is a list
            yield own_id(entry, f"{stem(file)}-{i}"), entry
    else:
        raise TaskError(f"{file}: {explain(content)}")


def _line_entries(file: Path) -> Iterator[tuple[str, Any]]:
    found = 0
    for number, value in read_lines(file):
        if isinstance(value, dict) and "examples" in value and not _is_task(value):
            raise TaskError(f"{file}: line {number}: is {KINDS['pairs'].replace('their folder', 'this file')}")
        found += 1
        yield own_id(value, f"{stem(file)}-{number}"), value
    if not found:
        raise TaskError(f"{file}: holds no tasks, it is empty")


def own_id(entry: object, otherwise: str) -> str:
    """The id that a task carries with it."""
    carried = entry.get("id", entry.get("task_id")) if isinstance(entry, dict) else None
    return carried if isinstance(carried, str) else otherwise


def stem(file: Path) -> str:
    """A file's name without .json, .jsonl or .jsonl.xz."""
    name = file.name.removesuffix(".xz")
    return name.rsplit(".", 1)[0]


def is_lines(file: Path) -> bool:
    """Whether it holds a value a line."""
    return file.name.lower().endswith(LINES)


# --- a folder


def data_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Every file with one of the suffixes under a folder, in the order of their paths; not those whose name, or
    whose folder's name, begins with a dot, and not those of __MACOSX. Raises TaskError beyond MAX_ENTRIES."""
    files: list[Path] = []
    seen, looked_at = set(), 0
    for here, folders, names in os.walk(folder, followlinks=True):
        looked_at += len(folders) + len(names)
        if looked_at > MAX_ENTRIES:
            raise TaskError(f"{folder}: holds more than {MAX_ENTRIES:,} files: name the folder of the tasks")
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name != SKIPPED]
        files += [Path(here, name) for name in names if name.lower().endswith(suffixes) and not name.startswith(".")]
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def folder_entries(folder: Path) -> list[tuple[str, Any]]:
    """(id, mapping) of every task under a folder; a mapping that could not be read is a TaskError.

    Files of one task each are the rule; where there is none, files of many (lists and lines) are read; else the one
    challenges file, or the one that sample_submission.json answers. What is left out is logged, a line a file.
    Raises TaskError, which says file by file why, where there are no tasks.
    """
    files = data_files(folder)
    if not files:
        raise TaskError(f"{folder}: the folder holds no *.json or *.jsonl file")
    singles, others = _sorted_out(files)
    many = [file for file, why in others.items() if why == KINDS["tasks"]]
    if singles:
        entries = _named_apart(folder, singles)
    elif many:
        entries = [entry for file in many for entry in file_entries(file)]
    else:
        chosen = _challenges_of(folder, others)
        log.warning("%s: of %d files, %s is read", folder, len(files), chosen.relative_to(folder))
        return list(file_entries(chosen))
    for line in _file_by_file(folder, {f: why for f, why in others.items() if singles or f not in many}):
        log.warning("%s: left out: %s", folder, line)
    return entries


def _sorted_out(files: list[Path]) -> tuple[dict[Path, Any], dict[Path, str]]:
    """{file: task or TaskError} of the files of one task, and {file: what it is} of the rest."""
    singles: dict[Path, Any] = {}
    others: dict[Path, str] = {}
    for file in files:
        if is_lines(file):
            others[file] = KINDS["tasks"]
            continue
        try:
            content = read_json(file)
        except TaskError as error:
            singles[file] = error
            continue
        if kind_of(content) == "task":
            singles[file] = content
        else:
            others[file] = explain(content).removeprefix("is ")
    if all(isinstance(content, TaskError) for content in singles.values()):  # then a broken file is no task either
        others |= {file: f"cannot be read: {error}" for file, error in singles.items()}
        singles = {}
    return singles, others


def _named_apart(folder: Path, singles: Mapping[Path, Any]) -> list[tuple[str, Any]]:
    """Each task with its id; tasks of one id in several folders are called by their paths."""
    ids = {file: own_id(content, stem(file)) for file, content in singles.items()}
    counts = Counter(ids.values())
    return [
        (ids[file] if counts[ids[file]] == 1 else file.relative_to(folder).with_name(stem(file)).as_posix(), content)
        for file, content in singles.items()
    ]


def _challenges_of(folder: Path, others: Mapping[Path, str]) -> Path:
    """The challenges file of a competition's folder. Raises TaskError where there is none, or no telling which."""
    found = [file for file, why in others.items() if why == KINDS["challenges"]]
    samples = [file for file, why in others.items() if why == KINDS["submission"] and "sample" in file.name]
    if len(found) > 1 and len(samples) == 1:
        wanted = read_json(samples[0])
        fitting = [file for file in found if set(read_json(file)) == set(wanted)]  # type: ignore[call-overload]
        found = fitting or found
        found = [file for file in found if "test" in file.name] if len(found) > 1 else found
    if len(found) == 1:
        return found[0]
    lines = list(_file_by_file(folder, others))
    more = f" (and {len(lines) - SHOWN} more)" if len(lines) > SHOWN else ""
    raise TaskError(f"{folder}: 0 of {len(others)} files are tasks: {'; '.join(islice(lines, SHOWN))}{more}")


def _file_by_file(folder: Path, others: Mapping[Path, str]) -> Iterator[str]:
    for file, why in others.items():
        yield (
            f"{file.relative_to(folder)} is {why}"
            if not why.startswith(("holds", "cannot"))
            else (f"{file.relative_to(folder)} {why}")
        )

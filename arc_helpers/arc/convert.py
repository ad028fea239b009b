"""Readers for training data that has a layout of its own: RE-ARC and ConceptARC.

Both come as their official folders of JSON files, or as .jsonl or .jsonl.xz with one line a task.
"""

import lzma
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from arc_helpers.arc.grid import short
from arc_helpers.arc.json_file import parse_json, read_json
from arc_helpers.arc.task import Pair, Task, TaskError, read_pairs, shown_id


def re_arc(path: str | PathLike, limit_per_task: int | None = None) -> dict[str, list[Pair]]:
    """RE-ARC's generated pairs of every task, {id: pairs}; at most `limit_per_task` of each if given.

    `path`: the official re_arc folder (or its tasks/) with <id>.json, each a list of {"input", "output"};
    or a file with lines {"id", "examples": [...]}. Raises TaskError with one line.
    """
    path = Path(path)
    records: Iterator[tuple[str, Any]]
    if path.is_dir():
        folder = path / "tasks" if (path / "tasks").is_dir() else path
        records = ((file.stem, {"examples": read_json(file)}) for file in _json_files(folder, "*.json"))
    else:
        records = _lines(path)
    pairs_of: dict[str, list[Pair]] = {}
    for task_id, record in records:
        _refuse_repeated(task_id, pairs_of)
        examples = record.get("examples")
        if limit_per_task is not None and isinstance(examples, list):
            examples = examples[:limit_per_task]
        pairs = read_pairs(task_id, {"examples": examples}, "examples")
        for i, pair in enumerate(pairs):
            if pair.output is None:
                raise TaskError(f"task {shown_id(task_id)}: examples[{i}].output: is missing")
        pairs_of[task_id] = list(pairs)
    return pairs_of


def concept_arc(path: str | PathLike) -> list[Task]:
    """ConceptARC's tasks. `path`: the official corpus folder, which has a folder for each concept with
    <id>.json files, or a file with lines {"id", "train", "test"}. Raises TaskError with one line.
    """
    path = Path(path)
    records: Iterator[tuple[str, Any]]
    if path.is_dir():
        records = ((file.stem, read_json(file)) for file in _json_files(path, "**/*.json"))
    else:
        records = _lines(path)
    tasks: dict[str, Task] = {}
    for task_id, record in records:
        _refuse_repeated(task_id, tasks)
        tasks[task_id] = Task.from_dict(task_id, record, source="concept_arc")
    return list(tasks.values())


def _json_files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise TaskError(f"{folder}: the folder holds no *.json file")
    return files


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(id, record) of every line of a .jsonl or .jsonl.xz file, one line in memory at a time."""
    if not path.is_file() or not path.name.endswith((".jsonl", ".jsonl.xz")):
        raise TaskError(f"{path}: allowed are an existing folder, .jsonl or .jsonl.xz file")
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _record(line, f"{path}: line {number}")
    except (lzma.LZMAError, EOFError) as error:
        raise TaskError(f"{path}: is not a complete xz file: {error}") from None


def _record(line: bytes, where: str) -> tuple[str, dict]:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise TaskError(f"{where}: {error}") from None
    if not (isinstance(record, dict) and isinstance(record.get("id"), str)):
        raise TaskError(f"{where}: expected a mapping with an 'id', got {short(record)}")
    return record["id"], record


def _refuse_repeated(task_id: str, seen: dict) -> None:
    if task_id in seen:
        raise TaskError(f"task {shown_id(task_id)}: appears twice; ids must be unique")

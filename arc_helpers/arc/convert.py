"""Training data that is not made of test questions: RE-ARC's generated pairs, and ConceptARC beside it.

Both come as their official folders of JSON files, or as .jsonl or .jsonl.xz with one line a task.
"""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from arc_helpers.arc.grid import short
from arc_helpers.arc.json_file import LINES, read_json, read_lines
from arc_helpers.arc.layouts import data_files, is_lines, kind_of, stem
from arc_helpers.arc.sources import load_tasks
from arc_helpers.arc.task import Pair, Task, TaskError, read_pairs, shown_id


def re_arc(path: str | PathLike, limit_per_task: int | None = None) -> dict[str, list[Pair]]:
    """RE-ARC's generated pairs of every task, {id: pairs}; at most `limit_per_task` of each if given.

    `path`: the official re_arc folder (or its tasks/) with <id>.json, each a list of {"input", "output"};
    or a file with lines {"id", "examples": [...]}. Raises TaskError with one line.
    """
    path = Path(path)
    pairs_of: dict[str, list[Pair]] = {}
    for task_id, examples in _pair_files(path) if path.is_dir() else _pair_lines(path):
        if task_id in pairs_of:
            raise TaskError(f"task {shown_id(task_id)}: appears twice; ids must be unique")
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
    return load_tasks(path)


def _pair_files(folder: Path) -> Iterator[tuple[str, Any]]:
    files = data_files(folder, (".json",))
    if not files:
        raise TaskError(f"{folder}: the folder holds no *.json file")
    contents = {file: read_json(file) for file in files if file.name != "metadata.json"}  # of the official folder
    for file, content in contents.items():
        if kind_of(content) != "pairs":
            raise TaskError(f"{file}: expected a list of pairs, got {short(content)}")
        yield stem(file), content


def _pair_lines(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.is_file() or not is_lines(path):
        raise TaskError(f"{path}: allowed are an existing folder, {' or '.join(LINES)} file")
    for number, record in read_lines(path):
        if isinstance(record, TaskError):
            raise record
        if not (isinstance(record, dict) and isinstance(record.get("id"), str)):
            raise TaskError(f"{path}: line {number}: expected a mapping with an 'id', got {short(record)}")
        yield record["id"], record.get("examples")

"""Documents to train on: what every Python brings along, ARC tasks as text, local files, or a hub data set."""

import ast
import functools
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from arc_helpers.arc import Task, find_overlap, grid_to_string, load_tasks
from arc_helpers.liza.repair import LizaError
from arc_helpers.runs import resolve_path

OFFLINE = ("stdlib", "arc", "offline")
COLUMNS = ("text", "prompt")  # the first that a record has
HELD_OUT = 10  # one document in so many, by the checksum of its name


def load_documents(dataset: str = "offline", n: int | None = None, column: str | None = None) -> list[str]:
    """At most n training documents.

    dataset: "stdlib" (the documentation inside Python's standard library), "arc" (ARC-AGI-1 training tasks as text),
    "offline" (both in turn), a .jsonl or .txt file, a folder of them, or a hub id, which needs a network.
    column: the records' text column; None takes the first of COLUMNS. Raises LizaError, one line.
    """
    if dataset in OFFLINE:
        documents = [text for name, text in _offline(dataset) if not is_held_out(name)]
    else:
        documents = list(_records(dataset, column))
    documents = [text for text in documents[: n or None] if text.strip()]
    if not documents:
        raise LizaError(f"dataset = {dataset!r}: holds no text")
    return documents


def held_out_documents(dataset: str = "stdlib") -> list[str]:
    """The documents of an offline set that `load_documents` never returns."""
    if dataset not in OFFLINE:
        raise LizaError(f"dataset = {dataset!r}: must be one of {', '.join(OFFLINE)}")
    return [text for name, text in _offline(dataset) if is_held_out(name)]


def is_held_out(name: str) -> bool:
    """Whether the document of this name is kept for evaluation."""
    return zlib.crc32(name.encode()) % HELD_OUT == 0


def arc_prompt(task: Task) -> str:
    """A task as text: demonstrations, then the test inputs, with their answers where the task has them."""
    pairs = [*task.train, *task.test]
    return "\n\n".join(
        f"Input:\n{grid_to_string(pair.input)}\nOutput:\n{'' if pair.output is None else grid_to_string(pair.output)}"
        for pair in pairs
    )


@functools.cache  # reading the library's modules takes seconds
def _offline(dataset: str) -> list[tuple[str, str]]:
    if dataset != "offline":
        return list(_stdlib() if dataset == "stdlib" else _arc())
    texts, tasks = _offline("stdlib"), _offline("arc")
    mixed = [pair for pairs in zip(texts, tasks, strict=False) for pair in pairs]
    return mixed + texts[len(tasks) :] + tasks[len(texts) :]


def _stdlib() -> Iterator[tuple[str, str]]:
    """(name, text): the help topics and, for each module, its docstrings."""
    from pydoc_data.topics import topics

    yield from sorted(topics.items())
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docstrings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        if any(docstrings):
            yield path.stem, "\n\n".join(filter(None, docstrings))


def _arc() -> Iterator[tuple[str, str]]:
    tasks = load_tasks("arcagi1/training")
    scored = find_overlap(
        tasks, load_tasks("arcagi1/evaluation")
    )  # one training task repeats an evaluation task's pairs
    for task in tasks:
        if task.id not in scored:
            yield task.id, arc_prompt(task)


def _records(dataset: str, column: str | None) -> Iterator[str]:
    path = resolve_path(dataset)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".jsonl", ".txt"))
        if not files:
            raise LizaError(f"dataset = {dataset!r}: the folder holds no .jsonl and no .txt file")
        for file in files:
            yield from _file(file, column)
    elif path.is_file():
        yield from _file(path, column)
    elif re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", dataset) and not path.parent.is_dir():
        yield from _hub(dataset, column)
    else:
        raise LizaError(f"dataset = {dataset!r}: must be one of {', '.join(OFFLINE)}, a file, a folder or a hub id")


def _file(file: Path, column: str | None) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".txt":
        yield text
        return
    if file.suffix != ".jsonl":
        raise LizaError(f"{file}: must end in .jsonl or .txt")
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise LizaError(f"{file}, line {number}: not JSON ({error.msg})") from None
        yield _text_of(record, column, f"{file}, line {number}")


def _hub(dataset: str, column: str | None) -> Iterator[str]:
    from datasets import load_dataset

    from arc_helpers.lm.door import hub_token

    for number, record in enumerate(load_dataset(dataset, split="train", token=hub_token()), start=1):
        yield _text_of(record, column, f"{dataset}, record {number}")


def _text_of(record, column: str | None, where: str) -> str:
    columns = (column,) if column else COLUMNS
    if isinstance(record, dict):
        for name in columns:
            if isinstance(record.get(name), str):
                return record[name]
    found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
    raise LizaError(f"{where}: has no text column {' or '.join(columns)} (it has {found})")

"""Documents to train on: what every Python brings along, ARC tasks as text, or texts of the user's."""

import functools
import zlib
from collections.abc import Iterator

from arc_helpers.arc import Task, find_overlap, grid_to_string, load_tasks
from arc_helpers.texts import Documents, TextError, python_docstrings, python_topics, read_documents

OFFLINE = ("stdlib", "arc", "offline")
HELD_OUT = 10  # one document in so many, by the checksum of its name


def load_documents(dataset: str = "offline", n: int | None = None) -> list[str]:
    """At most n training documents.

    dataset: "stdlib" (the documentation inside Python's standard library), "arc" (ARC-AGI-1 training tasks as text),
    "offline" (both in turn), or what `texts.read_documents` takes: a file, a folder, a hub id. Raises TextError.
    """
    if dataset in OFFLINE:
        documents = [text for name, text in _offline(dataset) if not is_held_out(name)]
    else:
        documents = _own(dataset).train
    return documents[: n or None]


def held_out_documents(dataset: str = "stdlib") -> list[str]:
    """The documents of a set that `load_documents` never returns. Raises TextError."""
    if dataset in OFFLINE:
        return [text for name, text in _offline(dataset) if is_held_out(name)]
    found = _own(dataset)
    return [*found.held_out, *found.test]


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


def _own(dataset: str) -> Documents:
    try:
        return read_documents(dataset)
    except TextError as error:
        raise TextError(f"dataset = {dataset}: must be {', '.join(OFFLINE)}, or texts ({error})") from None


@functools.cache  # reading the library's modules takes seconds
def _offline(dataset: str) -> list[tuple[str, str]]:
    if dataset == "stdlib":
        return [*python_topics(), *python_docstrings()]
    if dataset == "arc":
        return list(_arc())
    texts, tasks = _offline("stdlib"), _offline("arc")
    mixed = [pair for pairs in zip(texts, tasks, strict=False) for pair in pairs]
    return mixed + texts[len(tasks) :] + tasks[len(texts) :]


def _arc() -> Iterator[tuple[str, str]]:
    tasks = load_tasks("arcagi1/training")
    scored = find_overlap(
        tasks, load_tasks("arcagi1/evaluation")
    )  # one training task repeats an evaluation task's pairs
    for task in tasks:
        if task.id not in scored:
            yield task.id, arc_prompt(task)

"""The guard between what a model was pretrained on and what it is scored on."""

from collections.abc import Iterable

from arc_helpers.arc.task import Pair, Task


class SplitError(ValueError):
    """Pretraining would see what is being scored; the message is one line and names what is shared."""


def check_split(pretrain: Iterable[Task], scored: Iterable[Task]) -> None:
    """Raise SplitError if the two sets share a task id or an identical (input, output) pair.

    Demonstrations and test pairs both count; a test pair without its output cannot be compared. Ids alone are
    not enough: ARC-AGI-1's training task 40853293 has three pairs of its evaluation task 070dd51e.
    """
    overlap = find_overlap(pretrain, scored)
    by_id = [task_id for task_id, twin in overlap.items() if task_id == twin]
    by_pair = [f"{task_id} = {twin}" for task_id, twin in overlap.items() if task_id != twin]
    found = [
        f"{len(tasks)} by {what} ({', '.join(tasks[:3])}{', ...' if len(tasks) > 3 else ''})"
        for tasks, what in ((by_id, "id"), (by_pair, "identical pair"))
        if tasks
    ]
    if found:
        raise SplitError(f"pretraining tasks that are also scored: {' and '.join(found)}; allowed are none")


def find_overlap(pretrain: Iterable[Task], scored: Iterable[Task]) -> dict[str, str]:
    """{id of a pretraining task: id of the scored task it shares its id or a pair with}.

    A training set without these tasks passes `check_split`.
    """
    ids = set()
    twins: dict[Pair, str] = {}
    for task in scored:
        ids.add(task.id)
        twins |= dict.fromkeys(_known_pairs(task), task.id)
    overlap = {}
    for task in pretrain:
        shared = [task.id] if task.id in ids else [twins[pair] for pair in _known_pairs(task) if pair in twins]
        if shared:
            overlap[task.id] = shared[0]
    return overlap


def _known_pairs(task: Task) -> list[Pair]:
    return [pair for pair in task.train + task.test if pair.output is not None]

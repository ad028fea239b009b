"""What the data of a run are, and what is wrong with them, before the work begins: (about, text, whether it is bad)."""

from collections.abc import Iterator
from typing import Any

from arc_helpers.arc.benchmark import load_benchmark
from arc_helpers.arc.sources import TaskFault, choose_tasks, load_tasks
from arc_helpers.arc.task import Task, TaskError
from arc_helpers.runs.env import resolve_path

Finding = tuple[str, str, bool]
SHOWN = 5  # faults that are told one by one


def tasks(config: Any) -> Iterator[Finding]:
    """Notebook 02: tasks to solve, and the solutions that they are scored by."""
    faults: list[TaskFault] = []
    chosen = load_tasks(config.data_dir, faults=faults)
    chosen = choose_tasks(chosen, ids=config.task_ids, max_side=config.max_side, limit=config.max_tasks)
    yield from _counted("data_dir", chosen, faults)
    if not config.solutions:
        return
    about, ids = f"solutions = {config.solutions}", [task.id for task in chosen]
    missing = load_benchmark(config.data_dir, solutions=config.solutions, ids=ids).without_solution
    if missing:
        text = f"{len(missing)} of {len(chosen)} tasks have none that fits, the first: {missing[0].message}"
        yield about, text, True
    else:
        yield about, f"for all {len(chosen)} tasks", False


def asked(config: Any) -> Iterator[Finding]:
    """Notebook 04: the tasks to answer."""
    faults: list[TaskFault] = []
    chosen = choose_tasks(load_tasks(config.data_dir, faults=faults), max_side=config.max_side, limit=config.max_tasks)
    yield from _counted("data_dir", chosen, faults)


def problem(config: Any) -> Iterator[Finding]:
    """Notebook 01: the tasks among which one is shown."""
    faults: list[TaskFault] = []
    found = load_tasks(config.problem_path, faults=faults)
    yield from _counted("problem_path", found, faults)
    if config.task_id and config.task_id not in {task.id for task in found}:
        raise TaskError(f"task_id = {config.task_id}: not among the {len(found)} tasks of {config.problem_path}")


def training(config: Any) -> Iterator[Finding]:
    """Notebook 00: what is trained on."""
    faults: list[TaskFault] = []
    yield from _counted("arc_training", load_tasks(config.arc_training, faults=faults), faults)
    for name in ("re_arc", "concept_arc"):
        if getattr(config, name):
            yield name, str(resolve_path(getattr(config, name), must_exist=True)), False


def subsets(config: Any) -> Iterator[Finding]:
    """Notebook 03: the subsets of a source, and the one that is answered; or a data folder."""
    if config.data:
        yield "data", str(resolve_path(config.data, must_exist=True)), False
        return
    for subset in dict.fromkeys([*config.subsets.split(","), config.test_set_name]):
        if subset != "concept":  # its own reader knows where that is
            faults: list[TaskFault] = []
            yield from _counted(subset, load_tasks(f"{config.source}/{subset}", faults=faults), faults)


def _counted(about: str, found: list[Task], faults: list[TaskFault]) -> Iterator[Finding]:
    asked = sum(len(task.test) for task in found)
    yield about, f"{len(found)} tasks, {asked} test inputs, {len(faults)} unreadable", False
    yield from (("unreadable", fault.message, False) for fault in faults[:SHOWN])

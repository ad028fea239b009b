"""What a submission is scored on. Nothing drops out of it: what cannot be read, or has no solution, counts."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from os import PathLike

from arc_helpers.arc.score import Score, score_submission, wilson_interval
from arc_helpers.arc.sources import TaskFault, load_tasks, read_solutions, with_answers
from arc_helpers.arc.submission import num_tests_of
from arc_helpers.arc.task import Task, TaskError


@dataclass(frozen=True)
class Benchmark:
    """What a submission is scored on: labelled tasks; and those that count as not solved, with the reason."""

    tasks: list[Task]
    unreadable: list[TaskFault]
    without_solution: list[TaskFault]

    @property
    def num_tests(self) -> dict[str, int]:
        """How many answers a submission needs for every task: {id: number}."""
        return num_tests_of(self.tasks, [*self.unreadable, *self.without_solution])


def load_benchmark(
    source: str | PathLike, *, solutions: str | PathLike | None = None, ids: Collection[str] | None = None
) -> Benchmark:
    """Every task of `source` (of `ids` alone, where given) with its answers, from a solutions file or its own.

    Nothing drops out: what cannot be read, or has no solution, is in the benchmark. TaskError, one line, as
    `load_tasks`, and for ids that are not there.
    """
    unreadable: list[TaskFault] = []
    answers = None if solutions is None else read_solutions(solutions)
    tasks = load_tasks(source, faults=unreadable)
    if ids is not None:
        wanted = set(ids)
        missing = sorted(wanted - {task.id for task in tasks} - {fault.id for fault in unreadable})
        if missing:
            raise TaskError(f"{source}: {', '.join(missing[:5])} not among its {len(tasks)} tasks")
        tasks, unreadable = [t for t in tasks if t.id in wanted], [f for f in unreadable if f.id in wanted]
    labelled, without = [], []
    for task in tasks:
        try:
            known = task if answers is None else with_answers(task, answers)
            known.answers()  # raises where it has none
            labelled.append(known)
        except TaskError as error:
            without.append(TaskFault(task.id, str(error), len(task.test)))
    return Benchmark(labelled, unreadable, without)


def score_benchmark(submission: Mapping | str | PathLike, benchmark: Benchmark) -> Score:
    """Score a submission over all of a benchmark. Raises SubmissionError where an answer is not valid, TaskError where
    nothing has a solution: then there is no score."""
    rest = [*benchmark.unreadable, *benchmark.without_solution]
    if not benchmark.tasks:
        raise TaskError(f"not scored: none of {len(rest)} tasks has a solution")
    score = score_submission(submission, benchmark.tasks)
    n_tasks, n_outputs = score.n_tasks + len(rest), score.n_outputs + sum(fault.num_tests for fault in rest)
    total = math.fsum(score.per_task.values())
    low, high = wilson_interval(total, n_tasks)
    return replace(
        score,
        n_tasks=n_tasks,
        task_score=total / n_tasks,
        n_outputs=n_outputs,
        output_score=score.outputs_solved / n_outputs,
        ci_low=low,
        ci_high=high,
        per_task=score.per_task | {fault.id: 0.0 for fault in rest},
        n_unreadable=len(benchmark.unreadable),
        n_without_solution=len(benchmark.without_solution),
    )

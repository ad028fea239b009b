"""The whole way of a run: tasks in, adapters trained, answers decoded and ranked, every result on disk at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from arc_helpers.arc import SubmissionWriter, Task, TaskFault, safe_name
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import Deadline, Hung, RunLog, append_record, atomic_write_text, plain, progress, unless_hung
from arc_helpers.ttt.budget import Budget, difference, size_of
from arc_helpers.ttt.features import task_features
from arc_helpers.ttt.group import OnLosses, solve_group, solve_or_split
from arc_helpers.ttt.grouping import group_tasks
from arc_helpers.ttt.limits import Limits
from arc_helpers.ttt.multilora import adapter_shapes
from arc_helpers.ttt.results import Journal, TaskResult, identify, prediction_text
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.workers import solve_on_workers

Work = Iterator[tuple[Sequence[Task], list[TaskResult]]]  # groups and their results, as they are done


@dataclass(frozen=True)
class Counts:
    """How many tasks ended how; `resumed` of them were read back from an earlier, killed run."""

    answered: int = 0
    fallback: int = 0
    errors: int = 0
    out_of_time: int = 0
    resumed: int = 0


class Solved(dict[str, TaskResult]):
    """{task id: result} of the tasks that went through, `counts` of all, and what was not done as asked, in `notes`."""

    counts: Counts = Counts()

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []


def solve_tasks(
    lm: LoadedLM,
    tasks: Sequence[Task],
    settings: TTTSettings,
    log: RunLog,
    writer: SubmissionWriter,
    *,
    faults: Iterable[TaskFault] = (),
    deadline: Deadline | None = None,
    resume: bool = False,
    replan: bool = False,
    workers: int = 1,
    ray_address: str | None = None,
    on_losses: OnLosses = lambda losses: None,
) -> Solved:
    """Solve tasks group by group, short ones first; a failed task costs itself only, and is listed with its error.

    Each result is in results/<id>.json, submission.json, predictions/<id>.txt and tasks.jsonl before the next group
    starts. A group that does not fit into the deadline, by what the groups before took, is not started: its tasks keep
    their fallback attempts and are listed as out of time. One that takes longer than expected, such as the first, stops
    training while there is time to answer, and writing when there is none: a note says so.

    replan: instead, every group is given as many steps and views as leave time for those after it (`budget.best_fit`),
    with a note where that is less than the settings say: for a scored run, in which every task should have its share.

    resume: go on where a killed run in this folder stopped, if there is one. Its groups are kept, what it finished
    is read back, and metrics.jsonl and tasks.jsonl are written again from that; the submission ends with the same
    bytes as if the run had never been killed. Raises ResumeError, one line, where the model, the settings or the
    tasks are not the same; ValueError, one line, where the settings ask for what this base has not (more layers, a
    larger rank).

    workers: from 2 on, groups are solved by so many Ray actors, one a device, on this machine or on the cluster at
    `ray_address`; the attempts are the same, and lines come in the order in which groups are done. With one worker
    Ray is not imported. Raises WorkersError, one line, where there is no Ray or no device.

    Where a device hangs (`runs.unless_hung`), the run ends with what it has; a note says so, and the same command does
    the rest in another process.

    on_losses({task id: loss}) is called after every step of a group that is trained in this process, such as a
    `plot.TrainingMonitor`; with several workers it is not.
    """
    # what this base cannot have is an error now, not one for every task
    adapter_shapes(lm, mode=settings.mode, r=settings.r, target_modules=settings.targets, top_m=settings.top_m)
    by_id = {task.id: task.without_answers() for task in tasks}
    sizes = {task_id: size_of(task, lm.prompt_form, lm.max_len, settings.form) for task_id, task in by_id.items()}
    grouped = group_tasks(
        list(by_id.values()),
        [sizes[task_id].tokens for task_id in by_id],
        settings.k,
        group_tokens=settings.group_tokens,
        strategy=settings.grouping,
        features=partial(task_features, lm),
        seed=settings.seed,
    )
    groups = [[task.id for task in group] for group in grouped]
    journal = Journal(log.out_dir, identify(lm, by_id.values(), settings), groups, resume)
    for table in ("metrics.jsonl", "tasks.jsonl", *(() if resume else ("groups.jsonl",))):
        (log.out_dir / table).unlink(missing_ok=True)
    for fault in faults:
        log.task(fault.id, status="unreadable", error=fault.message)
    solved, statuses = Solved(), Counter()
    if settings.k > len(by_id) > 0:
        solved.notes.append(f"k = {settings.k}: there are only {len(by_id)} tasks, trained in one group")
    done = {i: results for i, group in enumerate(journal.groups) if (results := journal.read(group))}
    pending = [[by_id[task_id] for task_id in group] for i, group in enumerate(journal.groups) if i not in done]
    waiting = [[task.id for task in group] for group in pending]
    budget = Budget(deadline or Deadline(None), waiting, sizes, settings, devices=workers, replan=replan)
    errors = log.out_dir / "errors.log"

    def hung(line: str) -> None:
        log.leave_unfinished()
        solved.notes.append(f"{line}; what is missing is done by the same command, in another process")

    if workers > 1 and pending:
        work = solve_on_workers(
            lm,
            pending,
            budget.settings_for,
            workers=workers,
            errors=errors,
            deadline=budget.deadline,
            address=ray_address,
            fits=budget.fits,
            took=budget.took,
            say=solved.notes.append,
        )
    else:
        work = _solve_here(lm, pending, budget, errors, on_losses, hung)
    statuses["resumed"] = sum(map(len, done.values()))
    recorded = _recorded(work, journal, budget)
    ended: Iterator[tuple[list[str], list[TaskResult]]]
    if workers > 1:
        ended = chain(((journal.groups[i], results) for i, results in done.items()), recorded)
    else:  # in the plan's order, also where a result in the middle was damaged
        ended = ((group, done[i]) if i in done else next(recorded) for i, group in enumerate(journal.groups))
    for group, results in progress(ended, total=len(journal.groups), desc="groups"):
        _report(group, results, log, writer)
        solved.update({result.task_id: result for result in results if not result.error})
        statuses.update(result.status for result in results)
        statuses["out of time"] += len(group) - len(results)
    solved.counts = Counts(
        statuses["answered"], statuses["fallback"], statuses["error"], statuses["out of time"], statuses["resumed"]
    )
    return solved


def _solve_here(
    lm: LoadedLM,
    groups: Sequence[Sequence[Task]],
    budget: Budget,
    errors: Path,
    on_losses: OnLosses,
    hung: Callable[[str], None],
) -> Work:
    limits = Limits.of(budget.asked)
    # a CPU does not hang
    guarded = (lambda work: work()) if lm.device.type == "cpu" else partial(unless_hung, deadline=budget.deadline)
    for group in groups:
        results, before = [], budget.deadline.left
        if budget.fits(group):
            given = budget.settings_for(group)
            limits.deadline = budget.deadline_for(group)
            solve = lambda part, given=given: solve_group(lm, part, given, on_losses, limits)  # noqa: E731
            try:
                results = guarded(partial(solve_or_split, solve, group, budget.deadline, errors))
                budget.took(group, before - budget.deadline.left)
            except Hung as error:
                hung(f"{', '.join(task.id for task in group)}: {error}")
        yield group, results


def _recorded(work: Work, journal: Journal, budget: Budget) -> Iterator[tuple[list[str], list[TaskResult]]]:
    for group, results in work:
        note = difference(budget.asked, budget.settings_for(group)) if results else None
        for result in results:
            result.notes += [note] if note else []
        journal.write(results)
        yield [task.id for task in group], results


def _report(group: Sequence[str], results: Sequence[TaskResult], log: RunLog, writer: SubmissionWriter) -> None:
    """A group's losses, attempts, lines and numbers, in every file that others read."""
    trained = [result for result in results if len(result.losses)]
    for step in range(max((len(result.losses) for result in trained), default=0)):
        log.metric(step, **{f"loss_{r.task_id}": float(r.losses[step]) for r in trained})
    for result in results:
        if result.error:
            log.task(result.task_id, status=result.status, error=result.error)
            continue
        writer.set(result.task_id, result.attempts)
        atomic_write_text(log.out_dir / "predictions" / f"{safe_name(result.task_id)}.txt", prediction_text(result))
        log.task(
            result.task_id,
            status=result.status,
            loss_first=_finite(result.losses[:1]),
            loss_last=_finite(result.losses[-5:]),
            votes=[ranked[0].votes if ranked else 0 for ranked in result.ranked],
            distinct=[len(ranked) for ranked in result.ranked],
            notes=result.notes,
        )
    for stats in {id(result.stats): result.stats for result in results if result.stats}.values():
        together = [result.task_id for result in results if result.stats is stats]
        append_record(log.out_dir / "groups.jsonl", plain({"tasks": together, **stats}))
    done = {result.task_id for result in results}
    for task_id in (task_id for task_id in group if task_id not in done):
        log.task(task_id, status="out of time")


def _finite(losses: np.ndarray) -> float | None:
    return float(losses.mean()) if len(losses) and np.isfinite(losses).all() else None

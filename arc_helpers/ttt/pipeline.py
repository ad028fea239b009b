"""The whole way of a run: tasks in, adapters trained, answers decoded and ranked, every result on disk at once."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import SubmissionWriter, Task, TaskFault
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import Deadline, RunLog, atomic_write_text, progress
from arc_helpers.ttt.group import solve_group, solve_or_split
from arc_helpers.ttt.grouping import length_groups
from arc_helpers.ttt.journal import Journal, identify
from arc_helpers.ttt.result import TaskResult, prediction_text
from arc_helpers.ttt.settings import TTTSettings


@dataclass(frozen=True)
class Counts:
    """How many tasks ended how; `resumed` of them were read back from an earlier, killed run."""

    answered: int = 0
    fallback: int = 0
    errors: int = 0
    out_of_time: int = 0
    resumed: int = 0


class Solved(dict[str, TaskResult]):
    """{task id: result} of the tasks that went through, and `counts` of all."""

    counts: Counts = Counts()


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
) -> Solved:
    """Solve tasks group by group, short ones first; a failed task costs itself only, and is listed with its error.

    Each result is in results/<id>.json, submission.json, predictions/<id>.txt and tasks.jsonl before the next group
    starts. A group that does not fit into the deadline, by the pace of the one before, is not started: its tasks keep
    their fallback attempts and are listed as out of time; no task is trained less than the settings say.

    resume: go on where a killed run in this folder stopped, if there is one. Its groups are kept, what it finished
    is read back, and metrics.jsonl and tasks.jsonl are written again from that; the submission ends with the same
    bytes as if the run had never been killed. Raises ResumeError, one line, where the model, the settings or the
    tasks are not the same.
    """
    by_id = {task.id: task.without_answers() for task in tasks}
    lengths = {task_id: _longest(task, lm) for task_id, task in by_id.items()}
    groups = length_groups(list(by_id), list(lengths.values()), settings.k)
    journal = Journal(log.out_dir, identify(lm, by_id.values(), settings), groups, resume)
    for table in ("metrics.jsonl", "tasks.jsonl"):
        (log.out_dir / table).unlink(missing_ok=True)
    for fault in faults:
        log.task(fault.id, status="unreadable", error=fault.message)
    deadline = deadline or Deadline(None)
    pace, solved, statuses = _Pace(deadline), Solved(), Counter()
    for group in progress(journal.groups, desc="groups"):
        results = journal.read(group)
        statuses["resumed"] += len(results or [])
        if results is None:
            tokens = sum(lengths[task_id] for task_id in group)
            results = []
            if pace.fits(tokens):
                with pace.measured(tokens):
                    results = solve_or_split(
                        lambda part: solve_group(lm, part, settings),
                        [by_id[task_id] for task_id in group],
                        deadline,
                        log.out_dir / "errors.log",
                    )
            journal.write(results)
        _report(group, results, log, writer)
        solved.update({result.task_id: result for result in results if not result.error})
        statuses.update(result.status for result in results)
        statuses["out of time"] += len(group) - len(results)
    solved.counts = Counts(
        statuses["answered"], statuses["fallback"], statuses["error"], statuses["out of time"], statuses["resumed"]
    )
    return solved


class _Pace:
    """Whether a group fits into what is left, by the seconds a token took in the group before, which is of like length
    since groups are sorted."""

    def __init__(self, deadline: Deadline):
        self.deadline, self.seconds_a_token = deadline, 0.0

    def fits(self, tokens: int) -> bool:
        return not self.deadline.passed and self.seconds_a_token * tokens <= self.deadline.left

    @contextmanager
    def measured(self, tokens: int) -> Iterator[None]:
        before = self.deadline.left
        yield
        if math.isfinite(before):
            self.seconds_a_token = (before - self.deadline.left) / tokens


def _report(group: Sequence[str], results: Sequence[TaskResult], log: RunLog, writer: SubmissionWriter) -> None:
    """A group's losses, attempts and lines, in every file that others read."""
    trained = [result for result in results if len(result.losses)]
    for step in range(max((len(result.losses) for result in trained), default=0)):
        log.metric(step, **{f"loss_{r.task_id}": float(r.losses[step]) for r in trained})
    for result in results:
        if result.error:
            log.task(result.task_id, status=result.status, error=result.error)
            continue
        writer.set(result.task_id, result.attempts)
        atomic_write_text(log.out_dir / "predictions" / f"{result.task_id}.txt", prediction_text(result))
        log.task(
            result.task_id,
            status=result.status,
            loss_first=_finite(result.losses[:1]),
            loss_last=_finite(result.losses[-5:]),
            votes=[ranked[0].votes if ranked else 0 for ranked in result.ranked],
            distinct=[len(ranked) for ranked in result.ranked],
            notes=result.notes,
        )
    done = {result.task_id for result in results}
    for task_id in (task_id for task_id in group if task_id not in done):
        log.task(task_id, status="out of time")


def _longest(task: Task, lm: LoadedLM) -> int:
    """Tokens of the longest leave-one-out sequence, near enough to sort by."""
    grids = [g for p in task.train for g in (p.input, p.output)] + [p.input for p in task.test]
    return min(lm.max_len, sum(g.size + g.shape[0] + 1 for g in grids))


def _finite(losses: np.ndarray) -> float | None:
    return float(losses.mean()) if len(losses) and np.isfinite(losses).all() else None

"""The whole way of a run: tasks in, adapters trained, answers decoded and ranked, every result on disk at once."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
    starts. A group that does not fit into the deadline, by the pace so far, is not started: its tasks keep their
    fallback attempts and are listed as out of time; no task is trained less than the settings say.

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
    pace, solved, statuses = _Pace(deadline or Deadline(None)), Solved(), Counter()
    for group in progress(journal.groups, desc="groups"):
        results = journal.read(group)
        statuses["resumed"] += len(results or ())
        if results is None:
            results = pace.solve(partial(solve_group, lm, settings=settings), [by_id[i] for i in group], lengths, log)
            journal.write(results)
        _report(group, results, log, writer)
        solved.update((r.task_id, r) for r in results if not r.error)
        statuses.update(r.status for r in results)
        statuses["out of time"] += len(group) - len(results)
    solved.counts = Counts(
        statuses["answered"], statuses["fallback"], statuses["error"], statuses["out of time"], statuses["resumed"]
    )
    return solved

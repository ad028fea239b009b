"""From predictions to votes, pass@k, the recursion curve and a submission. Only `score_*` look at answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import SubmissionWriter, Task, compare_grids, most_voted, wilson_interval, write_ranked
from arc_helpers.trm.prediction import Prediction

PASSES = (1, 2, 5, 10, 100, 1000)


@dataclass(frozen=True, eq=False)
class Voted:
    """A distinct grid, int8 [H, W]: how many views gave it, and how sure the halting head was on average."""

    grid: np.ndarray
    votes: int
    q: float


Votes = dict[tuple[str, int], list[Voted]]


def vote(predictions: Sequence[Prediction], *, segment: int | None = None, pool: bool = False) -> Votes:
    """Distinct answers to each (task, test input), most votes first, then the higher mean q: the published rule.

    segment: which segment's answers count; None is the last one. pool: count different checkpoints together, which
    makes a late checkpoint look better than it is; else ValueError where there are several.
    """
    made_by = {p.checkpoint for p in predictions}
    if len(made_by) > 1 and not pool:
        raise ValueError(
            f"predictions of {len(made_by)} checkpoints ({', '.join(sorted(made_by))}); pool=True if meant"
        )
    segment = max((p.segment for p in predictions), default=0) if segment is None else segment
    answers: dict[tuple[str, int], list[Prediction]] = {}
    for p in predictions:
        if p.segment == segment:
            answers.setdefault((p.task_id, p.index), []).append(p)
    return {
        key: [
            Voted(grid, len(same), float(np.mean([p.q for p in same])))
            for grid, same in most_voted(given, lambda p: p.q)
        ]
        for key, given in answers.items()
    }


def write_votes(writer: SubmissionWriter, votes: Votes, tasks: Sequence[Task]) -> int:
    """Write the two best answers to every test input of each task that has any; returns how many tasks.

    The one answer twice where there is one; a test input without any keeps the fallback. `tasks` need no answers.
    """
    return write_ranked(writer, {key: [voted.grid for voted in ranked] for key, ranked in votes.items()}, tasks)


@dataclass(frozen=True)
class PassAtK:
    """How much is solved with k attempts. A task counts by the share of its outputs (Kaggle's rule).

    [ci_low, ci_high]: 95 % Wilson interval of task_score over tasks.
    """

    k: int
    n_tasks: int
    tasks_solved: float
    task_score: float
    ci_low: float
    ci_high: float
    n_outputs: int
    outputs_solved: int


def score_votes(votes: Votes, tasks: Sequence[Task], passes: Sequence[int] = PASSES) -> list[PassAtK]:
    """pass@k over all of `tasks`, whose answers are read here; a test input without a vote counts as wrong."""
    ranks = {
        (task.id, i): next(
            (
                rank
                for rank, voted in enumerate(votes.get((task.id, i), []))
                if compare_grids(voted.grid, truth).correct
            ),
            None,
        )
        for task in tasks
        for i, truth in enumerate(task.answers())
    }
    scores = []
    for k in passes:
        solved = {key: rank is not None and rank < k for key, rank in ranks.items()}
        per_task = [np.mean([solved[task.id, i] for i in range(len(task.test))]) for task in tasks]
        total = float(np.sum(per_task))
        low, high = wilson_interval(total, len(tasks))
        n_outputs, found = len(solved), sum(solved.values())
        scores.append(PassAtK(k, len(tasks), total, total / max(1, len(tasks)), low, high, n_outputs, found))
    return scores


def score_segments(predictions: Sequence[Prediction], tasks: Sequence[Task]) -> dict[int, float]:
    """The recursion curve, {segment: share of single-view answers that are right}; every view of every test input."""
    truths = {(task.id, i): truth for task in tasks for i, truth in enumerate(task.answers())}
    right: dict[int, list[bool]] = {}
    for p in predictions:
        if (p.task_id, p.index) in truths:
            good = p.grid is not None and compare_grids(p.grid, truths[p.task_id, p.index]).correct
            right.setdefault(p.segment, []).append(good)
    return {segment: float(np.mean(rows)) for segment, rows in sorted(right.items())}

"""Scoring saved predictions: the only step that looks at the answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

from arc_helpers.arc.grid import compare_grids, grid_to_string
from arc_helpers.arc.submission import (
    ATTEMPTS,
    SubmissionError,
    num_tests_of,
    read_submission,
    validate_submission,
)
from arc_helpers.arc.task import Task, safe_name


def wilson_interval(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a proportion; z = 1.959964 gives 95 %. n = 0 says nothing: (0.0, 1.0)."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes: {successes}; allowed are 0 to n = {n}")
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At p = 0 and p = 1 a bound is exactly 0 or 1; rounding may miss it.
    return (0.0 if successes == 0 else max(0.0, center - half)), (1.0 if successes == n else min(1.0, center + half))


@dataclass(frozen=True)
class Score:
    """How many tasks and outputs were solved. An output counts if either attempt equals it exactly.

    task_score is Kaggle's: the mean over tasks of the share of their outputs that are solved (per_task).
    [ci_low, ci_high] is its 95 % Wilson interval over tasks.
    """

    n_tasks: int
    tasks_solved: int
    task_score: float
    n_outputs: int
    outputs_solved: int
    output_score: float
    ci_low: float
    ci_high: float
    per_task: dict[str, float]
    n_unreadable: int = 0  # of n_tasks; they count as not solved
    n_without_solution: int = 0  # as well

    @property
    def caveat(self) -> str:
        """What stands behind a score that is not over whole data, with a comma before it; mostly ""."""
        said = {"unreadable": self.n_unreadable, "without solution": self.n_without_solution}
        return "".join(f", {count} {what}" for what, count in said.items() if count)

    def summary(self) -> dict[str, int | float]:
        """The numbers without the list of tasks: a flat dict."""
        numbers = asdict(self)
        del numbers["per_task"]
        return numbers


def score_submission(submission: Mapping | str | PathLike, tasks: Sequence[Task]) -> Score:
    """Score a submission, given as a mapping or a file, on `tasks`; it may hold other tasks, too.

    Raises TaskError for a task without answers and SubmissionError if the answers to a task are not valid.
    """
    answers = {task.id: task.answers() for task in tasks}
    submission = read_submission(submission)
    submission = {task_id: entry for task_id, entry in submission.items() if task_id in answers}
    problems = validate_submission(submission, num_tests_of(tasks))
    if problems:
        raise SubmissionError(problems[0])
    solved = {
        task_id: [
            any(compare_grids(output[name], truth).correct for name in ATTEMPTS)
            for output, truth in zip(submission[task_id], truths, strict=True)
        ]
        for task_id, truths in answers.items()
    }
    per_task = {task_id: sum(outputs) / len(outputs) for task_id, outputs in solved.items()}
    n_outputs = sum(map(len, solved.values()))
    outputs_solved = sum(map(sum, solved.values()))
    total = math.fsum(per_task.values())
    low, high = wilson_interval(total, len(solved))
    return Score(
        n_tasks=len(solved),
        tasks_solved=sum(map(all, solved.values())),
        task_score=total / max(1, len(solved)),
        n_outputs=n_outputs,
        outputs_solved=outputs_solved,
        output_score=outputs_solved / max(1, n_outputs),
        ci_low=low,
        ci_high=high,
        per_task=per_task,
    )


def wrong_share(attempts: Sequence[tuple], task: Task) -> float:
    """How far two attempts a test input are from the truth: the share of wrong cells of the better one, averaged
    over test inputs. 0 is solved, 1 is all wrong or the wrong size."""
    shares = [
        min(1 - compare_grids(grid, truth).cell_accuracy for grid in grids)
        for grids, truth in zip(attempts, task.answers(), strict=True)
    ]
    return sum(shares) / len(shares)


def write_scored_texts(predictions: str | PathLike, tasks: Sequence[Task]) -> int:
    """Copy each <task_id>.txt of `predictions` into a folder scored/ beside it, with the true outputs at its end.

    Returns how many there were. A task without answers raises TaskError.
    """
    from arc_helpers.runs.checkpoint import atomic_write_text

    predictions, written = Path(predictions), 0
    for task in tasks:
        text = predictions / f"{safe_name(task.id)}.txt"
        if text.is_file():
            parts = [text.read_text(encoding="utf-8").rstrip("\n")]
            parts += [f"TRUE OUTPUT {i}\n{grid_to_string(answer)}" for i, answer in enumerate(task.answers(), start=1)]
            atomic_write_text(predictions.parent / "scored" / text.name, "\n\n".join(parts) + "\n")
            written += 1
    return written

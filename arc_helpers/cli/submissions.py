"""`validate`, `score` and `merge`: what is done with submissions once they are written."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arc_helpers.cli.one_line import fail, one_line

if TYPE_CHECKING:
    from arc_helpers.arc import Task

Submission = Annotated[str, typer.Argument(help="a submission.json")]
Data = Annotated[str, typer.Option(help="set name, folder, task file or challenges file")]
Solutions = Annotated[str | None, typer.Option(help="Kaggle solutions file")]
Partial = Annotated[bool, typer.Option(help="only the tasks the submission holds")]


def validate(submission: Submission, data: Data, partial: Partial = False) -> None:
    """Check a submission file.

    It must answer every test input of every task of the data; every problem is one line.
    """
    from arc_helpers.arc import num_tests_of, validate_submission

    answers = _read(submission)
    faults: list[Any] = []
    expected = num_tests_of(_load(data, faults=faults), faults)
    if partial:
        expected = {task_id: count for task_id, count in expected.items() if task_id in answers}
    problems = validate_submission(answers, expected)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"valid: {len(expected)} tasks, {sum(expected.values())} outputs")


def score(
    submission: Submission,
    data: Data,
    solutions: Solutions = None,
    partial: Partial = False,
    out: Annotated[str | None, typer.Option(help="write the numbers to this JSON file")] = None,
    predictions: Annotated[
        str | None, typer.Option(help="folder of <task_id>.txt; writes ../scored with the TRUE OUTPUT added")
    ] = None,
    figures: Annotated[str | None, typer.Option(help="folder: a picture of each task's attempts and truth")] = None,
    before: Annotated[
        str | None, typer.Option(help="a submission made without training, such as control/'s: --figures shows both")
    ] = None,
) -> None:
    """Compare a submission with the answers.

    The only step that reads them.
    """
    from arc_helpers.arc import load_benchmark, score_benchmark, validate_submission, write_scored_texts
    from arc_helpers.runs.checkpoint import atomic_write_json
    from arc_helpers.runs.env import output_path

    answers = _read(submission)
    with one_line(ValueError, OSError):
        benchmark = load_benchmark(data, solutions=solutions, ids=answers if partial else None)
    for fault in (*benchmark.unreadable, *benchmark.without_solution):
        typer.echo(f"counts as not solved: {fault.message}")
    tasks, num_tests = benchmark.tasks, benchmark.num_tests
    problems = validate_submission(answers, num_tests)
    if problems:
        more = f" (and {len(problems) - 1} more: see `validate`)" if len(problems) > 1 else ""
        fail(f"{submission}: {problems[0]}{more}", code=1)
    earlier = {name: given for name, given in _read(before).items() if name in answers} if before else None
    if before and not figures:
        fail("--before needs --figures, the folder of the pictures")
    if before and (problems := validate_submission(earlier, num_tests)):
        fail(f"{before}: {problems[0]}", code=1)
    with one_line(ValueError):
        result = score_benchmark(answers, benchmark)
    for task_id, fraction in result.per_task.items():
        typer.echo(f"{task_id}  {fraction:.2f}")
    over = f"{result.n_tasks} tasks{' of the submission alone' * partial}{result.caveat}"
    typer.echo(
        f"score {result.task_score:.4f} over {over} (95 % interval {result.ci_low:.4f} to {result.ci_high:.4f}), "
        f"{result.tasks_solved} tasks and {result.outputs_solved} of {result.n_outputs} outputs solved"
    )
    if out:
        atomic_write_json(output_path(out), {**result.summary(), "per_task": result.per_task})
    if predictions:
        texts = output_path(predictions)
        typer.echo(f"{write_scored_texts(texts, tasks)} texts in {texts.parent / 'scored'}")
    if figures:
        _draw_predictions(answers, tasks, result.per_task, output_path(figures), earlier)


def merge(
    submissions: Annotated[list[str], typer.Argument(help="two or more submission.json, the most trusted first")],
    out: Annotated[str, typer.Option(help="write the merged submission to this file")],
) -> None:
    """Make one submission out of several: the two grids that most of them propose.

    Of two that agree on nothing, the first attempts of both are kept. Needs no answers.
    """
    from arc_helpers.arc import SubmissionError, merge_submissions
    from arc_helpers.runs.checkpoint import atomic_write_text
    from arc_helpers.runs.env import output_path

    with one_line(SubmissionError):
        merged = merge_submissions([_read(submission) for submission in submissions])
    path = output_path(out)
    atomic_write_text(path, json.dumps(merged, separators=(",", ":")))
    typer.echo(f"{path}: {len(merged)} tasks out of {len(submissions)} submissions")


def _read(submission: str) -> dict[str, Any]:
    from arc_helpers.arc.submission import read_submission
    from arc_helpers.runs.env import resolve_path

    with one_line(ValueError, OSError):
        return read_submission(resolve_path(submission))


def _draw_predictions(
    answers: dict[str, Any],
    tasks: "list[Task]",
    solved: dict[str, float],
    folder: Path,
    before: dict[str, Any] | None,
) -> None:
    from arc_helpers.arc import safe_name
    from arc_helpers.plot import plot_before_after, plot_prediction

    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        after, truth = _attempts(answers, task), task.answers()
        name = safe_name(task.id) + ("_solved.png" if solved[task.id] == 1 else ".png")
        for old in (f"{safe_name(task.id)}.png", f"{safe_name(task.id)}_solved.png"):
            (folder / old).unlink(missing_ok=True)  # of an earlier score, which may have said otherwise
        if before is None:
            picture = plot_prediction(task, after, truth)
        else:
            picture = plot_before_after(task, _attempts(before, task), after, truth)
        picture.savefig(folder / name, bbox_inches="tight")
    typer.echo(f"{len(tasks)} pictures in {folder}")


def _attempts(answers: dict[str, Any], task: "Task") -> list[list[Any]]:
    return [list(output.values()) for output in answers[task.id]]


def _load(source: str, solutions: str | None = None, faults: list[Any] | None = None) -> "list[Task]":
    from arc_helpers.arc import load_tasks

    with one_line(ValueError, OSError):
        return load_tasks(source, solutions=solutions, faults=faults)

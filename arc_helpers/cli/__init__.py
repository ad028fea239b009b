"""The command line: run a notebook, write the data, validate, score or merge submissions, say where we are.

Relative paths are under the project root, as everywhere in the project.
Exit codes: 0 done, 1 it ran and the answer is no, 2 bad input (one line; nothing was loaded or written).
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arc_helpers.cli import models, trm
from arc_helpers.cli.one_line import fail, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from arc_helpers.arc import Task
    from arc_helpers.runs.notebook import Notebook

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(models.app, name="models")
app.add_typer(trm.app, name="trm")
Submission = Annotated[str, typer.Argument(help="a submission.json")]
Data = Annotated[str, typer.Option(help="set name, folder, task file or challenges file")]
Solutions = Annotated[str | None, typer.Option(help="Kaggle solutions file")]
Partial = Annotated[bool, typer.Option(help="only the tasks the submission holds")]


def main() -> None:
    """Entry point of `python -m arc_helpers` and `arc-helpers`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show "→" shows "?"
    app(prog_name="python -m arc_helpers")


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    """ARC test-time training: run notebooks, make data, validate, score and merge submissions."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    options_metavar="[--name value | name=value]...",
)
def run(
    context: typer.Context,
    notebook: Annotated[str, typer.Argument(help='its number or name: "02", "02_multilora_ttt"')] = "",
    output: Annotated[str | None, typer.Option(help="executed notebook; <out_dir>/<name>.ipynb")] = None,
    timeout: Annotated[int | None, typer.Option(min=1, help="seconds one cell may take")] = None,
    help: Annotated[bool, typer.Option("--help", help="show the notebook's parameters")] = False,
) -> None:
    """Run a notebook headless. Its own parameters are options: `run 02 --help` lists them."""
    from arc_helpers.runs.config import ConfigError, kept_by
    from arc_helpers.runs.notebook import NotebookFailed, find_notebook, parse_words

    if not notebook or notebook.startswith("-"):
        typer.echo(context.get_help())
        _list_notebooks()
        raise typer.Exit(0 if help else 2)
    with one_line(ConfigError):
        chosen = find_notebook(notebook)
        if help:
            typer.echo(_notebook_help(chosen))
            return
        values = chosen.check(parse_words(context.args))
    try:
        with one_line(ConfigError):
            executed = chosen.run(values, output, timeout)
    except NotebookFailed as error:
        fail(str(error), code=1)
    except KeyboardInterrupt:
        goes_on = "goes on with it" if kept_by(chosen.name) else "does all of it again"
        fail(f"{chosen.name}: stopped; the same command {goes_on}", code=130)
    summary = chosen.out_dir(values) / "summary.json"
    if summary.is_file():
        typer.echo(_headline(json.loads(summary.read_text(encoding="utf-8"))))
    typer.echo(f"notebook: {executed}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[--name value | name=value]...",
)
def check(context: typer.Context, notebook: Annotated[str, typer.Argument(help='its number or name: "02"')]) -> None:
    """Look for errors before the work: parameters, data, answers, model, folder, disk.

    Every run begins with it. Exit code 2 where something is wrong.
    """
    from arc_helpers.runs.config import ConfigError
    from arc_helpers.runs.notebook import find_notebook, parse_words

    with one_line(ConfigError):
        chosen = find_notebook(notebook)
        lines, well = chosen.page(chosen.check(parse_words(context.args)))
    typer.echo("\n".join(lines))
    raise typer.Exit(0 if well else 2)


@app.command()
def data(
    sets: Annotated[list[str] | None, typer.Argument(help="such as arcagi1/training; all if none")] = None,
    folder: Annotated[str, typer.Option(help="where the sets go")] = "data",
) -> None:
    """Write the installed sets as files.

    One <folder>/<set>/<task_id>.json a task; nothing is downloaded.
    """
    from arc_helpers.arc import KNOWN_SETS, load_tasks, write_tasks
    from arc_helpers.runs.env import output_path

    for name in sets or ():
        if name not in KNOWN_SETS:
            fail(f"set = {name}: must be one of {', '.join(KNOWN_SETS)}")
    for name in sets or KNOWN_SETS:
        target = output_path(folder) / name
        with one_line(ValueError, OSError):
            typer.echo(f"{write_tasks(load_tasks(name), target)} tasks in {target}")


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def plan(
    model: Annotated[str, typer.Option(help="model folder, or the name of a known base")] = "models/arc-micro",
    gpu: Annotated[str, typer.Option(help="T4, L4, A100, H100, H200; CPU with --calibrate")] = "T4",
    gpus: Annotated[int, typer.Option(min=1, help="how many")] = 2,
    hours: Annotated[float, typer.Option(min=0.6, help="Kaggle's limit; half an hour of it is kept")] = 12.0,
    tasks: Annotated[int, typer.Option(min=1, help="hidden tasks")] = 240,
    data: Annotated[str, typer.Option(help="public tasks that the hidden ones are like")] = "arcagi2/evaluation",
    profile: Annotated[str, typer.Option(help="whose settings are tried first")] = "kaggle",
    calibrate: Annotated[int, typer.Option(min=0, help="measure on so many tasks on this machine")] = 0,
) -> None:
    """Which K, steps, views and search bound fit into the hours."""
    from arc_helpers.kaggle.planner import plan_lines
    from arc_helpers.runs.config import ConfigError

    with one_line(ConfigError, ValueError):
        for line in plan_lines(
            model=model, gpu=gpu, gpus=gpus, hours=hours, tasks=tasks, data=data, profile=profile, calibrate=calibrate
        ):
            typer.echo(line)


@app.command()
def chat(
    model: Annotated[str, typer.Option(help="folder of a model that learns while it reads, or of any other")] = (
        "models/ttt-memory"
    ),
    adapter: Annotated[
        str | None, typer.Option("--adapter", "--adapter-path", help="PEFT folder, or .pth file, of that model")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="memory file to go on from")] = None,
    learn_from: Annotated[str, typer.Option(help="all, user or none")] = "all",
    history: Annotated[int, typer.Option(min=0, help="last utterances that stand in every prompt")] = 5,
    temperature: Annotated[float, typer.Option(min=0, help="0 = the most likely reply")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="of sampled replies")] = 0,
) -> None:
    """Talk to a model that learns while it reads, or to any other chat model.

    Tell it facts, talk about something else, ask. /memory, /save FILE, /load FILE, /forget, /quit.
    """
    from arc_helpers.memory.chat import HELP, command, open_chat
    from arc_helpers.runs.env import resolve_path

    folder = None if adapter is None else resolve_path(adapter)
    options = {"learn_from": learn_from, "history": history, "temperature": temperature, "seed": seed}
    with one_line(ValueError, OSError):
        talk = open_chat(resolve_path(model), folder, **options)
        if memory:
            talk.load(resolve_path(memory))
    typer.echo(f"{HELP}\n{talk.intro}")
    for line in sys.stdin:
        text = line.strip()
        if text.startswith("/"):
            said = command(talk, text)
            if said is None:
                return
            typer.echo(said)
        elif text:
            try:
                for piece in talk.ask(text):
                    typer.echo(piece, nl=False)
            except ValueError as error:  # a message that is too long costs itself, not the conversation
                typer.echo(error, nl=False)
            typer.echo("")


@app.command()
def report(
    runs: Annotated[str, typer.Argument(help="folder of finished runs")] = "artifacts",
    out: Annotated[str | None, typer.Option(help="where the pages go; <runs>/report")] = None,
    gallery: Annotated[bool, typer.Option("--gallery", help="Markdown pages for a code host, not HTML")] = False,
) -> None:
    """Render executed notebooks as a site that needs no network, with an index of runs and numbers."""
    from arc_helpers.report import ReportError, find_runs, write_gallery, write_site
    from arc_helpers.runs.config import ConfigError
    from arc_helpers.runs.env import resolve_path

    folder = resolve_path(runs)
    bad: list[str] = []
    with one_line(ReportError, OSError):
        found = find_runs(folder, bad)
    write = write_gallery if gallery else write_site
    with one_line(ConfigError, OSError):
        index = write(found, resolve_path(out) if out else folder / "report", bad)
    for line in bad:
        typer.echo(f"left out: {line}")
    typer.echo(f"{len(found)} runs: {index}")


@app.command()
def doctor(
    out: Annotated[str, typer.Argument(help="folder of a run")],
    adopt: Annotated[bool, typer.Option("--adopt", help="let runs have a folder that none has made")] = False,
) -> None:
    """Say what is in a run's folder and what of it is damaged, and mend it; nothing computed is deleted."""
    from arc_helpers.runs.doctor import examine
    from arc_helpers.runs.env import output_path

    with one_line(ValueError, OSError):
        for line in examine(output_path(out), adopt):
            typer.echo(line)


@app.command()
def info() -> None:
    """Show device, versions, models and data."""
    from arc_helpers.arc import KNOWN_SETS
    from arc_helpers.runs.config import PROFILES
    from arc_helpers.runs.env import choose_device, detect, resolve_path
    from arc_helpers.runs.log import git_version, versions

    env, device = detect(), choose_device()
    models = sorted(path.parent for path in resolve_path("models").glob("*/config.json"))
    folders = sorted({path.parent for path in resolve_path("data").glob("*/*/*.json")})
    lines = {
        "where": f"{env.kind}{', headless' if env.headless else ''}",
        "root": env.root,
        "device": f"{device.device}, {device.dtype}: {device.reason}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "git": git_version(),
        "profiles": ", ".join(PROFILES),
        "models": ", ".join(map(str, models)) or "none (notebook 00 trains one)",
        "sets": ", ".join(KNOWN_SETS),
        "data": ", ".join(map(str, folders)) or "no folders (the sets above need none)",
    }
    for name, value in lines.items():
        typer.echo(f"{name:<10}{value}")
    _list_notebooks()


def _notebook_help(notebook: "Notebook") -> str:
    lines = [f"Parameters of {notebook.name} (None = the profile's value):"]
    for parameter in notebook.parameters.values():
        kind = parameter.type and f": {parameter.type}"
        lines.append(f"  --{parameter.name}{kind} = {parameter.default}")
        if parameter.help:
            lines.append(f"        {parameter.help}")
    return "\n".join(lines)


def _list_notebooks() -> None:
    from arc_helpers.runs.notebook import list_notebooks

    typer.echo("notebooks " + (", ".join(path.stem for path in list_notebooks()) or "none"))


def _headline(summary: dict[str, Any]) -> str:
    """One line a number that the notebook itself reports, and how long it took."""
    skip = ("notebook", "profile", "seed", "device", "dtype", "git")
    shown = {k: v for k, v in summary.items() if k not in skip and not k.startswith("version_")}
    return "\n".join(f"{name:<24}{value}" for name, value in shown.items())


def _read(submission: str) -> dict[str, Any]:
    from arc_helpers.arc.submission import read_submission
    from arc_helpers.runs.env import resolve_path

    with one_line(ValueError, OSError):
        return read_submission(resolve_path(submission))


def _draw_predictions(
    answers: dict[str, Any],
    tasks: "list[Task]",
    solved: dict[str, float],
    folder: "Path",
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

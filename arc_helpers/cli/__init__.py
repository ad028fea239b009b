"""The command line: run a notebook, write the data, validate, score or merge submissions, say where we are.

Relative paths are under the project root, as everywhere in the project.
Exit codes: 0 done, 1 it ran and the answer is no, 2 bad input (one line; nothing was loaded or written).
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arc_helpers.cli import models, submissions, trm
from arc_helpers.cli.one_line import fail, one_line

if TYPE_CHECKING:
    from arc_helpers.runs.notebook import Notebook

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(models.app, name="models")
app.add_typer(trm.app, name="trm")
for command in (submissions.validate, submissions.score, submissions.merge):
    app.command()(command)


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
    from arc_helpers.runs.env import choose_device, detect, resolve_path
    from arc_helpers.runs.knobs import PROFILES
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

"""What make kaggle-* runs: `python -m arc_helpers.kaggle VERB`, from bundle to submit."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from arc_helpers.kaggle.bundle import BUILD
from arc_helpers.kaggle.wheels import KAGGLE_PYTHON
from arc_helpers.runs import ConfigError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
Slug = Annotated[str, typer.Argument(help="a kernel of kaggle/kernels.yaml")]
Dry = Annotated[bool, typer.Option("--dry-run", help="say what would be sent, and send nothing")]


@app.command()
def bundle(
    python: Annotated[str, typer.Option(help="the Python that the wheels are for")] = KAGGLE_PYTHON,
    user: Annotated[str | None, typer.Option(help="the Kaggle account; KAGGLE_USERNAME")] = None,
    out: Annotated[str, typer.Option(help="folder")] = BUILD,
) -> None:
    """Make the dataset and a folder a kernel."""
    from arc_helpers.kaggle import bundle
    from arc_helpers.kaggle.client import user_name

    with _one_line():
        built = bundle.build(out, python=python, user=user or user_name())
    typer.echo("\n".join(bundle.describe(built)))


@app.command("zip")
def make_zip(
    python: Annotated[str, typer.Option(help="the Python that the wheels are for")] = KAGGLE_PYTHON,
    out: Annotated[str, typer.Option(help="folder, made anew")] = "upload",
) -> None:
    """Make what is uploaded by hand: dataset.zip, a notebook a kernel, and a page of six clicks."""
    from arc_helpers.kaggle.upload import PAGE, ZIPPED, make_upload

    with _one_line():
        folder, built = make_upload(out, python=python)
    typer.echo(f"{folder / ZIPPED}: {(folder / ZIPPED).stat().st_size / 1e6:.1f} MB")
    typer.echo(f"{folder}: {len(built.kernels)} notebooks; open {PAGE} in a browser: it shows the six clicks")


@app.command()
def push(slug: Slug, dry_run: Dry = False) -> None:
    """Send the dataset, if it has changed, and one kernel, which starts to run."""
    from arc_helpers.kaggle import client

    with _one_line():
        for line in client.push(slug, dry_run=dry_run):
            typer.echo(line)


@app.command()
def status(slug: Slug) -> None:
    """Say whether a kernel runs, is done or has failed."""
    from arc_helpers.kaggle import client

    with _one_line():
        typer.echo(client.status(slug))


@app.command()
def logs(slug: Slug) -> None:
    """Show what a kernel printed."""
    from arc_helpers.kaggle import client

    with _one_line():
        typer.echo(client.logs(slug))


@app.command()
def output(slug: Slug) -> None:
    """Fetch what a kernel wrote."""
    from arc_helpers.kaggle import client

    with _one_line():
        typer.echo(client.output(slug))


@app.command()
def submit(
    slug: Slug,
    message: Annotated[str, typer.Option(help="what the leaderboard shows you")] = "arc_helpers",
    version: Annotated[int | None, typer.Option(help="None: the one pushed last")] = None,
    dry_run: Dry = False,
) -> None:
    """Submit a kernel to its competition: this spends a submission of the day."""
    from arc_helpers.kaggle import client

    with _one_line():
        typer.echo(client.submit(slug, message, version, dry_run=dry_run))


@app.command()
def rehearsal(
    only: Annotated[str, typer.Option(help='scenarios whose name begins so, such as "ii "')] = "",
    layout: Annotated[str | None, typer.Option(help="new or old; both")] = None,
    out: Annotated[str, typer.Option(help="folder, made anew")] = "artifacts/rehearsal",
) -> None:
    """Run the built notebook as Kaggle does, without network: five scenarios, two mount layouts."""
    from arc_helpers.kaggle.rehearsal import LAYOUTS, rehearse

    if layout not in (None, *LAYOUTS):
        print(f"layout = {layout}: must be one of {', '.join(LAYOUTS)}", file=sys.stderr)
        raise typer.Exit(2)

    passed = failed = 0
    with _one_line():
        for held, line in rehearse(out, only, [layout] if layout else LAYOUTS):
            typer.echo(f"{'passed' if held else 'FAILED'}  {line}")
            passed, failed = passed + held, failed + (not held)
    typer.echo(f"{passed} passed, {failed} failed")
    raise typer.Exit(failed > 0 or passed == 0)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn errors about what the user asked into one line and exit code 2."""
    try:
        yield
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app(prog_name="python -m arc_helpers.kaggle")

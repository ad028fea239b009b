"""The report of finished runs: whole without a network, and with all their numbers."""

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from arc_helpers.cli import app
from arc_helpers.report import ReportError, find_runs, formula_to_html, write_gallery, write_site
from arc_helpers.report.compare import parameters
from arc_helpers.report.untrusted import clean_html, clean_markdown

ROOT = Path(__file__).parents[1]
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PROSE = "# 09 · A story\n\nHere $z_H$ is $f(x)$, and\n\n$$\\tfrac{a}{b} \\text{ or } 2$$\n\nIt costs $5."


def make_run(folder: Path, name: str = "09_story", **numbers) -> Path:
    """A finished run with a picture, a table and text."""
    new = nbformat.v4
    picture = new.new_output("display_data", data={"image/png": DOT, "text/plain": "<Picture>"})
    printed = new.new_output("stream", name="stdout", text=f"solved 1 of 2 in {ROOT}/artifacts\n")
    cells = [new.new_markdown_cell(PROSE), new.new_code_cell("draw()", outputs=[picture, printed], execution_count=1)]
    notebook = new.new_notebook(cells=cells)
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    summary = {"notebook": name, "profile": "tiny", "seed": 0, "seconds": 90, "device": "cpu", "dtype": "float32"}
    summary |= {"git": "abc", "version_python": "3.11", **numbers}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def addresses(page: str) -> list[str]:
    """All that a page loads or leads to."""
    return re.findall(r"""(?:src|href)=["']?([^"'\s>]+)|url\(["']?([^"')]+)""", page)


def test_a_page_is_whole_in_itself(tmp_path):
    runs = find_runs(make_run(tmp_path / "run", solved=1, share=0.12345678))
    index = write_site(runs, tmp_path / "site")
    page = (tmp_path / "site" / "09_story.html").read_text()
    assert "solved 1 of 2" in page and f"data:image/png;base64,{DOT}" in page
    assert 'alt="Picture to: Here z_H is f(x), and"' in page and "<script" not in page
    loaded = ["".join(found) for found in addresses(page)]
    assert all(address.startswith(("data:", "#")) for address in loaded), loaded
    text = index.read_text()
    assert "<td>solved<td>1" in text and "<td>share<td>0.1235" in text and "<td>1.5</td>" in text
    assert "".join(addresses(text)[0]) == "09_story.html"


def test_runs_of_a_notebook_stand_beside_each_other(tmp_path):
    for k, solved in ((2, 1), (4, 3)):
        folder = make_run(tmp_path / f"k{k}", tasks_solved=solved, n_tasks=9, share=0.5)
        (folder / "config.yaml").write_text(f"k: {k}\nsteps: 5\nout_dir: {folder}\n")
        (folder / "figures").mkdir()
        (folder / "figures/a.png").write_bytes(base64.b64decode(DOT))
    make_run(tmp_path / "other", "08_alone", tasks_solved="<script>", n_tasks=1)
    text = write_site(find_runs(tmp_path), tmp_path / "site").read_text()
    assert text.count('class="thumbnail"') == 2 and "<td>1 of 9</td>" in text and "<script" not in text
    table = text.split("its runs beside each other")[1]
    assert "<th>k2</th><th>k4</th>" in table and "08_alone" not in table
    assert "<td>parameter</td><td>k</td><td>2</td><td>4</td>" in table
    assert "<td>result</td><td>tasks_solved</td><td>1</td><td>3</td>" in table
    assert not any(same in table for same in ("steps", "share", "out_dir"))


@pytest.mark.parametrize("config", ["[1]", "a: [", "\x00", None])
def test_parameters_that_cannot_be_read_are_none(tmp_path, config):
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    assert parameters(tmp_path) == {}


def test_formulas_are_pictures_with_their_text(tmp_path):
    runs = find_runs(make_run(tmp_path / "run"))
    write_site(runs, tmp_path / "site")
    page = (tmp_path / "site" / "09_story.html").read_text()
    drawn = re.findall(r'<img alt="([^"]+)" src="data:image/svg', page)
    assert drawn == ["z_H", "f(x)", r"\tfrac{a}{b} \text{ or } 2"] and "costs $5." in page
    drawn = re.search(r"svg\+xml;base64,([^\"]+)", formula_to_html(r"\nabla \ell_t"))[1]
    assert b"<svg" in base64.b64decode(drawn)
    assert formula_to_html(r"\nosuchcommand{x} < 1") == r"<code>\nosuchcommand{x} &lt; 1</code>"


def test_every_formula_of_the_notebooks_can_be_drawn():
    """A command that mathtext does not know would stand in the report as LaTeX."""
    from arc_helpers.report import FORMULA

    folder = ROOT / "notebooks"
    sources = [
        cell.source
        for path in folder.glob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    ]
    formulas = {m[1] or m[2] for source in sources for m in FORMULA.finditer(source)}
    assert len(formulas) >= 20
    assert [f for f in formulas if not formula_to_html(f).startswith("<img")] == []


def test_runs_of_one_notebook_are_told_apart(tmp_path):
    for name in ("a", "b/c"):
        make_run(tmp_path / "runs" / name)
    make_run(tmp_path / "runs" / "other", "08_other")
    (tmp_path / "runs" / "unfinished").mkdir()
    index = write_site(find_runs(tmp_path / "runs"), tmp_path / "site")
    pages = {path.name for path in index.parent.glob("[!.]*")}
    assert pages == {"index.html", "08_other.html", "09_story-a.html", "09_story-b-c.html"}


def test_the_gallery_is_markdown_with_pictures(tmp_path):
    runs = find_runs(make_run(tmp_path / "run"))
    write_gallery(runs, tmp_path / "gallery")
    (tmp_path / "gallery" / "old.md").write_text("from an earlier time")
    index = write_gallery(runs, tmp_path / "gallery")
    assert "| [09_story](09_story.md) | tiny | 1.5 | cpu |" in index.read_text()
    page = (tmp_path / "gallery" / "09_story.md").read_text()
    [(text, picture)] = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page)
    assert text == "Picture to: Here z_H is f(x), and"
    assert (tmp_path / "gallery" / picture).read_bytes() == base64.b64decode(DOT)
    assert "$z_H$" in page and "solved 1 of 2 in artifacts" in page, "and no path of this machine"
    assert not (tmp_path / "gallery" / "old.md").exists()


EVIL = "<script>bad()</script><img src=x onerror=bad()><svg onload=bad()><a href='javascript:bad()'>x</a>"


def make_evil_run(folder: Path) -> Path:
    """A run with a script in every field that a page shows."""
    new = nbformat.v4
    data = {kind: EVIL for kind in ("text/html", "text/markdown", "text/latex", "image/svg+xml", "text/plain")}
    data |= {"application/javascript": "bad()", "application/vnd.jupyter.widget-view+json": {"model_id": EVIL}}
    outputs = [new.new_output("display_data", data={kind: text}) for kind, text in data.items()]
    outputs += [new.new_output("stream", name="stdout", text=EVIL)]
    outputs += [new.new_output("error", ename=EVIL, evalue=EVIL, traceback=[EVIL])]
    cells = [new.new_markdown_cell(f"{EVIL}\n\n[y](javascript:bad())"), new.new_raw_cell(EVIL)]
    cells += [new.new_code_cell(EVIL, outputs=outputs, execution_count=1)]
    notebook = new.new_notebook(cells=cells)
    notebook.metadata["title"] = notebook.metadata["widgets"] = EVIL
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / "09_story.ipynb")
    names = ("profile", "seed", "device", "dtype", "git", "seconds", EVIL)
    (folder / "summary.json").write_text(json.dumps({"notebook": "09_story", **dict.fromkeys(names, EVIL)}))
    return folder


def test_no_page_can_run_anything(tmp_path):
    index = write_site(find_runs(make_evil_run(tmp_path / f"run{EVIL.replace('/', '')[:30]}")), tmp_path / "site")
    for page in index.parent.glob("*.html"):
        text = page.read_text()
        assert text.count("default-src 'none'") == 1 and text.index("default-src") < 300
        assert not re.findall(r"<(?:script|svg|iframe|object|embed|form)\b", text)
        assert not re.findall(r"<[^>]*\s(?:on\w+=|(?:href|src)=['\"]?\s*javascript:)", text)
    gallery = write_gallery(find_runs(tmp_path), tmp_path / "gallery")
    for page in gallery.parent.glob("*.md"):
        outside = re.sub(r"```.*?```|^ {4}.*?$", "", page.read_text(), flags=re.S | re.M)
        assert not re.findall(r"<(?:script|svg|iframe)\b|<[^>]*\son\w+=|javascript:", outside)


def test_what_is_harmless_stays():
    table = '<table class="t"><tr><td style="color: red; position: fixed" colspan="2">1 &lt; 2</td></tr></table>'
    cleaned = clean_html(table)
    assert 'style="color:red' in cleaned and 'colspan="2"' in cleaned and "position" not in cleaned
    picture = f'<img src="data:image/png;base64,{DOT}" alt="a">'
    assert DOT in clean_html(picture) and "data:text" not in clean_html('<a href="data:text/html,x">y</a>')
    assert "src" not in clean_html('<img src="https://elsewhere/x.png">')
    assert clean_markdown("a < b, `x<3`<br>2 <sub>i</sub>") == "a < b, `x<3`<br>2 <sub>i</sub>"


@pytest.mark.parametrize("damage", ["summary", "no notebook name", "notebook", "seconds"])
def test_a_bad_run_costs_itself(tmp_path, damage):
    make_run(tmp_path / "runs" / "good")
    bad = make_run(tmp_path / "runs" / "bad", "08_bad")
    if damage == "notebook":
        (bad / "08_bad.ipynb").write_text("{")
    else:
        text = {"summary": "{", "no notebook name": "[]", "seconds": '{"notebook": "08_bad", "seconds": null}'}[damage]
        (bad / "summary.json").write_text(text)
    done = CliRunner().invoke(app, ["report", str(tmp_path / "runs")])
    assert done.exit_code == 0 and (tmp_path / "runs/report/09_story.html").is_file()
    assert ("left out" in done.output) == (damage != "seconds")
    if damage == "notebook":
        assert "cannot be shown" in (tmp_path / "runs/report/index.html").read_text()


def test_a_run_in_jupyterlab_has_its_numbers_and_figures(tmp_path):
    run = make_run(tmp_path / "runs" / "lab", solved=3)
    (run / "09_story.ipynb").unlink()
    (run / "figures").mkdir()
    (run / "figures/loss.png").write_bytes(base64.b64decode(DOT))
    write_site(find_runs(tmp_path / "runs"), tmp_path / "site")
    page = (tmp_path / "site/09_story.html").read_text()
    assert "<td>solved<td>3" in page and f"data:image/png;base64,{DOT}" in page


@pytest.mark.parametrize("kind", [[], ["--gallery"]])
def test_a_folder_of_the_user_is_not_deleted(tmp_path, kind):
    make_run(tmp_path / "runs" / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), "--out", str(tmp_path / "mine"), *kind])
    assert done.exit_code == 2 and "mine: holds thesis.tex, which was not made as report" in done.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_the_command_says_where_it_is_or_that_there_is_nothing(tmp_path):
    make_run(tmp_path / "runs" / "run")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "runs")])
    assert done.exit_code == 0 and done.output.strip() == f"1 runs: {tmp_path / 'runs' / 'report' / 'index.html'}"
    nothing = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert nothing.exit_code == 2 and "no finished run below it" in nothing.output
    with pytest.raises(ReportError, match="no finished run"):
        find_runs(tmp_path / "none")


def test_the_committed_gallery_is_small_and_whole():
    folder = ROOT / "docs" / "gallery"
    pages = {path.stem for path in folder.glob("*.md")} - {"README"}
    assert pages and pages <= {path.stem for path in (ROOT / "notebooks").glob("0*.ipynb")}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 5e6
    for page in folder.glob("*.md"):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            assert (folder / picture).is_file(), f"{page.name}: {picture}"

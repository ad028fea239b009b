"""What every notebook has in common, checked without running one."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import get_kernel_dict

from arc_helpers.runs import NOTEBOOKS
from arc_helpers.runs.config import knob_names, section
from arc_helpers.runs.notebook import EXERCISE, REST, SOLUTION, TEACHING, TOP, Notebook, NotebookFailed, read_parameters

FOLDER = Path(__file__).parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("0*.ipynb"))
EVERY = [*PATHS, FOLDER / "START_HERE.ipynb"]
every = pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem, indirect=True)
OWN = ["profile", "seed", "out_dir", "fresh"]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_with_knobs_exists():
    assert {section(path.stem) for path in PATHS} == set(NOTEBOOKS)


def test_the_parameters_cells_hold_exactly_the_knobs(path, notebook):
    """Those that most people set on top, all others in a folded cell, which a command's values come after."""
    top, rest = [cell for cell in code(notebook) if {TOP, REST} & set(cell.metadata.get("tags", []))]
    assert (top.metadata.tags, rest.metadata.tags) == ([TOP], [REST]) and rest.metadata.jupyter.source_hidden
    assert top.source.startswith("profile: ") and 4 <= len(top.source.splitlines()) <= 7
    parameters = read_parameters(path)
    assert sorted(parameters) == sorted([*OWN, *knob_names(path.stem)])
    for parameter in parameters.values():
        assert parameter.type and parameter.help, f"{parameter.name} needs a type and a comment"
    undecided = {name for name in parameters if name not in ("profile", "seed", "fresh")}
    assert {parameters[name].default for name in undecided} == {"None"}, "None means the profile's value"


def names(source: str, context: type) -> set[str]:
    """What a cell reads (ast.Load) or sets (ast.Store); imports and definitions set, too."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        found |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
        found |= {(alias.asname or alias.name).split(".")[0] for alias in imported}
    return found


def test_what_is_scored_needs_no_cell_that_teaches(notebook):
    """A scored rerun leaves teaching cells out."""
    taught, known = set(), set()
    for cell in code(notebook):
        sets = names(cell.source, ast.Store)
        if TEACHING in cell.metadata.get("tags", []):
            taught |= sets
        else:
            known |= sets
            assert not names(cell.source, ast.Load) & (taught - known), cell.source


def test_a_teaching_cell_that_fails_ends_no_run(tmp_path, capsys):
    sources = ("print('a')", "assert False, 'not so'", "print('answered')")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[1].metadata["tags"] = [TEACHING]
    path, target = tmp_path / "story.ipynb", tmp_path / "ran.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    Notebook(path, {}).run({}, target)
    said = capsys.readouterr()
    assert "answered" in said.out and "a teaching cell 2: AssertionError: not so; the run went on" in said.err
    cells[1].metadata["tags"] = []
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(NotebookFailed, match="story failed in cell 2: AssertionError: not so"):
        Notebook(path, {}).run({}, target)


@every
def test_the_first_code_cell_finds_the_package_and_is_the_same_everywhere(notebook):
    first = code(notebook)[0]
    assert first.metadata["tags"] == ["find-package"]
    assert first.source == code(nbformat.read(PATHS[0], as_version=4))[0].source
    assert len(ast.parse(first.source).body) == 5


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({}, "arc_helpers is missing: open this in its clone, or attach our dataset"),
        ({"arc_helpers/__init__.py": ""}, "found"),
        ({"../arc_helpers/__init__.py": ""}, "found"),
        ({"arc_helpers-0.1.0-py3-none-any.whl": ""}, "--no-deps arc_helpers-0.1.0-py3-none-any.whl"),
    ],
)
def test_the_first_cell_alone(tmp_path, beside, said):
    """In a Python without our package; what it would ask pip for is printed."""
    for name, text in beside.items():
        (tmp_path / "deep" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "deep" / name).write_text(text)
    (tmp_path / "deep").mkdir(exist_ok=True)
    fake = "import subprocess\nsubprocess.call = lambda words: print(*words)\n"
    cell = code(nbformat.read(PATHS[0], as_version=4))[0].source
    script = fake + cell + "\nif found is not None: print('found')"
    words = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.append('.')\n" + script]
    done = subprocess.run(words, cwd=tmp_path / "deep", capture_output=True, text=True)
    assert said in done.stdout + done.stderr


@every
def test_no_output_is_committed(notebook):
    assert not any(cell.outputs or cell.execution_count for cell in code(notebook))


@every
def test_metadata_are_what_jupyterlab_writes(path, notebook):
    """Else opening and saving one would change it, and its twin."""
    kernel = get_kernel_dict()
    assert nbformat.writes(notebook) + "\n" == path.read_text(encoding="utf-8")
    spec = {"display_name": kernel["display_name"], "language": "python", "name": "python3"}
    assert notebook.metadata.kernelspec == spec and "language_info" not in notebook.metadata
    assert f"#     display_name: {kernel['display_name']}\n" in path.with_suffix(".py").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", ["05", "06", "07"])
def test_a_picture_is_among_the_first_ten_cells(number):
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    first = nbformat.read(path, as_version=4).cells[:10]
    assert any("plot_" in cell.source for cell in first if cell.cell_type == "code")


@every
def test_cells_are_short(notebook):
    for cell in code(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        # a list of knobs is looked up, not followed: one line each, which is its help text
        most = 50 if REST in cell.metadata.get("tags", []) else 25
        assert len(lines) <= most, f"{len(lines)} lines: {lines[0]}"


def test_the_story_is_told_in_prose(notebook):
    """More prose cells than code cells, half of the code cells at most 10 lines, no function over 15."""
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    stories = [c.source for c in code(notebook) if not {TOP, REST, "find-package"} & set(c.metadata.get("tags", []))]
    assert len(prose) > len(stories) + 1
    lengths = [sum(bool(line.strip()) for line in source.splitlines()) for source in stories]
    assert statistics.median(lengths) <= 10, sorted(lengths)
    for source in stories:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 15, node.name


def test_there_is_something_to_move(path, notebook):
    """A reader finds a slider in every notebook; what it does is tested in a browser."""
    sources = "".join(cell.source for cell in code(notebook))
    assert re.search(r"\b(plot|memory|liza|pictures)\.explore_\w+\(|play\.open_playground\(", sources), (
        f"{path.stem} has no explorer"
    )


def test_it_ends_with_exercises_whose_solutions_are_folded(notebook):
    """Two or three, each with a solution below it that every headless run executes, and no scored one."""
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    first = tags.index([EXERCISE])
    assert notebook.cells[first].source.startswith("## Exercises\n")
    assert tags[first:] in ([[EXERCISE], [SOLUTION, TEACHING]] * 2, [[EXERCISE], [SOLUTION, TEACHING]] * 3)
    for number, (question, solution) in enumerate(zip(*[iter(notebook.cells[first:])] * 2, strict=True), start=1):
        assert question.cell_type == "markdown" and f"**{number}. " in question.source and "?" in question.source
        assert solution.metadata.jupyter == {"source_hidden": True}


def test_times_are_told_for_three_machines(notebook):
    told = next(cell.source for cell in notebook.cells if "**Time**" in cell.source).split("**Time**")[1]
    assert "CPU" in told and "T4" in told and "H200" in told and "estimate" in told


def test_the_story_opens_and_ends_as_in_the_others(path, notebook):
    first = notebook.cells[0].source
    assert (
        first.startswith(f"# {path.stem[:2]} · ")
        and "\n> " in first
        and "**Time**" in "".join(cell.source for cell in notebook.cells[:2])
    )
    headings = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    for heading in ("## Parameters", "## Setup", "## Results", "## What to try next"):
        assert heading in headings


@every
def test_the_twin_is_in_step(path, tmp_path):
    """jupytext writes the same percent file from the notebook as the one that is committed."""
    text = subprocess.run(
        [sys.executable, "-m", "jupytext", "--to", "py:percent", "--output", "-", path],
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER.parent,
    ).stdout

    def body(twin: str) -> list[str]:
        # the header names jupytext's version; blank lines between cells are its own affair
        return [line for line in twin.split("# ---", 2)[2].splitlines() if line.strip()]

    assert body(text) == body(path.with_suffix(".py").read_text()), "run `make sync`"

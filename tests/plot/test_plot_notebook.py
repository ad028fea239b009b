"""In a notebook, run headless by papermill, each picture is kept exactly once."""

import subprocess
import sys

import nbformat
import papermill
import pytest

SETUP = """\
import numpy as np
from arc_helpers.arc import Pair, Task
from arc_helpers.plot import explore_augmentations, plot_losses, plot_task, token_table
task = Task("little", (Pair([[1]], [[2]]),), (Pair([[3]]),))
"""
PICTURES = {
    "last expression": "plot_task(task)",
    "layout engine": "plot_losses(np.ones((3, 2)))",
    "explorer without a front end": "explore_augmentations(task)",
    "displayed": "display(plot_task(task))",
    "assigned, then shown": "figure = plot_task(task)\nfigure",
    "after pyplot": "import matplotlib.pyplot as plt\nplot_task(task)",
    "after the inline backend": "%matplotlib inline\nplot_task(task)",
}
SILENT = {"assigned": "figure = plot_task(task)", "semicolon": "plot_task(task);"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[str, list]:
    """The outputs of each cell by its name."""
    folder = tmp_path_factory.mktemp("notebook")
    sources = {"setup": SETUP, **PICTURES, **SILENT, "table": "token_table([1, 2], [-100, 2], str)"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sources.values()])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARC_HEADLESS", "1")
        patch.delenv("MPLBACKEND", raising=False)
        papermill.execute_notebook(
            folder / "in.ipynb", folder / "out.ipynb", cwd=folder, progress_bar=False, execution_timeout=120
        )
    executed = nbformat.read(folder / "out.ipynb", as_version=4)
    return {name: cell.outputs for name, cell in zip(sources, executed.cells, strict=True)}


def pictures(outputs: list) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.notebook
def test_every_picture_is_kept_once(cells):
    assert {name: pictures(cells[name]) for name in PICTURES} == dict.fromkeys(PICTURES, 1)
    assert {name: len(cells[name]) for name in PICTURES} == dict.fromkeys(PICTURES, 1)


@pytest.mark.notebook
def test_a_picture_nobody_asked_for_is_not_shown(cells):
    assert {name: len(cells[name]) for name in SILENT} == dict.fromkeys(SILENT, 0)


@pytest.mark.notebook
def test_a_token_table_is_kept_as_html(cells):
    (output,) = cells["table"]
    assert "2 tokens: 1 prompt, 1 answer" in output.data["text/html"]


def test_importing_the_package_loads_no_pyplot_and_no_torch():
    code = "import sys, arc_helpers.plot; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.notebook
def test_plain_papermill_leaves_a_picture_beside_the_widget(tmp_path, monkeypatch):
    """Nothing says that nobody watches: the widget is there, and the picture with it."""
    for name in ("ARC_HEADLESS", "PYTEST_VERSION", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SETUP + "explore_augmentations(task)")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    executed = papermill.execute_notebook(tmp_path / "in.ipynb", None, cwd=tmp_path, progress_bar=False)
    picture, widget = [output["data"] for output in executed.cells[-1].outputs if "data" in output]
    assert "data:image/png;base64," in picture["text/html"] and "application/vnd.jupyter.widget-view+json" in widget

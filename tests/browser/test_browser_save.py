"""Opening and saving a notebook leaves a clean working tree."""

import os
import shutil
import subprocess
from pathlib import Path

import browser_lab as lab
import pytest

NAME = "01_tokenization_debug.ipynb"  # for all: tests/notebooks, that they hold what JupyterLab would write
pytestmark = [pytest.mark.browser, pytest.mark.skipif(lab.chromium() is None, reason=lab.NO_CHROMIUM)]


def git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{what}": "reader" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, env={**os.environ, **who}, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with what JupyterLab and jupytext look at: notebooks, their twins, settings."""
    (tmp_path / "clone/notebooks").mkdir(parents=True)
    for path in (*lab.ROOT.glob("notebooks/*.*"), lab.ROOT / "pyproject.toml", lab.ROOT / ".gitignore"):
        shutil.copy(path, tmp_path / "clone" / path.relative_to(lab.ROOT))
    git(tmp_path / "clone", "init", "--quiet")
    git(tmp_path / "clone", "add", "--all")
    git(tmp_path / "clone", "commit", "--quiet", "--message", "as cloned")
    return tmp_path / "clone"


def test_opening_and_saving_changes_no_tracked_file(clone):
    notebook = clone / "notebooks" / NAME
    before = notebook.stat().st_mtime_ns
    with (
        lab.jupyter_lab(clone) as address,
        lab.open_page() as (page, _),
        lab.open_notebook(page, address, f"notebooks/{NAME}"),
    ):
        lab.save(page)
    assert git(clone, "status", "--porcelain", "--untracked-files=no") == "", git(clone, "diff")
    assert notebook.stat().st_mtime_ns > before, "it was not saved"

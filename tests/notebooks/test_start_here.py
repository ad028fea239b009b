"""The first notebook that anybody runs."""

import os
import subprocess
import sys
import time

import nbformat
import pytest
from test_notebooks_form import FOLDER


@pytest.mark.notebook
def test_start_here_runs_at_once(tmp_path):
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", FOLDER / "START_HERE.ipynb", out, "-p", "profile", "tiny"]
    began = time.monotonic()
    done = subprocess.run(
        [*map(str, command), "--no-progress-bar", "-k", "python3"],
        cwd=FOLDER,
        env={**os.environ, "ARC_HEADLESS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = [output for cell in nbformat.read(out, as_version=4).cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "arc-micro: 4 steps, loss" in printed and "before training: wrong" in printed
    assert time.monotonic() - began < 180, "three minutes are promised for the profile laptop"

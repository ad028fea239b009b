"""^C on a headless run: its kernel ends with it, and one line is said."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def listen() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.notebook
def test_an_interrupted_run_says_one_line(tmp_path):
    out = tmp_path / "out"
    words = ["profile=tiny", f"out_dir={out}", "max_steps=0", "deadline_seconds=300"]  # it trains for minutes
    command = [sys.executable, "-m", "arc_helpers", "run", "00", *words]
    # a shell's background job, as which these tests may run, ignores ^C, and so do its children
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "preexec_fn": listen}
    process = subprocess.Popen(command, cwd=ROOT, **options)
    while process.poll() is None and not (out / "figures/rules.png").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == "00_base_model: stopped; the same command goes on with it"
    assert "Traceback" not in said and "Kernel died" not in said

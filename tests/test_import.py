"""Importing the package costs nothing: no torch, no waiting."""

import statistics
import subprocess
import sys

import pytest

LIMIT = 0.3  # seconds
HEAVY = ("torch", "transformers", "matplotlib")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_quick():
    code = "import time; start = time.perf_counter(); import arc_helpers; print(time.perf_counter() - start)"
    assert statistics.median(float(run(code)) for _ in range(3)) <= LIMIT


@pytest.mark.parametrize("module", ["arc_helpers", "arc_helpers.arc", "arc_helpers.runs", "arc_helpers.cli"])
def test_import_loads_nothing_heavy(module):
    assert run(f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])") == "[]\n"

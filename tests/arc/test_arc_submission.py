import copy
import json

import numpy as np
import pytest
from arc_strategies import QUICK, submissions
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import (
    FALLBACK,
    SubmissionError,
    SubmissionWriter,
    TaskFault,
    load_tasks,
    merge_submissions,
    num_tests_of,
    validate_submission,
)

EMPTY = {"attempt_1": FALLBACK, "attempt_2": FALLBACK}


def needed_for(submission: dict) -> dict[str, int]:
    return {task_id: len(outputs) for task_id, outputs in submission.items()}


@QUICK
@given(submissions())
def test_every_valid_submission_is_accepted(submission):
    assert validate_submission(submission, needed_for(submission)) == []


BAD_CELLS = [10, -1, 1.5, 1.0, "3", True, None, [1]]
BAD_GRIDS = [[], [[]], [[1], [1, 2]], [[0] * 31], [[0]] * 31, 5, None, "12", {"0": [1]}, [5]]
BAD_ENTRIES = [{}, [], None, 7, {"attempt_1": FALLBACK}, {**EMPTY, "attempt_3": FALLBACK}, {"a": 1, "b": 2}]
MUTATIONS = ["cell", "grid", "entry", "no entry", "more entries", "outputs", "no task", "more tasks"]


@QUICK
@given(st.data(), submissions(), st.sampled_from(MUTATIONS))
def test_every_mutated_submission_is_refused(data, submission, mutation):
    needed = needed_for(submission)
    mutated = copy.deepcopy(submission)
    task_id = data.draw(st.sampled_from(sorted(mutated)))
    outputs = mutated[task_id]
    output = data.draw(st.sampled_from(outputs))
    name = data.draw(st.sampled_from(["attempt_1", "attempt_2"]))
    if mutation == "cell":
        row = data.draw(st.sampled_from(output[name]))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.sampled_from(BAD_CELLS))
    elif mutation == "grid":
        output[name] = data.draw(st.sampled_from(BAD_GRIDS))
    elif mutation == "entry":
        outputs[outputs.index(output)] = data.draw(st.sampled_from(BAD_ENTRIES))
    elif mutation == "no entry":
        outputs.pop()
    elif mutation == "more entries":
        outputs.append(output)
    elif mutation == "outputs":
        mutated[task_id] = data.draw(st.sampled_from([None, {}, 3, "x", output]))
    elif mutation == "no task":
        del mutated[task_id]
    else:
        mutated["another-task"] = outputs
    problems = validate_submission(mutated, needed)
    assert problems and all(task_id in line or "another-task" in line for line in problems)
    assert not any("\n" in line for line in problems)


def test_each_problem_is_one_line():
    submission = {
        "a": [EMPTY],
        "b": [{"attempt_1": [[1, 2], [3]], "attempt_2": [[10]]}, {"attempt_1": [[0]]}],
        "x/y": [EMPTY],
    }
    assert validate_submission(submission, {"a": 2, "b": 2, "c": 1}) == [
        "task a: has 1 entries, the task has 2 test inputs",
        "task b: test[0].attempt_1: row 1 has 1 cells, row 0 has 2; rows must be equal",
        "task b: test[0].attempt_2: row 0, column 0: value 10; allowed are the integers 0 to 9",
        "task b: test[1]: expected exactly attempt_1 and attempt_2, got {'attempt_1': [[0]]}",
        "task c: is missing",
        "task 'x/y': is not in the challenge",
    ]


def test_files_that_are_no_submission(tmp_path):
    path = tmp_path / "submission.json"
    assert validate_submission(path, {}) == [f"{path}: cannot be read: No such file or directory"]
    path.write_text("{")
    assert validate_submission(path, {})[0].startswith(f"{path}: not valid JSON: ")
    path.write_text("[1]")
    assert validate_submission(path, {}) == ["expected a mapping from ids to answers, got [1]"]
    entry = json.dumps([EMPTY])
    path.write_text(f'{{"a": {entry}, "a": {entry}}}')
    assert validate_submission(path, {"a": 1})[0].endswith("got a key that appears twice")
    array = {"a": [{"attempt_1": np.zeros((1, 1), int), "attempt_2": FALLBACK}]}
    assert validate_submission(array, {"a": 1}) == ["not valid JSON: Object of type ndarray is not JSON serializable"]


@QUICK
@given(submissions())
def test_what_is_written_is_read(tmp_path_factory, submission):
    path = tmp_path_factory.mktemp("run") / "submission.json"
    needed = needed_for(submission)
    writer = SubmissionWriter(path, needed)
    assert writer.read() == {task_id: [EMPTY] * n for task_id, n in needed.items()}
    for task_id, outputs in submission.items():
        writer.set(task_id, [(np.array(output["attempt_1"]), output["attempt_2"]) for output in outputs])
        assert validate_submission(path, needed) == []
    assert writer.read() == json.loads(path.read_text()) == submission
    assert list(writer.read()) == list(needed)
    assert [file.name for file in path.parent.iterdir()] == ["submission.json"]


@pytest.fixture
def writer(tmp_path):
    return SubmissionWriter(tmp_path / "new" / "submission.json", {"a": 2, "b": 1})


@pytest.mark.parametrize(
    "task_id, attempts, message",
    [
        ("a", [([[1]], [[2]])], "task a: has 1 answers, the task has 2 test inputs"),
        ("b", [([[1]], [[2]])] * 2, "task b: has 2 answers, the task has 1 test inputs"),
        ("c", [], "task c: is not one of the submission's 2 tasks"),
        ("b", [([[1]],)], "task b: test[0]: expected two grids, got ([[1]],)"),
        ("b", [([[1]], None)], "task b: test[0].attempt_2: expected a list of rows, got None"),
        (
            "b",
            [([[1]], [[10]])],
            "task b: test[0].attempt_2: row 0, column 0: value 10; allowed are the integers 0 to 9",
        ),
    ],
)
def test_a_refused_answer_leaves_the_file_as_it_was(writer, task_id, attempts, message):
    writer.set("b", [([[5]], [[6]])])
    before = writer.path.read_bytes()
    with pytest.raises(SubmissionError) as error:
        writer.set(task_id, attempts)
    assert str(error.value) == message and writer.path.read_bytes() == before


def test_a_failed_write_leaves_the_file_as_it_was(writer, monkeypatch):
    before = writer.path.read_bytes()

    def disk_full(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr("os.fsync", disk_full)
        writer.set("b", [([[5]], [[6]])])
    assert writer.path.read_bytes() == before and len(list(writer.path.parent.iterdir())) == 1
    writer.set("b", [([[5]], [[6]])])
    assert writer.path.read_bytes() != before


def test_resume_continues_and_a_fresh_start_does_not(writer):
    writer.set("b", [([[5]], [[6]])])
    resumed = SubmissionWriter(writer.path, {"a": 2, "b": 1}, resume=True)
    assert resumed.read()["b"] == [{"attempt_1": [[5]], "attempt_2": [[6]]}]
    assert SubmissionWriter(writer.path, {"a": 2, "b": 1}).read()["b"] == [EMPTY]


def test_resume_keeps_a_file_that_is_damaged_or_of_other_tasks_aside(writer, tmp_path, capsys):
    whole, aside = writer.path.read_bytes(), writer.path.with_name("submission.json.damaged")
    for found, num_tests in ((whole, {"a": 2}), (whole[:-9], {"a": 2, "b": 1}), (b"", {"a": 2, "b": 1})):
        writer.path.write_bytes(found)
        again = SubmissionWriter(writer.path, num_tests, resume=True)
        assert again.read() == {name: [EMPTY] * n for name, n in num_tests.items()} and aside.read_bytes() == found
        assert capsys.readouterr().out.startswith(f"{writer.path}: cannot be gone on with (")
    assert SubmissionWriter(tmp_path / "other.json", {"a": 1}, resume=True).read() == {"a": [EMPTY]}


def test_unreadable_tasks_get_fallbacks(tmp_path):
    path = tmp_path / "challenges.json"
    pair = {"input": [[1]], "output": [[1]]}
    path.write_text(json.dumps({"a": {"train": [pair], "test": [pair]}, "b": {"train": [], "test": [pair, pair]}}))
    faults: list[TaskFault] = []
    needed = num_tests_of(load_tasks(path, faults=faults), faults)
    assert needed == {"a": 1, "b": 2}
    assert SubmissionWriter(tmp_path / "submission.json", needed).read()["b"] == [EMPTY] * 2


def one(first, second):
    return {"t": [{"attempt_1": [[first]], "attempt_2": [[second]]}]}


@pytest.mark.parametrize(
    ("members", "merged"),
    [
        ([one(1, 2), one(3, 4)], one(1, 3)),  # no agreement: the first attempts of both
        ([one(1, 2), one(3, 2)], one(2, 1)),  # what both propose comes first
        ([one(1, 2), one(1, 3)], one(1, 2)),
        ([one(1, 2), one(2, 1)], one(1, 2)),
        ([one(0, 0), one(3, 4)], one(3, 4)),  # a fallback proposes nothing
        ([one(0, 0), one(3, 0)], one(3, 3)),
        ([one(0, 0), one(0, 0)], one(0, 0)),
        ([one(1, 1), one(2, 2), one(3, 2)], one(2, 1)),
        ([{"a": [EMPTY]}, one(3, 4)], {"a": [EMPTY], **one(3, 4)}),
    ],
)
def test_merging_keeps_what_most_propose(members, merged):
    assert merge_submissions(members) == merged


@QUICK
@given(submissions())
def test_merging_a_submission_with_itself_proposes_nothing_new(submission):
    merged = merge_submissions([submission, submission])
    assert validate_submission(merged, needed_for(submission)) == []
    for task_id, outputs in merged.items():
        for output, before in zip(outputs, submission[task_id], strict=True):
            assert all(grid in before.values() for grid in output.values())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([one(1, 2)], "merge: expected at least two submissions, got 1"),
        ([one(1, 2), one(10, 2)], r"merge: submission 2: task t: test\[0\].attempt_1: .*10"),
        ([one(1, 2), {"t": [EMPTY, EMPTY]}], "merge: submission 2: task t: has 2 entries, the task has 1 test inputs"),
    ],
)
def test_merging_refuses_what_does_not_fit_together(members, message):
    with pytest.raises(SubmissionError, match=message):
        merge_submissions(members)

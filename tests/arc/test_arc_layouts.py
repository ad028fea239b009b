"""Data in the layouts that people have: every shape is read, or one line says what it is and where it belongs."""

import json
import logging
import lzma
import os
import time
import zipfile
from pathlib import Path

import pytest

from arc_helpers.arc import (
    SubmissionError,
    TaskError,
    choose_tasks,
    json_file,
    layouts,
    load_tasks,
    re_arc,
    read_submission,
    safe_name,
    validate_submission,
    write_tasks,
)

CASES = Path(__file__).parent / "cases"
PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
GOOD = {"train": [PAIR], "test": [PAIR]}
NAMES = [
    *("1,_3,_5,_...__x1", "Let'sMeet_x2", "Shape_(edit)_x3", "Snake%3A_turn_x4", "dot.name", "größe", "with space"),
    "a_very_long_name_that_says_all_of_what_the_rule_is_and_then_some_more_x5",
]
READ = {  # {source: (ids that are read, ids that are put aside)}
    "a02_null": (2, 0),
    "a03_cells": (2, 0),
    "a04_list.json": (3, 0),
    "a04_lines.jsonl": (3, 0),
    "a05_nested": (4, 0),
    "a08_oned": (2, 0),
    "a09_big": (2, 0),
    "a10_tests": (2, 0),
    "a11_enc": (3, 0),
    "a13_comp": (4, 0),
    "a16_trm": (6, 0),
    "a17_mix": (4, 2),
    "a18_five.jsonl": (3, 0),  # in the shape of Mini-ARC, made for this
    "ch3.json": (3, 0),
    "ch3_poisoned.json": (3, 0),
    "ch3_with_outputs.json": (3, 0),
}
EXPLAINED = {
    "a07_rearc": "abc12345.json is a list of generated pairs as in RE-ARC: notebook 00 reads their folder as re_arc=",
    "a14_sol": "missing.json is a solutions file: give it as solutions=",
    "a15_sub": "three.json is a submission: `validate`, `score` and `merge` read it",
    "a15_sub/bench": "is a task's answers in the benchmarking layout",
    "sol_none.json": "holds no tasks, but {}",
    "sol_one_of_three.json": "is a solutions file: give it as solutions=",
}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def error_of(read, *args, **options) -> str:
    with pytest.raises((TaskError, SubmissionError)) as error:
        read(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("source", READ)
def test_it_is_read(source):
    faults = []
    tasks = load_tasks(CASES / source, faults=faults)
    assert (len(tasks), len(faults)) == READ[source]
    files = CASES.rglob("*.json") if (CASES / source).is_dir() else []
    stems = {file.stem for file in files if file.is_relative_to(CASES / source)}
    assert source == "a13_comp" or not stems or {task.id for task in tasks} <= stems, "ids are kept"


@pytest.mark.parametrize("source", EXPLAINED)
def test_it_is_explained(source, monkeypatch):
    monkeypatch.setattr(layouts, "SHOWN", 9)
    assert EXPLAINED[source] in error_of(load_tasks, CASES / source, faults=[])


def test_every_case_is_read_or_explained():
    tops = {path.name for path in CASES.iterdir()}
    assert tops == {Path(name).parts[0] for name in (*READ, *EXPLAINED)}


# --- names


def test_odd_names_keep_their_ids_from_the_folder_to_the_files(tmp_path):
    for name in NAMES:
        write(tmp_path / "in" / f"{name}.json", GOOD)
    tasks = load_tasks(tmp_path / "in")
    assert {task.id for task in tasks} == set(NAMES)
    assert write_tasks(tasks, tmp_path / "out") == len(NAMES)
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {safe_name(name) for name in NAMES}
    assert {task.id for task in load_tasks(tmp_path / "out")} == set(NAMES)
    answer = [{"attempt_1": [[0]], "attempt_2": [[0]]}]
    assert validate_submission({name: answer for name in NAMES}, dict.fromkeys(NAMES, 1)) == []


def test_ids_that_hold_a_comma_can_be_chosen(tmp_path):
    for name in NAMES:
        write(tmp_path / f"{name}.json", GOOD)
    tasks = load_tasks(tmp_path)
    assert {t.id for t in choose_tasks(tasks, ids="dot.name, 1,_3,_5,_...__x1,größe")} == {
        NAMES[0],
        "dot.name",
        "größe",
    }
    with pytest.raises(TaskError, match=r"^task_ids: 1 not among the 8 tasks of the source$"):
        choose_tasks(tasks, ids="1,dot.name")


def test_tasks_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for place in ("A/x", "B/x", "B/y"):
        write(tmp_path / f"{place}.json", GOOD)
    assert [task.id for task in load_tasks(tmp_path)] == ["A/x", "B/x", "y"]


# --- folders


def test_a_folder_is_read_deep_without_what_systems_leave(tmp_path, caplog):
    for place in ("a/b/c/one", "two", ".git/three", "__MACOSX/._two", "._two", ".ipynb_checkpoints/two-checkpoint"):
        write(tmp_path / f"{place}.json", GOOD)
    write(tmp_path / "UPPER.JSON", GOOD)
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert [task.id for task in load_tasks(tmp_path)] == ["UPPER", "one", "two"]
    assert caplog.messages == []


def test_what_is_left_out_of_a_folder_is_said_file_by_file(tmp_path, caplog):
    write(tmp_path / "one.json", GOOD)
    write(tmp_path / "all_challenges.json", {"two": GOOD})
    write(tmp_path / "dataset.json", {"license": "MIT"})
    with caplog.at_level(logging.WARNING):
        assert [task.id for task in load_tasks(tmp_path)] == ["one"]
    assert caplog.messages == [
        f"{tmp_path}: left out: all_challenges.json is a challenges file: give its own path",
        f"{tmp_path}: left out: dataset.json holds no tasks, but {{'license': 'MIT'}}",
    ]


def test_two_challenges_files_are_not_chosen_between(tmp_path):
    for name in ("training", "evaluation"):
        write(tmp_path / f"{name}_challenges.json", {name: GOOD})
    assert error_of(load_tasks, tmp_path) == (
        f"{tmp_path}: 0 of 2 files are tasks: evaluation_challenges.json is a challenges file: give its own path; "
        "training_challenges.json is a challenges file: give its own path"
    )
    write(tmp_path / "sample_submission.json", {"training": [{"attempt_1": [[0]], "attempt_2": [[0]]}]})
    assert [task.id for task in load_tasks(tmp_path)] == ["training"], "the one that the sample answers"


def test_a_folder_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_ENTRIES", 10)
    for i in range(11):
        write(tmp_path / f"{i}.txt", "")
    assert error_of(load_tasks, tmp_path) == f"{tmp_path}: holds more than 10 files: name the folder of the tasks"


def test_when_no_task_can_be_read_the_first_reason_is_given(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.json", {"train": [], "test": [PAIR]})
    assert error_of(load_tasks, tmp_path, faults=[]) == (
        f"{tmp_path}: 0 of 2 tasks can be read: "
        "task a: train: there are no demonstrations; at least one is needed (and 1 more)"
    )


def test_a_zip_is_no_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "tasks.zip", "w") as archive:
        archive.writestr("a.json", json.dumps(GOOD))
    assert "not valid JSON" in error_of(load_tasks, tmp_path / "tasks.zip")


# --- lines and lists


def test_a_line_that_is_no_task_costs_itself(tmp_path):
    lines = [json.dumps({"id": "a", **GOOD}), "", "{", json.dumps(GOOD), json.dumps({"id": "a", **GOOD})]
    file, faults = write(tmp_path / "set.jsonl", "\n".join(lines)), []
    assert [task.id for task in load_tasks(file, faults=faults)] == ["a", "set-4"]
    assert [fault.id for fault in faults] == ["set-3", "a"]
    assert "line 3: not valid JSON" in faults[0].message and "appears twice" in faults[1].message


def test_re_arc_lines_are_named_for_what_they_are(tmp_path):
    file = write(tmp_path / "re_arc.jsonl", json.dumps({"id": "a", "examples": [PAIR]}))
    assert "is a list of generated pairs as in RE-ARC: notebook 00 reads this file as re_arc=" in error_of(
        load_tasks, file
    )
    assert list(re_arc(file)) == ["a"]
    assert {name: len(pairs) for name, pairs in re_arc(CASES / "a07_rearc").items()} == {"abc12345": 3}


# --- bounds


def test_repeated_keys_are_refused_quickly(tmp_path):
    keys = ",".join(f'"{i:06}":[]' for i in range(40_000))
    file = write(tmp_path / "dup.json", f'{{"a":[],{keys},"a":[]}}')
    start = time.perf_counter()
    assert error_of(load_tasks, file).startswith(f"{file}: holds no tasks")
    assert time.perf_counter() - start < 1


def test_a_bomb_is_refused_at_the_stated_cap(tmp_path):
    file = tmp_path / "bomb.jsonl.xz"
    file.write_bytes(lzma.compress(b" " * (json_file.MAX_LINE + 2), preset=0))
    for read in (load_tasks, re_arc):
        assert error_of(read, file) == f"{file}: line 1: the line has more than 32 MiB, unpacked"


def test_files_beyond_a_cap_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "MAX_FILE", json_file.MIB)
    monkeypatch.setattr(json_file, "MAX_LINES", 200)
    os.truncate(write(tmp_path / "big.json", "x"), 3 * json_file.MIB)
    assert error_of(load_tasks, tmp_path / "big.json").endswith("has 3 MiB; a JSON file may have 1")
    lines = write(tmp_path / "many.jsonl", (json.dumps(GOOD) + "\n") * 3)
    assert "line 2: the file has more than 0 MiB" in error_of(load_tasks, lines)


def test_deep_nesting_is_one_line(tmp_path):
    assert error_of(load_tasks, write(tmp_path / "x.json", "[" * 100_000)).endswith("nested too deeply")


# --- solutions and submissions


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "task t0000000: solutions: expected a list of grids, got nothing"),
        ("short", "task t0000001: solutions: 1 grids for 2 test inputs"),
        ("bare", "task t0000000: solutions: 3 grids for 1 test inputs"),
        ("dicts", "task t0000000: solutions[0]: expected a list of rows, got {'output'"),
    ],
)
def test_solutions_that_do_not_fit_are_one_line(name, message):
    challenges = CASES / "a13_comp/arc-agi_evaluation_challenges.json"
    assert error_of(load_tasks, challenges, solutions=CASES / f"a14_sol/{name}.json").startswith(message)
    answers = load_tasks(challenges, solutions=CASES / "a14_sol/reversed.json")
    assert all(task.has_answers for task in answers)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        *[("ok", None), ("swapped", None), ("three", "expected exactly attempt_1 and attempt_2")],
        *[("null2", "attempt_2: expected a list of rows, got None"), ("empty_grid", "attempt_2: the grid is empty")],
        ("one_attempt", "expected exactly attempt_1 and attempt_2"),
    ],
)
def test_submissions_of_every_shape(name, problem):
    needed = {"t0000000": 1, "t0000001": 2, "t0000002": 1, "t0000003": 2}
    problems = validate_submission(CASES / f"a15_sub/{name}.json", needed)
    assert (problems == []) if problem is None else (len(problems) == 6 and all(problem in one for one in problems))


def test_the_benchmarking_layout_of_a_folder_is_a_submission(tmp_path):
    read = read_submission(CASES / "a15_sub/bench")
    assert read == {"t0000000": [{"attempt_1": [[1, 1, 0], [1, 3, 0], [1, 0, 3]], "attempt_2": [[0]]}]}
    assert validate_submission(CASES / "a15_sub/bench", {"t0000000": 1}) == []
    write(tmp_path / "a.json", GOOD)
    assert error_of(read_submission, tmp_path) == (
        f"{tmp_path}: 0 of 1 files are answers in the benchmarking layout: a.json is a task"
    )

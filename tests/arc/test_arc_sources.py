import json
import socket

import pytest
from arc_strategies import QUICK, tasks
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import KNOWN_SETS, TaskError, TaskFault, load_tasks, write_tasks

PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
GOOD = {"train": [PAIR], "test": [PAIR]}
BLIND = {"train": [PAIR], "test": [{"input": [[3]]}, {"input": [[4]]}]}
RAGGED = {"train": [{"input": [[1]], "output": [[1, 2], [3]]}], "test": [PAIR, PAIR]}
ALLOWED = f"allowed are a folder of task files, a .json, .jsonl or .jsonl.xz file, or one of {', '.join(KNOWN_SETS)}"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: object):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def error_of(*args, **kwargs) -> str:
    with pytest.raises(TaskError) as error:
        load_tasks(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name, n", list(zip(KNOWN_SETS, (400, 400, 1000, 120), strict=True)))
def test_the_known_sets_load_offline(name, n, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: pytest.fail("the network was used"))
    loaded = load_tasks(name)
    assert len(loaded) == len({task.id for task in loaded}) == n
    assert all(task.has_answers and task.source == name for task in loaded)
    assert json.dumps(loaded[0].to_dict())  # plain ints


def test_a_folder_is_read_by_name(write):
    for name in ("b", "a", "c"):
        path = write(f"{name}.json", GOOD)
    write("notes.txt", "not a task")
    assert [task.id for task in load_tasks(path.parent)] == ["a", "b", "c"]
    assert load_tasks(str(path.parent)) == load_tasks(path.parent)


def test_one_file_with_one_task(write):
    (task,) = load_tasks(write("abc.json", GOOD | {"name": "ignored"}))
    assert task.id == "abc" and task.to_dict() == GOOD


def test_a_challenges_file_keeps_its_order_and_has_no_answers_unless_asked_for(write):
    challenges = write("x_challenges.json", {"b": BLIND, "a": BLIND})
    solutions = write("x_solutions.json", {"a": [[[5]], [[6]]], "b": [[[7]], [[8]]], "more": [[[1]]]})
    assert [(task.id, task.has_answers) for task in load_tasks(challenges)] == [("b", False), ("a", False)]
    b, a = load_tasks(challenges, solutions=solutions)
    assert [grid.tolist() for task in (a, b) for grid in task.answers()] == [[[5]], [[6]], [[7]], [[8]]]


@pytest.mark.parametrize(
    "solutions, message",
    [
        ({}, "task a: solutions: expected a list of grids, got nothing"),
        ({"a": 3}, "task a: solutions: expected a list of grids, got 3"),
        ({"a": [[[5]]]}, "task a: solutions: 1 grids for 2 test inputs"),
        (
            {"a": [[[5]], [[11]]]},
            "task a: solutions[1]: row 0, column 0: value 11; allowed are the integers 0 to 9",
        ),
    ],
)
def test_solutions_that_do_not_fit(write, solutions, message):
    challenges, solutions = write("c.json", {"a": BLIND, "b": GOOD}), write("s.json", solutions | {"b": [[[1]]]})
    assert error_of(challenges, solutions=solutions) == message
    faults = []
    assert [task.id for task in load_tasks(challenges, solutions=solutions, faults=faults)] == ["b"]
    assert faults == [TaskFault("a", message, 2)]


def test_a_solutions_file_of_another_kind(write):
    challenges, solutions = write("c.json", {"a": BLIND}), write("s.json", [])
    assert error_of(challenges, solutions=solutions) == (
        f"{solutions}: expected a mapping from ids to lists of grids; it holds no tasks, but []"
    )


@pytest.mark.parametrize("name", ["arcagi3/training", "arcagi1", "no/such/path", "../nowhere"])
def test_unknown_names_list_what_is_allowed(name):
    assert error_of(name) == f"{name}: no such file, folder or set; {ALLOWED}"


def test_an_empty_folder(tmp_path):
    assert error_of(tmp_path) == f"{tmp_path}: the folder holds no *.json or *.jsonl file"


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ("[1]", "holds no tasks, but [1]"),
        ("{}", "holds no tasks, but {}"),
    ],
)
def test_unusable_files_raise_even_if_faults_are_collected(write, text, message):
    path = write("x.json", text)
    assert error_of(path) == error_of(path, faults=[]) == f"{path}: {message}"


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\xff")
    assert error_of(path).startswith(f"{path}: not valid JSON: 'utf-")


def test_one_bad_task_in_a_file_never_stops_the_others(write):
    path = write("x.json", {"a": GOOD, "b\n": GOOD, "c": RAGGED, "d": GOOD, "e": 5})
    assert error_of(path).startswith("task id 'b\\n': allowed are")
    faults = []
    assert [task.id for task in load_tasks(path, faults=faults)] == ["a", "d"]
    assert faults == [
        TaskFault("b\n", "task id 'b\\n': allowed are 1 to 256 printable characters", 1),
        TaskFault("c", "task c: train[0].output: row 1 has 1 cells, row 0 has 2; rows must be equal", 2),
        TaskFault("e", "task e: expected a mapping with 'train' and 'test', got 5", 1),
    ]


def test_one_bad_file_in_a_folder_never_stops_the_others(write):
    write("a.json", GOOD)
    broken = write("b.json", "{")
    write("b.c.json", GOOD)
    faults = []
    assert [task.id for task in load_tasks(broken.parent, faults=faults)] == ["a", "b.c"]
    assert [(fault.id, fault.num_tests) for fault in faults] == [("b", 1)]
    assert faults[0].message.startswith(f"task b: {broken}: not valid JSON: ")
    assert error_of(broken.parent).startswith(f"task b: {broken}")


def test_duplicate_ids_in_one_file(write):
    good = json.dumps(GOOD)
    path = write("x.json", f'{{"a": {good}, "b": {good}, "a": {good}}}')
    assert error_of(path) == "task a: the key 'a' appears twice"
    faults = []
    assert [task.id for task in load_tasks(path, faults=faults)] == ["b"]
    assert faults == [TaskFault("a", "task a: the key 'a' appears twice", 1)]


def test_duplicate_keys_inside_a_task(write):
    path = write("x.json", '{"a": {"train": [], "train": [], "test": []}}')
    assert error_of(path) == "task a: train: expected a list of pairs, got a key that appears twice"


@QUICK
@given(st.lists(tasks(), min_size=1, max_size=3, unique_by=lambda task: task.id.lower()))
def test_written_tasks_load_again(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("tasks") / "deep"
    assert write_tasks(written, folder) == len(written)
    assert sorted(load_tasks(folder), key=lambda t: t.id) == sorted(written, key=lambda t: t.id)


def test_writing_leaves_what_is_somebody_elses(write, tmp_path):
    one, two = (load_tasks(write(f"{name}.json", GOOD))[0] for name in ("a", "b"))
    out = tmp_path / "out"
    assert write_tasks([one], out) == write_tasks([one], out) == 1, "the same again"
    (out / "a.json").write_text("mine")
    with pytest.raises(TaskError, match=r"a\.json \(1 such\): holds something else; move it away, or choose another"):
        write_tasks([two, one], out)
    assert (out / "a.json").read_text() == "mine" and not (out / "b.json").exists()


def test_writing_refuses_duplicate_ids(write, tmp_path):
    task = load_tasks(write("a.json", GOOD))[0]
    with pytest.raises(TaskError, match=r"^task a: appears 2 times; ids must be unique$"):
        write_tasks([task, task], tmp_path / "out")
    assert not (tmp_path / "out").exists()

import copy
import pickle
import re
from html.parser import HTMLParser

import pytest
from arc_strategies import QUICK, grids, tasks
from hypothesis import given

from arc_helpers.arc import ARC_COLORS, GridError, Pair, Task, TaskError, safe_name

PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
GOOD = {"train": [PAIR], "test": [PAIR]}


@QUICK
@given(grids(), grids(), grids())
def test_pairs_are_equal_by_value(a, b, c):
    assert Pair(a, b) == Pair(a, b) and hash(Pair(a, b)) == hash(Pair(a, b))
    assert (Pair(a, b) == Pair(a, c)) == (b == c)
    assert Pair(a) != Pair(a, b) and Pair(a) != a


def test_pairs_of_one_byte_string_but_different_shape_differ():
    assert Pair([[1, 2]]) != Pair([[1], [2]])


@QUICK
@given(tasks())
def test_tasks_survive_json_form_pickle_and_copy(task):
    for other in (
        Task.from_dict(task.id, task.to_dict()),
        pickle.loads(pickle.dumps(task)),
        copy.deepcopy(task),
    ):
        assert other == task and hash(other) == hash(task)
        assert not other.train[0].input.flags.writeable


def test_where_a_task_came_from_does_not_make_it_another():
    assert Task.from_dict("a", GOOD, source="x") == Task.from_dict("a", GOOD, source="y")
    assert Task.from_dict("a", GOOD) != Task.from_dict("b", GOOD)


BAD_TASKS = {
    "ragged": (
        {"train": [{"input": [[1]], "output": [[1, 2], [3]]}], "test": [PAIR]},
        "task t: train[0].output: row 1 has 1 cells, row 0 has 2; rows must be equal",
    ),
    "bad test cell": (
        {"train": [PAIR], "test": [PAIR, {"input": [[10]]}]},
        "task t: test[1].input: row 0, column 0: value 10; allowed are the integers 0 to 9",
    ),
    "no demonstrations": (
        {"train": [], "test": [PAIR]},
        "task t: train: there are no demonstrations; at least one is needed",
    ),
    "no test": (
        {"train": [PAIR], "test": []},
        "task t: test: there is no test input; at least one is needed",
    ),
    "demonstration without output": (
        {"train": [{"input": [[1]]}], "test": [PAIR]},
        "task t: train[0].output: is missing; every demonstration needs one",
    ),
    "no train": ({"test": [PAIR]}, "task t: train: expected a list of pairs, got nothing"),
    "train is a number": ({"train": 3, "test": [PAIR]}, "task t: train: expected a list of pairs, got 3"),
    "pair is a list": (
        {"train": [[1, 2]], "test": [PAIR]},
        "task t: train[0]: expected a mapping with 'input' and 'output', got [1, 2]",
    ),
    "not a mapping": ([], "task t: expected a mapping with 'train' and 'test', got []"),
}


@pytest.mark.parametrize("mapping, message", BAD_TASKS.values(), ids=BAD_TASKS)
def test_bad_tasks_are_refused_in_one_line(mapping, message):
    with pytest.raises(TaskError) as error:
        Task.from_dict("t", mapping)
    assert str(error.value) == message


@pytest.mark.parametrize("task_id", ["", "a" * 257, "a\n", "\nb", "a\0", "\ud800", 7, None])
def test_odd_ids_are_refused(task_id):
    with pytest.raises(TaskError) as error:
        Task.from_dict(task_id, GOOD)
    message = str(error.value)
    assert message.startswith("task id ") and message.endswith("allowed are 1 to 256 printable characters")
    assert "\n" not in message


@pytest.mark.parametrize("task_id", ["../etc/passwd", "a/b", "a.b", "a b", "a" * 65, "é", "Let'sMeet_x2", "$x^$"])
def test_an_id_keeps_its_spelling_and_its_files_get_a_safe_name(task_id):
    assert Task.from_dict(task_id, GOOD).id == task_id
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", safe_name(task_id)) and safe_name(task_id) != safe_name(task_id + "!")
    assert safe_name("007bbfb7") == "007bbfb7"


def test_cells_that_mean_whole_numbers_are_read_and_others_named():
    odd = {"train": [{"input": [[1.0, "2"], [0, 3]], "output": [["9"]]}], "test": [{"input": [[1]], "output": []}]}
    task = Task.from_dict("t", odd)
    assert task.train[0] == Pair([[1, 2], [0, 3]], [[9]]) and not task.has_answers
    for cell in (1.5, "x", "12", "²", float("nan"), float("inf"), True, None):
        with pytest.raises(TaskError, match=r"^task t: train\[0\]\.input: row 0, column 1: value "):
            Task.from_dict("t", {"train": [{"input": [[1.0, cell]], "output": [[1]]}], "test": [PAIR]})


def test_an_unusual_id_and_further_fields_are_fine():
    task = Task.from_dict("-A_9", GOOD | {"name": "x", "author": {}})
    assert task.id == "-A_9" and task.to_dict() == GOOD


def test_a_bad_grid_in_a_pair():
    with pytest.raises(GridError, match=r"^output: row 0, column 0: value -1"):
        Pair([[1]], [[-1]])


def test_answers_can_be_removed_and_are_missed_only_when_scoring():
    task = Task.from_dict("t", {"train": [PAIR], "test": [PAIR, PAIR]})
    assert task.has_answers and [grid.tolist() for grid in task.answers()] == [PAIR["output"]] * 2
    blind = task.without_answers()
    assert not blind.has_answers and blind.train == task.train and "output" not in blind.to_dict()["test"][0]
    with pytest.raises(TaskError, match=r"^task t: test\[0\].output: is missing; scoring needs every test output$"):
        blind.answers()


def test_max_side_does_not_look_at_answers():
    hidden = {"train": [PAIR], "test": [{"input": [[1]], "output": [[0] * 30]}]}
    assert Task.from_dict("t", hidden).max_side == 2
    seen = {"train": [{"input": [[1]], "output": [[0] * 7]}], "test": [{"input": [[1]] * 5}]}
    assert Task.from_dict("t", seen).max_side == 7


class _Counter(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.open, self.cells = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.cells += tag == "td"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@QUICK
@given(tasks())
def test_the_html_draws_every_cell_and_closes_every_tag(task):
    text = task._repr_html_()
    counted = _Counter(text)
    grids = [grid for pair in task.train + task.test for grid in (pair.input, pair.output) if grid is not None]
    assert counted.open == [] and counted.cells == sum(grid.size for grid in grids)
    assert all(f"{grid.shape[0]}×{grid.shape[1]}" in text for grid in grids)


def test_the_html_uses_the_colours_and_escapes_names():
    task = Task.from_dict("t", {"train": [{"input": [[7]], "output": [[3]]}], "test": [PAIR]}, source="<b>&")
    text = task._repr_html_()
    assert ARC_COLORS[7] in text and ARC_COLORS[3] in text and ARC_COLORS[9] not in text
    assert "&lt;b&gt;&amp;" in text and "?" in task.without_answers()._repr_html_()

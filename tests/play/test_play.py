"""The kernel's side of the playground: what it gives away and when, what it reads and writes."""

import json
import sys
from types import SimpleNamespace

import pytest

from arc_helpers import play
from arc_helpers.arc import Pair, Task, TaskError, load_tasks
from arc_helpers.plot import Picture

TASK = Task("little", (Pair([[1]], [[2]]), Pair([[3, 3]], [[4, 4]])), (Pair([[5]], [[6]]),))
OTHER = Task("other", (Pair([[1]], [[2]]),), (Pair([[5]]),))


@pytest.fixture
def live(monkeypatch, tmp_path):
    """As in JupyterLab, writing into tmp_path."""
    monkeypatch.setattr(play, "detect", lambda: SimpleNamespace(headless=False))
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    return lambda *given: play.open_playground(*given)


def ask(playground, what, **values):
    return playground.reply({"n": 7, "what": what, **values})


def test_without_a_front_end_it_is_a_picture():
    picture = play.open_playground([TASK])
    assert isinstance(picture, Picture) and len(picture.axes) == 6 and len(picture.axes[-1].images) == 0, "no answer"
    answered = play.open_playground([TASK], {"base": {"little": [([[6]], [[0]])]}})
    assert "attempt 1 · 1×1\n✓ solved" in [ax.get_title() for ax in answered.axes]
    with pytest.raises(TaskError, match="nothing to play with: no task was given"):
        play.open_playground({"a": []})


def test_the_browser_gets_no_answer_before_it_asks(live):
    answers = {"base": {"little": [([[0]], [[0]])]}, "adapter": {"little": [([[6]], [[0, 0]])]}}
    playground = live([TASK], answers)
    assert playground.tasks[0]["test"] == [(["5"], None)] and "6" not in json.dumps(playground.get_state()["tasks"])
    assert ask(playground, "check", task=0, test=0, grid=["6"]) == {"n": 7, "verdict": "✓ solved"}
    assert ask(playground, "check", task=0, test=0, grid=["5"])["verdict"] == "✗ 1 cell wrong"
    assert ask(playground, "check", task=0, test=0, grid=["66"])["verdict"] == "✗ wrong size"
    told = ask(playground, "answers", task=0, test=0)["answers"]
    models = [("base", ("0",)), ("adapter, attempt 1", ("6",)), ("adapter, attempt 2", ("00",))]
    assert told == [*models, ("truth", ("6",))]


def test_sets_and_what_is_filtered_by(live):
    playground = live({"a": [TASK], "b": [OTHER, TASK]})
    assert (playground.sets, playground.shown, len(playground.tasks)) == (["a", "b"], "a", 1)
    assert [playground.tasks[0][name] for name in ("side", "colors", "pairs")] == [2, 5, 2]
    ask(playground, "set", name="b")
    assert playground.shown == "b" and [task["id"] for task in playground.tasks] == ["other", "little"]
    assert ask(playground, "check", task=0, test=0, grid=["1"])["verdict"] == "the answer is not known here"
    assert ask(playground, "answers", task=0, test=0) == {"n": 7, "answers": [], "said": "the answer is not known here"}


def test_a_drawn_task_is_a_file_that_notebooks_read(live, tmp_path):
    playground = live([TASK])
    drawn = {"id": "mine", "train": [(["12", "30"], ["1"])], "test": [(["4"], None), (["5"], ["6"])]}
    assert ask(playground, "save", task=drawn)["said"] == 'saved. In notebook 02: data_dir = "work/tasks/mine.json"'
    (task,) = load_tasks(tmp_path / "work/tasks/mine.json")
    assert task == Task("mine", [Pair([[1, 2], [3, 0]], [[1]])], [Pair([[4]]), Pair([[5]], [[6]])])
    # the same task again is the same file; another notebook that is open, or tomorrow's, writes beside it
    assert ask(playground, "save", task=drawn)["path"] == "work/tasks/mine.json"
    assert ask(live([TASK]), "save", task=drawn)["path"] == "work/tasks/mine-2.json"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"train": [(["1" * 31], ["1"])]}, "task mine: train[0].input: the grid is 1×31; allowed are 1×1 to 30×30"),
        ({"train": []}, "task mine: train: there are no demonstrations"),
        ({"id": ""}, "task id '': allowed are 1 to 256 printable characters"),
        ({"test": [(["1", "12"], None)]}, "task mine: test[0].input: row 1"),
        ({"test": [([[1]], None)]}, "a grid is rows of digits, not [[1]]"),
    ],
)
def test_bad_drawings_are_told_and_not_written(live, tmp_path, task, said):
    drawn = {"id": "mine", "train": [(["1"], ["2"])], "test": [(["4"], None)], **task}
    reply = ask(live([TASK]), "save", task=drawn)
    assert reply["failed"] and reply["said"].startswith(said), reply
    assert not list(tmp_path.rglob("*.json"))


def test_a_file_that_is_dropped_in(live):
    playground = live([TASK])
    challenges = {"x": TASK.to_dict(), "y": OTHER.to_dict()}
    assert ask(playground, "open", name="set.json", text=json.dumps(challenges))["said"] == "set.json: 2 tasks"
    assert playground.shown == "set.json" and [task["id"] for task in playground.tasks] == ["x", "y"]
    reply = ask(playground, "open", name="../bad.json", text="{")
    assert reply["failed"] and reply["said"].startswith("bad.json: ") and "\n" not in reply["said"]
    assert playground.shown == "set.json", "what was there stays"


def test_a_saved_notebook_keeps_a_picture_with_a_text(live, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("arc_helpers.plot.beside.display", lambda data, raw: shown.append(data))
    live([TASK])._ipython_display_()
    picture, widget = shown
    assert (
        '<img alt="Task little: 2 demonstrations, 1 test inputs, as coloured grids." src="data:image/png;base64,'
        in (picture["text/html"])
    )
    assert "application/vnd.jupyter.widget-view+json" in widget and "image/png" not in widget


def test_without_anywidget_it_says_so(live, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "arc_helpers.play.playground", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert isinstance(live([TASK]), Picture)
    assert capsys.readouterr().out == "anywidget is not installed, so this is a picture: pip install anywidget\n"

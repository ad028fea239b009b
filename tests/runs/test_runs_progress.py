import sys

import pytest

from arc_helpers.runs import Environment, progress

# The package exports the function under the module's name.
module = sys.modules["arc_helpers.runs.progress"]


@pytest.fixture
def where(monkeypatch, tmp_path):
    def be(kind, headless):
        environment = Environment(kind, tmp_path, tmp_path, headless, kind.startswith("kaggle"))
        monkeypatch.setattr(module, "detect", lambda: environment)

    return be


def test_headless_prints_whole_lines(where, capsys):
    where("papermill", True)
    assert list(progress(range(4), desc="train", every=0)) == [0, 1, 2, 3]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "train: 1/4 (25 %)",
        "train: 2/4 (50 %)",
        "train: 3/4 (75 %)",
        "train: 4/4 (100 %)",
    ]
    assert lines[0].endswith("left") and not lines[-1].endswith("left")


def test_headless_is_quiet_in_between_and_always_ends_with_a_line(where, capsys):
    where("kaggle-batch", True)
    list(progress(iter(range(1000))))
    assert capsys.readouterr().out.splitlines()[0].startswith("1000 in 0.")
    for item in progress(range(10), desc="groups"):
        if item == 3:
            break
    assert capsys.readouterr().out.startswith("groups: 3/10 (30 %) in ")
    assert list(progress([], desc="none")) == []
    assert capsys.readouterr().out == "none: 0 in 0.0 s\n"


def test_a_terminal_gets_a_bar_and_a_notebook_one_that_stays_when_it_is_saved(where, capsys):
    where("terminal", False)
    assert list(progress([1, 2], desc="bar")) == [1, 2]
    assert "100%" in capsys.readouterr().err
    where("jupyter", False)
    assert list(progress([1, 2], desc="text")) == [1, 2]
    captured = capsys.readouterr()
    assert captured.err == "" and "100%" in captured.out


def test_minutes():
    assert module._line("x", 30, 60, 90.0) == "x: 30/60 (50 %) in 1 min 30 s, about 1 min 30 s left"

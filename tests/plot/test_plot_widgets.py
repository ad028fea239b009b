"""Turning a knob of an explorer changes its picture; without a front end there is a static one."""

from types import SimpleNamespace

import pytest

from arc_helpers.plot import (
    Explorer,
    Picture,
    explore_augmentations,
    explore_predictions,
    explore_tasks,
    explore_tokens,
    plot_task,
    widgets,
)


@pytest.fixture(params=[False, True], ids=["live", "headless"])
def headless(request, monkeypatch) -> bool:
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=request.param))
    return request.param


def explorers(task) -> dict:
    """Every explorer, with a change for each of its knobs."""
    other = type(task)("other", task.train[:1], task.test[:1])
    symbols = [*"0123456789", "\n"]
    encoded = [
        SimpleNamespace(input_ids=[1, 10, 2], labels=[-100, -100, 2]),
        SimpleNamespace(input_ids=[3] * 60, labels=[-100] * 50 + [3] * 10),
    ]
    results = [
        (task, [([[0]], [[9, 0, 4]])] * 2, task.answers()),
        (other.without_answers(), [([[0]], [[1]])], None),
    ]
    return {
        "tasks": (lambda: explore_tasks([task, other]), {"task": 1, "digits": True}),
        "augmentations": (
            lambda: explore_augmentations(task),
            {"pair": 1, "rotation": 2, "flip": True, "colors": 7, "digits": True},
        ),
        "predictions": (lambda: explore_predictions(results), {"task": 1, "digits": True}),
        "tokens": (lambda: explore_tokens(encoded, symbols.__getitem__), {"sequence": 1}),
    }


@pytest.mark.parametrize("name", ["tasks", "augmentations", "predictions", "tokens"])
def test_every_knob_changes_the_picture(task, headless, name):
    explore, changes = explorers(task)[name]
    explorer = explore()
    if headless:
        assert isinstance(explorer, Picture)
        return
    assert isinstance(explorer, Explorer)
    for control, value in changes.items():
        before = bytes(explorer.picture.value)
        assert before.startswith(b"\x89PNG")
        explorer.controls[control].value = value
        assert bytes(explorer.picture.value) != before, control


@pytest.mark.parametrize("headless", [False], indirect=True)
def test_the_first_picture_is_the_plain_function_s(task, headless):
    assert explore_tasks([task]).picture.value == plot_task(task).to_png()


@pytest.mark.parametrize("headless", [False], indirect=True)
def test_controls_wait_until_a_slider_is_let_go(task, headless):
    for explore, _ in explorers(task).values():
        for name, control in explore().controls.items():
            assert getattr(control, "continuous_update", False) is False, name


@pytest.mark.parametrize("headless", [False], indirect=True)
def test_the_token_table_starts_where_the_slider_says(task, headless):
    explorer = explorers(task)["tokens"][0]()
    explorer.controls["sequence"].value = 1
    assert explorer.controls["start"].max == 59
    picture, table = explorer.picture.value, explorer.table.value
    explorer.controls["start"].value = 45
    assert "… 45 more" in explorer.table.value != table
    assert explorer.picture.value == picture, "the strip shows the whole sequence"
    explorer.controls["sequence"].value = 0
    assert "3 tokens" in explorer.table.value, "a start beyond the end of a shorter sequence is no error"


@pytest.mark.parametrize("headless", [False], indirect=True)
def test_nothing_to_explore_is_said(headless):
    with pytest.raises(ValueError, match="nothing to explore: no task was given"):
        explore_tasks([])

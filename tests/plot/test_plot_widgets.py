"""Turning a knob of an explorer changes its picture; without a front end there is a static one."""

from types import SimpleNamespace

import numpy as np
import pytest

from arc_helpers.plot import (
    Explorer,
    Picture,
    explore_augmentations,
    explore_candidates,
    explore_pictures,
    explore_segments,
    explore_tokens,
    plot_pair,
    plot_task,
    widgets,
)


@pytest.fixture(params=[False, True], ids=["live", "headless"])
def headless(request, monkeypatch) -> bool:
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=request.param))
    return request.param


def explorers(task) -> dict:
    """Every explorer, with a change for each of its knobs."""
    symbols = [*"0123456789", "\n"]
    encoded = [
        SimpleNamespace(input_ids=[1, 10, 2], labels=[-100, -100, 2]),
        SimpleNamespace(input_ids=[3] * 60, labels=[-100] * 50 + [3] * 10),
    ]
    answers = [
        SimpleNamespace(grid=[[9, 0, 4]], votes=2, logprob=-0.1, views=("r0", "r1"), product=-0.5),
        SimpleNamespace(grid=[[9, 0, 0]], votes=1, logprob=-0.9, views=("r2",), product=None),
    ]
    walls = [("little", answers, [[9, 0, 4]]), ("other", answers[:1], None)]
    latents = np.random.default_rng(0).normal(size=(2, 2, 5))
    segments = ([[1, 2]], [[[1, 0]], [[2, 1]]], [0.1, 0.9], latents, [[2, 1]])
    likely = {"base": [[-1.0], [-2.0] * 10], "adapter": [[-0.1], [-0.2] * 10]}
    return {
        "augmentations": (
            lambda: explore_augmentations(task),
            {"pair": 1, "rotation": 2, "flip": True, "colors": 7, "digits": True},
        ),
        "candidates": (lambda: explore_candidates(walls), {"test": 1, "digits": True}),
        "segments": (lambda: explore_segments(*segments), {"segment": 2, "digits": True}),
        "pictures": (
            lambda: explore_pictures({"one": lambda: plot_task(task), "two": lambda: plot_pair(task.train[0])}),
            {"picture": 1},
        ),
        "tokens": (
            lambda: explore_tokens(encoded, symbols.__getitem__, logprobs=likely),
            {"sequence": 1, "model": "adapter"},
        ),
    }


@pytest.mark.parametrize("name", ["augmentations", "candidates", "segments", "pictures", "tokens"])
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
        assert explorer.status.value == "", "it no longer says that it draws"


@pytest.mark.parametrize("headless", [False], indirect=True)
def test_no_picture_when_it_is_interrupted(task, headless):
    drawn = []

    def draw() -> Picture:
        if drawn:
            raise KeyboardInterrupt
        drawn.append("one")
        return plot_task(task)

    explorer = explore_pictures({"one": draw, "two": draw})
    before = explorer.picture.value
    explorer.controls["picture"].value = 1
    assert explorer.picture.value == before and explorer.status.value.startswith("stopped")


def test_it_says_that_it_draws(task):
    seen = []

    def draw(digits: bool) -> Picture:
        seen.append(explorer.status.value if seen else "")
        return plot_task(task, digits=digits)

    explorer = Explorer({"digits": widgets.digits_box()}, draw)
    explorer.controls["digits"].value = True
    assert seen == ["", widgets.BUSY] and explorer.status.value == ""


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
    assert ">0.368<" in explorer.table.value and ">0.905<" in explorer.table.value, "a column a model"


@pytest.mark.parametrize("headless", [False], indirect=True)
def test_nothing_to_explore_is_said(headless):
    with pytest.raises(ValueError, match="nothing to explore: no picture was given"):
        explore_pictures({})

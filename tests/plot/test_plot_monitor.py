"""The monitor knows who waits, trains, is done or has failed, by the losses alone."""

import math
from types import SimpleNamespace

import pytest

from arc_helpers.plot import TrainingMonitor, monitor, plot_monitor


class Handle:
    """What a notebook's display gives back."""

    def __init__(self):
        self.pictures = []

    def update(self, picture):
        self.pictures.append(picture)


@pytest.fixture
def handle(monkeypatch) -> Handle:
    made = Handle()
    monkeypatch.setattr(monitor, "display", lambda picture, display_id: made.update(picture) or made)
    return made


def test_states_follow_from_the_losses():
    watch = TrainingMonitor(["a", "b", "c", "d"])
    assert set(watch.states.values()) == {"waits"}
    watch({"a": 2.0, "b": 3.0})
    assert watch.states == {"a": "trains", "b": "trains", "c": "waits", "d": "waits"}
    watch({"a": 1.0, "c": 2.5})  # b's slot has gone to c
    assert watch.states == {"a": "trains", "b": "done", "c": "trains", "d": "waits"}
    watch({"a": math.nan, "c": 2.0, "d": math.nan})  # d has not begun: NaN there means that it did not run
    assert watch.states == {"a": "failed", "b": "done", "c": "trains", "d": "waits"}
    watch({"a": 0.5, "c": 1.5})
    assert watch.states["a"] == "trains", "a skipped step is forgiven"
    watch.finish()
    assert watch.states == {"a": "done", "b": "done", "c": "done", "d": "waits"}
    assert watch.losses["b"] == [3.0] and watch.losses["c"] == [2.5, 2.0, 1.5]


def test_the_picture_needs_no_colour():
    picture = plot_monitor({"a": [2.0, 1.0], "b": [3.0]}, {"a": "trains", "b": "done", "c": "failed", "d": "waits"})
    curves, boxes = picture.axes
    assert [line.get_label() for line in curves.lines] == ["a", "b"]
    assert len({line.get_linestyle() for line in curves.lines}) == 2
    assert [text.get_text() for text in boxes.texts] == ["▶", "●", "✗", "·"]
    assert boxes.get_title(loc="left") == "· 1 waits   ▶ 1 trains   ● 1 done   ✗ 1 failed"


@pytest.mark.parametrize("n", [1, 30, 31, 400])
def test_any_number_of_trainings_fits(n):
    watch = TrainingMonitor([f"task {i}" for i in range(n)])
    for i in range(n):
        watch({f"task {i}": 1.0})
    curves, boxes = watch.finish().axes
    assert len(boxes.texts) == n and len(curves.lines) == min(n, monitor.CURVES)
    assert watch.picture().to_png().startswith(b"\x89PNG")


@pytest.mark.parametrize("headless, before_the_end", [(False, 2), (True, 1)])
def test_it_draws_now_and_then_and_at_the_end(handle, monkeypatch, headless, before_the_end):
    monkeypatch.setattr(monitor, "detect", lambda: SimpleNamespace(headless=headless))
    watch = TrainingMonitor(["a"], every=3600).show()
    for step in range(50):
        watch({"a": 1 / (step + 1)})
    assert len(handle.pictures) == before_the_end, "when it is shown; live, after the first step; not for an hour then"
    watch.finish()
    assert len(handle.pictures) == before_the_end + 1 and len(handle.pictures[-1].axes[0].lines[0].get_xdata()) == 50

"""A task while it is learned: what is drawn, written as a page and as a GIF; and that no label is read on the way."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from arc_helpers import play
from arc_helpers.arc import Pair, Task
from arc_helpers.play import Learning, learning

TASK = Task("little", (Pair([[1]], [[2]]), Pair([[3]], [[4]])), (Pair([[5, 0]], [[6, 0]]),))


def shot(step, grid, sure, loss=None):
    return SimpleNamespace(step=step, loss=loss, grid=np.array(grid), sure=np.array(sure), votes=step, views=8)


SHOTS = [
    shot(0, [[1, 0, 0]], [[0.2, 0.5, 0.9]]),
    shot(2, [[1, 0]], [[0.4, 1.0]], 0.5),
    shot(8, [[6, 0]], [[0.9, 1.0]], 0.125),
]
LOSSES = [1.0, 0.5, float("nan"), 0.2, 0.15, 0.15, 0.13, 0.125]


@pytest.fixture
def story() -> Learning:
    return Learning(TASK, SHOTS, [[6, 0]], LOSSES)


def test_each_cell_is_filled_as_far_as_the_model_is_sure_of_it(story):
    titles = lambda i: [ax.get_title() for ax in story.picture(i).axes if ax.get_title()]  # noqa: E731
    assert titles(0)[-1] == "step 0 · 1×3\n✗ wrong size 1×3\n0 of 8 views"
    assert titles(1)[-1] == "step 2 · 1×2\n✗ 1 cell wrong\n2 of 8 views" and "✓ solved" in titles(2)[-1]
    (answer,) = [ax for ax in story.picture(1).axes if ax.get_title().startswith("step 2")]
    sides = [patch.get_width() for patch in answer.patches if patch.get_gid() == "sure"]
    assert sides == pytest.approx([0.4**0.5, 1.0])
    assert "✗" not in Learning(TASK, SHOTS).picture(0).axes[-1].get_title(), "without a truth nothing is judged"


def test_a_page_needs_nothing_else(story):
    evil = Learning(Task("</script><b>", TASK.train, TASK.test), SHOTS)
    for page in (story.to_html(), evil.to_html()):
        assert page.count("</script>") == 1 and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    told = story.story()
    assert json.loads(json.dumps(told))["losses"][2] is None and told["task"]["test"] == [(["50"], None)]
    assert len(json.dumps(Learning(TASK, SHOTS).story())) < 1000


def test_a_gif_has_a_frame_a_shot(story):
    from PIL import Image

    picture = Image.open(io.BytesIO(story.to_gif()))
    assert (picture.n_frames, picture.info["loop"]) == (3, 0)


def test_headless_it_is_the_last_picture_and_live_a_widget(story, monkeypatch):
    assert play.watch_learning(story).to_png() == story.picture(-1).to_png()
    monkeypatch.setattr(learning, "detect", lambda: SimpleNamespace(headless=False))
    shown = []
    monkeypatch.setattr("arc_helpers.plot.beside.display", lambda data, raw: shown.append(data))
    play.watch_learning(story)._ipython_display_()
    assert "Task little: its demonstrations" in shown[0]["text/plain"] and "image/png" not in shown[1]
    with pytest.raises(ValueError, match="nothing to watch: no step of little has an answer"):
        Learning(TASK, [])

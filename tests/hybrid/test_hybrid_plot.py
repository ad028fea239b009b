"""The pictures of notebook 04."""

from types import SimpleNamespace

import numpy as np
import pytest

from arc_helpers.plot import Explorer, Picture, widgets
from arc_helpers.plot import hybrid as pictures


def texts(picture) -> list[str]:
    found = [text.get_text() for ax in picture.axes for text in (*ax.texts, ax.title)]
    return found + [text.get_text() for legend in picture.legends for text in legend.get_texts()]


def test_the_loop_shows_the_shapes_it_is_given():
    picture = pictures.plot_loop({"TRM": "108,097 parameters"}, {"states": "[64, 210, 128]"})
    assert {"TRM\n108,097 parameters", "states\n[64, 210, 128]", "prompt"} <= set(texts(picture))
    assert picture.to_png().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="shapes: 'hidden' is not in the picture; allowed: ids, prefix"):
        pictures.plot_loop({}, {"hidden": ""})


def test_a_part_without_gradient_is_red_and_says_so():
    picture = pictures.plot_gradients({"adapter": 0.5, "cut": 0.0})
    assert {"5.0e-01", "no gradient"} <= set(texts(picture))
    colors = [bar.get_facecolor() for bar in picture.axes[0].patches]
    assert colors[0] != colors[1]
    assert pictures.plot_gradients({"cut": 0.0}).to_png()
    with pytest.raises(ValueError, match="nothing to draw"):
        pictures.plot_gradients({})


def test_attempts_outline_what_is_wrong():
    truth = np.array([[1, 2]])
    tries = [(None, 0.1, ""), (np.array([[1, 3]]), 0.2, "1 of 2 cells wrong"), (truth, 0.9, ""), ([[1]], 0.3, "")]
    said = " ".join(texts(pictures.plot_attempts({"told": ([[2, 1]], tries, truth)})))
    assert all(part in said for part in ("no grid", "✗ 1 wrong", "✓ right", "✗ wrong size", "confidence 0.90"))
    assert "✓" not in " ".join(texts(pictures.plot_attempts({"a": ([[2, 1]], tries, None)})))
    with pytest.raises(ValueError, match="nothing to draw"):
        pictures.plot_attempts({})


def test_arms_and_curves():
    picture = pictures.plot_arms(
        {"joint": {"seen": (0.5, 0.4, 0.6), "new": (0.2, 0, 0.3)}, "id": {"seen": (1, 1, 1)}}, "solved"
    )
    assert {"joint", "id", "50", "20", "100"} <= set(texts(picture)) and len(picture.axes[0].patches) == 3
    curve = {1: (0.1, 0.0, 0.2), 16: (0.3, 0.2, 0.4)}
    assert {"attempts", "views"} <= set(texts(pictures.plot_self_correction({"attempts": curve, "views": curve})))
    with pytest.raises(ValueError, match="nothing to draw"):
        pictures.plot_arms({}, "solved")


@pytest.mark.parametrize("headless", [False, True])
def test_stepping_through_attempts_redraws(monkeypatch, headless):
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=headless))
    tried = [(name, {"asked": ([[1]], [([[2]], 0.5, "")], truth)}) for name, truth in (("one", [[2]]), ("two", [[3]]))]
    shown = pictures.explore_attempts(tried)
    assert isinstance(shown, Picture if headless else Explorer)
    if not headless:
        before = shown.picture.value
        shown.controls["question"].value = 1
        assert shown.picture.value != before

"""The wall says what was proposed, by whom, how likely it is, and what became of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from arc_helpers.arc import Transform
from arc_helpers.plot import plot_candidates

TURNED = Transform(k=1)
ANSWERS = [
    SimpleNamespace(grid=[[9, 0, 4]], votes=2, logprob=-0.1, views=(Transform().name, TURNED.name), product=-0.5),
    SimpleNamespace(grid=[[9, 0, 0]], votes=1, logprob=-0.9, views=("mirror",), product=None),
    SimpleNamespace(grid=[[0]], votes=1, logprob=-1.5, views=("mirror",), product=-9.0),
]


def titles(picture) -> list[str]:
    return [ax.get_title() for ax in picture.axes if ax.get_title()]


def test_attempts_votes_scores_and_verdicts():
    picture = plot_candidates(ANSWERS, truth=[[9, 0, 4]], title="little")
    assert titles(picture) == [
        "attempt 1 · 1×3\n✓ solved\n2 votes\nΣ log p -0.50",
        "attempt 2 · 1×3\n✗ 1 cell wrong\n1 vote\nlog p -0.90 a token",
        "3. · 1×1\n✗ wrong size 1×1\n1 vote\nΣ log p -9.00",
        "truth · 1×3",
    ]
    assert not any("✓" in title or "✗" in title for title in titles(plot_candidates(ANSWERS)))


def test_a_dot_stands_below_each_candidate_that_a_view_proposed():
    picture = plot_candidates(ANSWERS, views=[Transform().name, TURNED.name, "mirror", "nothing"])
    *grids, matrix = picture.axes
    assert [text.get_text() for text in matrix.texts] == ["mirror", "as it is", "rot 90", "nothing"]
    width = picture.get_size_inches()[0]
    centres = [width * (ax.get_position().x0 + ax.get_position().x1) / 2 for ax in grids]
    dots = {
        line.get_ydata()[0]: line.get_xdata()
        for line in matrix.lines
        if line.get_marker() == "o" and len(line.get_xdata())
    }
    assert {y: np.round(x, 6).tolist() for y, x in dots.items()} == {
        0: np.round(centres[1:3], 6).tolist(),
        1: np.round(centres[:1], 6).tolist(),
        2: np.round(centres[:1], 6).tolist(),
    }
    assert "1 of 4 views" in titles(picture)[1], "a view that proposed nothing counts, too"
    lowest = min(ax.get_position().y0 for ax in grids)
    assert matrix.get_position().y1 <= lowest + 1e-9, "the matrix hides no grid"


def test_a_wall_has_an_end():
    picture = plot_candidates(ANSWERS * 5, title="many")
    assert len(picture.axes) == 8 + 1 and picture.texts[0].get_text() == "many · 7 more"
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_candidates([])

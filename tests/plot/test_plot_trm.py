"""Pictures of a recursion show what they were given, and bad shapes are named."""

import numpy as np
import pytest

from arc_helpers.plot.trm import plot_bars, plot_canvases, plot_latents, plot_segment, plot_segments

GRID = np.array([[1, 2], [3, 4]])


def titles(picture) -> list[str]:
    return [ax.get_title() for ax in picture.axes]


def outlined(ax) -> int:
    return sum(patch.get_gid() == "wrong" for patch in ax.patches)


def test_segments_show_how_an_answer_grows():
    almost = GRID.copy()
    almost[0, 0] = 9
    picture = plot_segments(GRID, [None, [[0]], almost, GRID], [0.0, 0.1, 0.4, 0.98], truth=GRID)
    assert titles(picture) == [
        "question · 2×2",
        "segment 1\nhalt 0.00\nno grid",
        "segment 2 · 1×1\nhalt 0.10\n✗ wrong size 1×1",
        "segment 3 · 2×2\nhalt 0.40\n✗ 1 cell wrong",
        "segment 4 · 2×2\nhalt 0.98\n✓ solved",
        "truth · 2×2",
    ]
    assert [outlined(ax) for ax in picture.axes] == [0, 0, 0, 1, 0, 0]
    assert titles(plot_segments(GRID, [GRID], [0.5]))[1] == "segment 1 · 2×2\nhalt 0.50", "no truth, no verdict"
    with pytest.raises(ValueError, match="q: 1 given for 2 segments"):
        plot_segments(GRID, [GRID, GRID], [0.5])


def test_canvases_mark_the_border():
    tokens = np.array([[2, 3, 1], [1, 1, 0], [0, 0, 0]])
    picture = plot_canvases([("input", tokens)])
    [ax] = picture.axes
    assert ax.get_title() == "input\n3×3" and [t.get_text() for t in ax.texts] == ["E"] * 3
    image = ax.images[0].get_array()
    assert np.allclose(image[0, 0], 0) and np.allclose(image[2], 1) and picture.to_png()
    [ax] = plot_canvases([("input", tokens)], digits=True).axes
    assert [t.get_text() for t in ax.texts] == ["0", "1", "E", "E", "E"], "padding has no number"
    with pytest.raises(ValueError, match="no canvas was given"):
        plot_canvases([])


def test_latents_have_a_picture_a_segment():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 6, 8))
    picture = plot_latents({"z_H": states, "z_L": states[..., :2]}, (2, 3))
    assert titles(picture) == [f"{name}, segment {i}" for name in ("z_H", "z_L") for i in (1, 2, 3)]
    assert picture.axes[0].images[0].get_array().shape == (2, 3, 3)
    # two components leave the third colour even
    assert np.ptp(picture.axes[3].images[0].get_array()[..., 2]) == 0
    # equal states get equal colours, wherever they are
    states[:, 0] = states[0, 0]
    images = [ax.images[0].get_array() for ax in plot_latents({"z_H": states}, (2, 3)).axes]
    assert np.allclose(images[0][0, 0], images[2][0, 0]) and not np.allclose(images[0][1, 1], images[2][1, 1])
    with pytest.raises(ValueError, match=r"z_H: expected \[segments, 4, D\], got \(3, 6, 8\)"):
        plot_latents({"z_H": states}, (2, 2))
    with pytest.raises(ValueError, match=r"as many segments of each, got \[2, 3\]"):
        plot_latents({"z_H": states, "z_L": states[:2]}, (2, 3))


def test_latents_in_gray_are_gray():
    states = np.random.default_rng(0).normal(size=(2, 6, 8))
    image = plot_latents({"z_H": states}, (2, 3), gray=True).axes[0].images[0].get_array()
    assert np.ptp(image, axis=-1).max() == 0 < np.ptp(image)


def test_one_segment_is_shown_with_its_latent_and_its_halt():
    states = np.random.default_rng(0).normal(size=(2, 4, 3))
    picture = plot_segment(GRID, [[[9, 2], [3, 4]], GRID], [0.2, 0.9], states, 1, truth=GRID)
    assert titles(picture) == [
        "question · 2×2",
        "after segment 1 · 2×2\n✗ 1 cell wrong",
        "latent z_H",
        "truth · 2×2",
        "halting: surely right?",
    ]
    assert [outlined(ax) for ax in picture.axes] == [0, 1, 0, 0, 0]
    assert len(plot_segment(GRID, [None, GRID], [0.2, 0.9], states, 1).axes) == 4, "no truth, no panel for it"
    with pytest.raises(ValueError, match="2 answers, 1 halts and 2 latents: must be as many"):
        plot_segment(GRID, [GRID, GRID], [0.2], states, 1)


def test_bars_have_their_numbers_and_intervals():
    picture = plot_bars({"a": 0.5, "b": 0.0}, "solved", {"a": (0.4, 0.6), "b": (0.0, 0.1)})
    [ax] = picture.axes
    assert [t.get_text() for t in ax.texts] == ["50.0%", "0.0%"] and ax.get_ylabel() == "solved"
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.0]


def test_a_dollar_in_a_name_is_a_dollar():
    """A task may be called so; to matplotlib it would be a formula that cannot be read."""
    from arc_helpers.plot import plot_gallery

    assert plot_gallery([("$x^$", [[1]]), ("a $\\frac", [[2]])]).to_png().startswith(b"\x89PNG")

"""Curves hold the numbers they were given, a NaN spoils nobody else's curve."""

import numpy as np
import pytest

from arc_helpers.plot import plot_curve, plot_losses, plot_tradeoff


def lines(picture) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_ydata() for line in picture.axes[0].lines}


def test_each_adapter_has_a_curve_and_there_is_a_mean():
    picture = plot_losses([[4.0, 2.0], [2.0, 1.0], [1.0, 0.0]], ["a", "b"], title="losses")
    curves = lines(picture)
    assert list(curves) == ["a", "b", "mean"]
    assert curves["a"].tolist() == [4, 2, 1] and curves["mean"].tolist() == [3, 1.5, 0.5]
    assert picture.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["a", "b", "mean"]
    assert picture.axes[0].get_title() == "losses"


def test_a_diverged_adapter_leaves_the_mean_and_says_so(recwarn):
    losses = np.array([[1.0, 3.0], [1.0, np.nan], [1.0, np.inf]])
    picture = plot_losses(losses, ["good", "bad"])
    curves = lines(picture)
    assert curves["mean"].tolist() == [2, 1, 1]
    assert np.isnan(curves["bad (not finite at step 2)"][1:]).all()
    assert picture.to_png()
    assert plot_losses(np.full((3, 2), np.nan)).to_png()
    assert not [str(warning.message) for warning in recwarn]


def test_one_adapter_needs_no_mean_and_one_step_is_visible():
    assert list(lines(plot_losses([3.0, 2.0]))) == ["adapter 0"]
    assert plot_losses([[1.0, 2.0]]).axes[0].lines[0].get_marker() == "o"


def test_many_adapters_keep_their_colours_apart_and_names_short():
    picture = plot_losses(np.ones((3, 32)), [f"{i:02d} a very long name of a pseudo-task" for i in range(32)])
    assert len({line.get_color() for line in picture.axes[0].lines}) == 33
    assert all(len(text.get_text()) <= 24 for text in picture.legends[0].get_texts())
    picture.draw_without_rendering()
    legend = picture.legends[0].get_window_extent()
    assert legend.x0 > picture.axes[0].get_window_extent().x1, "the legend hides no curve"
    assert legend.y0 >= 0 and legend.x1 <= picture.bbox.x1 + 1


def test_two_adapters_of_one_name_both_keep_their_curve():
    assert len(plot_losses(np.ones((2, 2)), ["same", "same"]).axes[0].lines) == 3


def test_losses_may_be_drawn_on_a_log_scale():
    assert plot_losses([[1.0], [0.1]], log=True).axes[0].get_yscale() == "log"


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="names: 1 given for 2 adapters"):
        plot_losses(np.ones((3, 2)), ["a"])
    with pytest.raises(ValueError, match=r"expected \[steps, K\] .* got shape \(0, 2\)"):
        plot_losses(np.ones((0, 2)))
    with pytest.raises(ValueError, match="lr: 1 values for 2 points of step"):
        plot_curve([1, 2], {"lr": [0.1]}, "lr")


def test_plot_curve_draws_each_series_over_x():
    picture = plot_curve([10, 20], {"re-arc": [2, 1], "concept": [3, 2]}, "loss", title="by source")
    assert {name: y.tolist() for name, y in lines(picture).items()} == {"re-arc": [2, 1], "concept": [3, 2]}
    assert (picture.axes[0].get_xlabel(), picture.axes[0].get_ylabel()) == ("step", "loss")
    assert not plot_curve([1], {"lr": [0.1]}, "lr").legends, "one series is named by its axis"


def test_a_tradeoff_names_its_points_in_order_and_its_baseline():
    points = {"head": (0.1, 0.9), "top 1": (2.0, 0.7), "full": (20.0, 0.65)}
    picture = plot_tradeoff(points, "seconds", "nats", baseline=("untrained", 1.0))
    ax = picture.axes[0]
    assert ax.lines[0].get_xdata().tolist() == [0.1, 2, 20] and ax.lines[0].get_ydata().tolist() == [0.9, 0.7, 0.65]
    assert [text.get_text() for text in ax.texts] == [*points, "untrained"] and ax.get_xscale() == "log"
    assert ax.lines[1].get_ydata()[0] == 1.0 and picture.to_png()
    with pytest.raises(ValueError, match="head: a cost of 0: must be above 0"):
        plot_tradeoff({"head": (0, 1.0)}, "seconds", "nats")


def test_a_share_has_no_axis_below_zero_and_whole_steps_have_whole_ticks():
    ax = plot_curve([1, 2], {"right": [0.0, 0.0]}, "share", "segment").axes[0]
    assert ax.get_ylim()[0] == 0
    shown = [tick for tick in ax.get_xticks() if 1 <= tick <= 2]
    assert shown == [1, 2]
    assert plot_curve([1, 2], {"gain": [-0.5, 0.5]}, "gain").axes[0].get_ylim()[0] < -0.4

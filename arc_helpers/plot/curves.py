"""Training curves: the losses of K adapters, and the metrics of a pretraining run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from arc_helpers.plot.picture import FONT, INK, Picture

MAX_NAME = 24  # characters of a name that the legend shows
DASHES = ("-", "--", "-.", ":")


def plot_losses(losses, names: Sequence[str] | None = None, title: str | None = None, log: bool = False) -> Picture:
    """One curve an adapter from `losses` [steps, K], and their mean. A NaN leaves a gap and a note."""
    losses = np.asarray(losses, dtype=float)  # Shape: (steps, K)
    if losses.ndim == 1:
        losses = losses[:, None]
    if losses.ndim != 2 or 0 in losses.shape:
        raise ValueError(f"losses: expected [steps, K] with at least one of each, got shape {losses.shape}")
    names = [f"adapter {i}" for i in range(losses.shape[1])] if names is None else list(names)
    if len(names) != losses.shape[1]:
        raise ValueError(f"names: {len(names)} given for {losses.shape[1]} adapters")

    steps = np.arange(1, len(losses) + 1)
    finite = np.isfinite(losses)
    lines = []
    for name, loss, ok in zip(names, losses.T, finite.T, strict=True):
        note = "" if ok.all() else f" (not finite at step {steps[np.argmin(ok)]})"
        lines.append((short_name(name) + note, np.where(ok, loss, np.nan)))
    picture, ax = _canvas(title, "step", "loss", log)
    _draw_lines(ax, steps, lines, lw=1.2, alpha=0.85)
    if losses.shape[1] > 1:
        # An adapter that went to NaN leaves the mean, or the mean of all would be lost with it.
        count = finite.sum(axis=1)
        mean = np.where(finite, losses, 0).sum(axis=1) / np.where(count, count, np.nan)
        _draw_lines(ax, steps, [("mean", mean)], color=INK, lw=2.4)
    _legend(picture, ax)
    return picture


def plot_curve(
    x,
    series: Mapping[str, Sequence[float]],
    ylabel: str,
    xlabel: str = "step",
    title: str | None = None,
    log: bool = False,
) -> Picture:
    """Named series over a common `x`, such as the loss by source or the learning rate."""
    for name, values in series.items():
        if len(values) != len(x):
            raise ValueError(f"{name}: {len(values)} values for {len(x)} points of {xlabel}")
    picture, ax = _canvas(title, xlabel, ylabel, log)
    _draw_lines(ax, x, list(series.items()), lw=1.6)
    if not log and all(value >= 0 for values in series.values() for value in values):
        ax.set_ylim(bottom=max(0.0, ax.get_ylim()[0]))  # a share or a loss: no room for what cannot be
    if all(float(place).is_integer() for place in x):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series) > 1:
        _legend(picture, ax)
    return picture


def _canvas(title: str | None, xlabel: str, ylabel: str, log: bool) -> tuple[Picture, Axes]:
    picture = Picture(figsize=(8, 3.6), layout="constrained")
    ax = picture.add_subplot()
    style_axes(ax, xlabel, ylabel, title, log)
    return picture, ax


def style_axes(ax: Axes, xlabel: str, ylabel: str, title: str | None = None, log: bool = False) -> None:
    """Labels, a light grid and no box, as in every curve."""
    ax.set_xlabel(xlabel, fontsize=FONT)
    ax.set_ylabel(ylabel, fontsize=FONT)
    ax.set_yscale("log" if log else "linear")
    ax.set_title(title or "", fontsize=FONT + 2, color=INK)
    ax.tick_params(labelsize=FONT - 1)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_lines(ax: Axes, x, lines: Sequence[tuple[str, Any]], color=None, **style) -> None:
    for i, (name, values) in enumerate(lines):
        draw_line(ax, name, values, i, len(lines), x, color, **style)


def draw_line(ax: Axes, name: str, values: Any, i: int, n: int, x, color=None, **style) -> None:
    """Curve i of n: curves differ in colour, and in their dashes for readers who cannot tell the colours apart."""
    # Ten colours are easy to tell apart; beyond that neighbours on a scale are the best one can do.
    palette = matplotlib.colormaps["tab10" if n <= 10 else "turbo"]
    shade = color or (palette(i) if n <= 10 else palette(i / (n - 1)))
    marker = "o" if len(x) == 1 else None  # a line of one point would be invisible
    dashes = DASHES[i % len(DASHES)]
    ax.plot(x, np.asarray(values, dtype=float), dashes, label=name, color=shade, marker=marker, **style)


def _legend(picture: Picture, ax: Axes) -> None:
    """Beside the axes, so that it never hides a curve."""
    columns = math.ceil(len(ax.lines) / 20)
    picture.set_figwidth(picture.get_figwidth() + 2 * (columns - 1))
    style = {"fontsize": FONT - 1, "frameon": False, "handlelength": 3.2}
    picture.legend(loc="outside right upper", ncols=columns, **style)


def short_name(name: str) -> str:
    """A name as the legend shows it."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"

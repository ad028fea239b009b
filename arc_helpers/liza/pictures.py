"""The notebook's pictures of LiZA: the MaG weight under the loss, the loss by position, and what decoding costs."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from arc_helpers.liza.measure import DecodeCost
from arc_helpers.plot.curves import DASHES
from arc_helpers.plot.picture import FONT, Picture

MARKERS = "os^Dv"  # arms differ in these, too, for readers who cannot tell the colours apart


def plot_mag(losses: Mapping[str, Sequence[float]], weights: Mapping[str, Sequence[float]]) -> Picture:
    """Above the loss of each arm by step, below the MaG weight: asked for, used, and whatever else is given."""
    picture = Picture(figsize=(8, 5), layout="constrained")
    top, bottom = picture.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for i, (name, values) in enumerate(losses.items()):
        top.plot(np.arange(1, len(values) + 1), _smooth(values), DASHES[i % len(DASHES)], lw=1.4, label=name)
    dashes = {0: {"lw": 4, "alpha": 0.35}, 1: {"lw": 1.4}}
    for i, (name, values) in enumerate(weights.items()):
        bottom.plot(np.arange(1, len(values) + 1), values, label=name, **dashes.get(i, {"lw": 1.2, "ls": "--"}))
    bottom.set_ylim(-0.03, 1.05 * max(max(values) for values in weights.values()) + 0.03)
    _finish(top, "", "loss, nats a token")
    _finish(bottom, "optimizer step", "MaG weight")
    return picture


def plot_nll(curves: Mapping[str, np.ndarray], trained: int, title: str, buckets: int = 24) -> Picture:
    """Mean nats a token over the rows of each [n, L], in buckets of positions; a line at the trained length."""
    picture = Picture(figsize=(8, 3.8), layout="constrained")
    ax = picture.add_subplot()
    colors: dict[str, str] = {}  # a curve and its window share one
    for name, nll in curves.items():
        edges = np.linspace(0, nll.shape[1], buckets + 1).astype(int)
        means = [nll[:, a:b].mean() for a, b in pairwise(edges)]
        arm, _, windowed = name.partition(", ")
        color = colors.setdefault(arm, f"C{len(colors)}")
        style: dict[str, Any] = {"color": color, "marker": MARKERS[int(color[1:]) % len(MARKERS)], "ms": 4, "lw": 1.5}
        ax.plot((edges[:-1] + edges[1:]) / 2, means, "--" if windowed else "-", label=name, **style)
    ax.axvline(trained, color="#888888", lw=1)
    ax.annotate(
        "trained length", (trained, 1), (4, -4), ("data", "axes fraction"), "offset points", va="top", fontsize=FONT - 1
    )
    ax.set_title(title, fontsize=FONT + 2)
    _finish(ax, "position in the window, tokens", "nats a token")
    return picture


def plot_cost(costs: Mapping[str, Sequence[DecodeCost]]) -> Picture:
    """Milliseconds a token and bytes of the cache, against tokens of context."""
    picture = Picture(figsize=(9, 3.6), layout="constrained")
    left, right = picture.subplots(1, 2)
    for i, (name, rows) in enumerate(costs.items()):
        contexts, line = [row.context for row in rows], f"{MARKERS[i % len(MARKERS)]}-"
        left.plot(contexts, [row.ms for row in rows], line, lw=1.5, ms=4, label=name)
        right.plot(contexts, [row.bytes / 2**20 for row in rows], line, lw=1.5, ms=4, label=name)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_xticks(contexts, [f"{context:,}" for context in contexts])
        ax.minorticks_off()
    left.set_ylim(bottom=0)
    right.set_yscale("log", base=2)
    right.yaxis.set_major_formatter("{x:g}")
    _finish(left, "context, tokens", "ms a token", legend=False)
    _finish(right, "context, tokens", "cache, MiB")
    return picture


def _smooth(values: Sequence[float], share: float = 0.05) -> np.ndarray:
    """A running mean that follows the losses of single steps."""
    losses = np.asarray(values, dtype=float)
    width = max(1, int(len(losses) * share))
    padded = np.concatenate([np.full(width - 1, losses[:width].mean()), losses])
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def _finish(ax: Axes, xlabel: str, ylabel: str, legend: bool = True) -> None:
    ax.set_xlabel(xlabel, fontsize=FONT)
    ax.set_ylabel(ylabel, fontsize=FONT)
    ax.tick_params(labelsize=FONT - 1)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        ax.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))

"""What a choice costs against what it brings."""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from arc_helpers.plot.curves import _canvas
from arc_helpers.plot.picture import ACCENT, FONT, INK, Picture


def plot_tradeoff(
    points: Mapping[str, tuple[float, float]],
    xlabel: str,
    ylabel: str,
    baseline: tuple[str, float] | None = None,
    title: str | None = None,
) -> Picture:
    """Named points (cost, score), joined in their order; costs on a logarithmic axis. Lower is better on both.

    baseline: name and score of what costs nothing, as a dashed line. Raises ValueError on a cost that is not above 0.
    """
    for name, (cost, _) in points.items():
        if not cost > 0:
            raise ValueError(f"{name}: a cost of {cost}: must be above 0 on a logarithmic axis")
    picture, ax = _canvas(title, xlabel, ylabel, log=False)
    costs, scores = np.array(list(points.values()), dtype=float).reshape(-1, 2).T
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.plot(costs, scores, "o-", color=ACCENT, lw=1.2, ms=6)
    for name, cost, score in zip(points, costs, scores, strict=True):
        ax.annotate(name, (cost, score), xytext=(5, 6), textcoords="offset points", fontsize=FONT)
    if baseline:
        name, level = baseline
        ax.axhline(level, color=INK, ls="--", lw=1)
        ax.annotate(
            name, (1, level), xycoords=("axes fraction", "data"), xytext=(-4, 4), textcoords="offset points",
            ha="right", fontsize=FONT,
        )  # fmt: skip
    ax.margins(x=0.2, y=0.25)
    return picture

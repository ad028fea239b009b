"""Pictures of memory: bars a condition, heat maps of the grid, and a conversation turn by turn."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from arc_helpers.plot.curves import style_axes
from arc_helpers.plot.picture import ACCENT, FONT, INK, Picture

HATCHES = ("", "//", "..", "xx", "\\\\")  # bars differ in these, too, for readers who cannot tell the colours apart


def plot_bars(
    groups: Mapping[str, Mapping[str, float]],
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    level_name: str = "",
    title: str | None = None,
) -> Picture:
    """Bars side by side: {group: {bar: value}}, the same bars in each group. levels: one to compare with, a group."""
    names = list(next(iter(groups.values())))
    picture = Picture(figsize=(max(6.0, 1.1 * len(groups) * len(names) ** 0.5 + 2.5), 3.6), layout="constrained")
    ax = picture.add_subplot()
    width, x = 0.8 / len(names), np.arange(len(groups))
    for i, name in enumerate(names):
        values = [bars[name] for bars in groups.values()]
        drawn = ax.bar(
            x + (i - (len(names) - 1) / 2) * width, values, 0.92 * width, label=name, color=f"C{i}", **_hatch(i)
        )
        ax.bar_label(drawn, fmt="%.2f", fontsize=FONT - 2, padding=1, color=INK)
    if levels:
        ends = (x - 0.47, x + 0.47)
        ax.hlines([levels[group] for group in groups], *ends, color=INK, lw=1.4, ls=(0, (2, 1.5)), label=level_name)
    ax.set_xticks(x, list(groups), fontsize=FONT)
    ax.set_ylabel(ylabel, fontsize=FONT)
    ax.set_title(title or "", fontsize=FONT + 2, color=INK)
    ax.margins(y=0.12)
    ax.tick_params(labelsize=FONT - 1)
    ax.spines[["top", "right"]].set_visible(False)
    if len(names) > 1 or levels:
        picture.legend(loc="outside right upper", fontsize=FONT - 1, frameon=False)
    return picture


def plot_heat_maps(
    panels: Mapping[str, Sequence[Sequence[float]]],
    rows: Sequence,
    columns: Sequence,
    row_name: str,
    column_name: str,
    high: float | None = None,
) -> Picture:
    """Tables of numbers as colours, one a panel, on a common scale from 0 to high (None: the largest number)."""
    tables = {name: np.asarray(values, dtype=float) for name, values in panels.items()}
    for name, values in tables.items():
        if values.shape != (len(rows), len(columns)):
            raise ValueError(f"{name}: shape {values.shape}, must be {(len(rows), len(columns))}")
    high = high or max(values.max() for values in tables.values()) or 1.0
    wide, tall = max(1.1 + 0.85 * len(columns), 0.9 + 0.075 * len(column_name)), 1.0 + 0.5 * len(rows)
    picture = Picture(figsize=(wide * len(tables), tall + 0.4), layout="constrained")
    shades = matplotlib.colormaps["viridis"]
    for i, (name, values) in enumerate(tables.items()):
        ax = picture.add_subplot(1, len(tables), i + 1)
        ax.imshow(values, cmap=shades, vmin=0, vmax=high, aspect="auto")
        for (r, c), value in np.ndenumerate(values):
            ink = "white" if value < 0.6 * high else "black"
            ax.text(c, r, f"{value:.2f}", ha="center", va="center", fontsize=FONT, color=ink)
        ax.set_xticks(range(len(columns)), [str(v) for v in columns], fontsize=FONT - 1)
        ax.set_yticks(range(len(rows)), [str(v) for v in rows], fontsize=FONT - 1)
        ax.set_xlabel(column_name, fontsize=FONT)
        ax.set_ylabel(row_name if i == 0 else "", fontsize=FONT)
        ax.set_title(name, fontsize=FONT + 1, color=INK)
    return picture


def plot_memory(turns: Sequence, chosen: int | None = None) -> Picture:
    """How far the fast weights have moved, turn by turn, from 0 at the start; `chosen` (from 1) is marked and quoted.

    turns: a `Chat`'s, with `text`, `reply` and `moved` each. None: the last.
    """
    chosen = len(turns) if chosen is None else chosen
    picture = Picture(figsize=(8, 3.2), layout="constrained")
    ax = picture.add_subplot()
    quote = (
        f"turn {chosen} · you: {turns[chosen - 1].text}\nmodel: {turns[chosen - 1].reply}" if chosen else "the start"
    )
    style_axes(ax, "turn", "way of the fast weights (norm)", quote)
    moved = [0.0, *(turn.moved for turn in turns)]
    ax.plot(range(len(moved)), moved, "o-", color=ACCENT, lw=1.2, ms=4)
    ax.plot(chosen, moved[chosen], "o", color=INK, ms=9)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def _hatch(i: int) -> dict:
    return {"hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white", "linewidth": 0}

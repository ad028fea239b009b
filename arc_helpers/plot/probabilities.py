"""How likely several models find the same answer, token by token."""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from arc_helpers.arc import ARC_COLORS
from arc_helpers.plot.cells import ink_on
from arc_helpers.plot.picture import FONT, INK, Picture
from arc_helpers.plot.tokens import DIGITS, visible

COLUMNS = 28  # tokens a line
SIDE = 0.36  # inches of a square


def plot_probabilities(
    answer_ids: Sequence[int], symbol: Callable[[int], str], logprobs: Mapping[str, Sequence[float]]
) -> Picture:
    """The answer's tokens as a line of squares and, below it, the probability of each in percent, a row a model.

    logprobs: {model: natural log-probability of each answer token}. Raises ValueError where there are not as many.
    """
    texts = [visible(symbol(int(token))) for token in answer_ids]
    for name, values in logprobs.items():
        if len(values) != len(texts):
            raise ValueError(f"{name}: {len(values)} log-probabilities for {len(texts)} answer tokens")
    tables = np.exp([np.asarray(values, dtype=float) for values in logprobs.values()])  # [models, tokens]
    lines, per_line = math.ceil(len(texts) / COLUMNS), len(logprobs) + 1.5
    columns, left = min(COLUMNS, len(texts)), 1.1
    size = (left + SIDE * columns + 0.1, SIDE * (per_line * lines - 0.5))
    picture = Picture(figsize=size)
    ax = picture.add_axes((left / size[0], 0, SIDE * columns / size[0], 1))
    ax.set(xlim=(0, columns), ylim=(per_line * lines - 0.5, 0))
    ax.set_axis_off()
    middle = {"ha": "center", "va": "center", "parse_math": False}
    for i, text in enumerate(texts):
        x, y = i % COLUMNS, per_line * (i // COLUMNS)
        fill = ARC_COLORS[int(text)] if text in DIGITS else "#f4f4f4"
        _square(ax, x, y, fill, text[:4], FONT, middle)
        for row, share in enumerate(tables[:, i], start=1):
            shade = to_hex(matplotlib.colormaps["viridis"](float(share)))
            _square(ax, x, y + row, shade, f"{100 * share:.0f}", FONT - 2, middle)
    for line in range(lines):
        for row, name in enumerate(("answer", *logprobs)):
            y = per_line * line + row + 0.5
            ax.text(-0.3, y, name, ha="right", va="center", fontsize=FONT, color=INK)
    return picture


def _square(ax, x: float, y: float, fill: str, text: str, size: float, style: dict) -> None:
    ax.add_patch(Rectangle((x, y), 1, 1, fc=fill, ec="#999999", lw=0.3))
    ax.text(x + 0.5, y + 0.5, text, fontsize=size, color=ink_on(fill), **style)

"""Pictures of a recursion: canvases with their borders, an answer as it grows, and the latents behind it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from arc_helpers.arc import ARC_COLORS, as_grid
from arc_helpers.plot.cells import BORDER, draw_grid, ink_on
from arc_helpers.plot.curves import style_axes
from arc_helpers.plot.grids import judged
from arc_helpers.plot.picture import BAD, FONT, INK, Picture
from arc_helpers.plot.sheet import Cells, Panel, lay_out

#: PAD, end of sequence, then the ten colours
TOKEN_COLORS = np.array([to_rgb(color) for color in ("#ffffff", "#c9b6e4", *ARC_COLORS)])


def plot_canvases(canvases: Sequence[tuple[str, np.ndarray]], digits: bool = False) -> Picture:
    """Canvases [H, W] of tokens: padding white, the end-of-sequence border violet with an E, colours as always.

    digits: write the colour's number into each cell, where cells are large enough to read it.
    """
    if not canvases:
        raise ValueError("nothing to draw: no canvas was given")
    picture, axes = _row_of_axes(len(canvases), 1, 2.4)
    for ax, (title, tokens) in zip(axes[0], canvases, strict=True):
        tokens = np.asarray(tokens)
        height, width = tokens.shape
        _image(ax, TOKEN_COLORS[tokens], f"{title}\n{height}×{width}")
        ax.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, color=BORDER, lw=0.3, clip_on=False)
        ax.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, color=BORDER, lw=0.3, clip_on=False)
        if max(height, width) <= 16:
            for (row, column), token in np.ndenumerate(tokens):
                if token == 1 or (digits and token > 1):
                    style = {"ha": "center", "va": "center_baseline", "fontsize": 60 / max(height, width)}
                    sign, ink = ("E", INK) if token == 1 else (str(token - 2), ink_on(ARC_COLORS[token - 2]))
                    ax.text(column, row, sign, color=ink, **style)
    return picture


def plot_segments(question, answers: Sequence, q: Sequence[float], truth=None, digits: bool = False) -> Picture:
    """A question, what is answered after each segment, and the truth; wrong cells are outlined.

    answers: a grid a segment, or None where there is none. q: the halting head's probability of "right" after each.
    """
    if len(answers) != len(q):
        raise ValueError(f"q: {len(q)} given for {len(answers)} segments")
    row = [Panel(as_grid(question), "question")]
    for number, (grid, sure) in enumerate(zip(answers, q, strict=True), start=1):
        row.append(_answer(grid, f"segment {number}\nhalt {sure:.2f}", truth))
    if truth is not None:
        row.append(Panel(as_grid(truth), "truth"))
    return lay_out([row], cells=Cells(digits, scale=0.8))


def plot_segment(
    question, answers: Sequence, q: Sequence[float], latents, segment: int, truth=None, digits: bool = False
) -> Picture:
    """One segment, from 1 on: question, the answer after it, z_H as colours, truth; and how sure it was all the way.

    answers, q: as in `plot_segments`. latents: z_H after each segment, [segments, H · W, D] on the question's cells.
    """
    question = as_grid(question)
    states = np.asarray(latents, dtype=float)
    if not len(answers) == len(q) == len(states):
        raise ValueError(f"{len(answers)} answers, {len(q)} halts and {len(states)} latents: must be as many")
    colors = _principal_colors(states)[segment - 1].reshape(*question.shape, 3)
    panel = _answer(answers[segment - 1], f"after segment {segment}", truth)
    picture = Picture(figsize=(12.5, 2.9))
    boxes = [picture.add_axes((0.015 + 0.19 * i, 0.03, 0.17, 0.75)) for i in range(3 if truth is None else 4)]
    draw_grid(boxes[0], question, "question", digits=digits)
    draw_grid(boxes[1], panel.grid, panel.title, digits=digits, wrong=panel.wrong)
    boxes[1].title.set_color(panel.color)
    _image(boxes[2], colors, "latent z_H")
    if truth is not None:
        draw_grid(boxes[3], truth, "truth", digits=digits)
    ax = picture.add_axes((0.825, 0.2, 0.165, 0.55))
    style_axes(ax, "segment", "", "halting: surely right?")
    ax.plot(range(1, len(q) + 1), q, "o-", color="#0b5cad", ms=3, lw=1.2)
    ax.plot(segment, q[segment - 1], "o", color=INK, ms=8)
    ax.set_ylim(-0.05, 1.05)
    return picture


def plot_latents(latents: Mapping[str, np.ndarray], shape: tuple[int, int], gray: bool = False) -> Picture:
    """Latents [segments, H · W, D] as pictures: a row a latent, a column a segment, a pixel a cell of the canvas.

    Red, green and blue are a cell's first three principal components over all segments of that latent; gray: the first
    alone, for readers who cannot tell the colours apart.
    """
    segments = {len(states) for states in latents.values()}
    if len(segments) != 1:
        raise ValueError(f"latents: need as many segments of each, got {sorted(segments)}")
    picture, axes = _row_of_axes(segments.pop(), len(latents), 1.5)
    for line, (name, states) in zip(axes, latents.items(), strict=True):
        states = np.asarray(states, dtype=float)
        if states.ndim != 3 or states.shape[1] != shape[0] * shape[1]:
            raise ValueError(f"{name}: expected [segments, {shape[0] * shape[1]}, D], got {states.shape}")
        for number, (ax, colors) in enumerate(zip(line, _principal_colors(states), strict=True), start=1):
            colors = np.repeat(colors[..., :1], 3, axis=-1) if gray else colors
            _image(ax, colors.reshape(*shape, 3), f"{name}, segment {number}")
    return picture


def plot_bars(values: Mapping[str, float], ylabel: str, intervals: Mapping[str, tuple[float, float]]) -> Picture:
    """Shares between 0 and 1 as bars with their 95 % intervals, each with its number above."""
    picture = Picture(figsize=(1.6 + 1.3 * len(values), 3.4), layout="constrained")
    ax = picture.add_subplot()
    for i, (name, value) in enumerate(values.items()):
        low, high = intervals[name]
        ax.bar(i, value, width=0.6, color="#0074D9" if i == 0 else "#AAAAAA")
        ax.errorbar(i, value, [[max(0.0, value - low)], [max(0.0, high - value)]], color=INK, capsize=4, lw=1.2)
        ax.annotate(f"{value:.1%}", (i, high), (0, 4), textcoords="offset points", ha="center", fontsize=FONT)
    ax.set_xticks(range(len(values)), list(values), fontsize=FONT)
    ax.set_ylim(0, 1.12 * max(0.05, *(high for _, high in intervals.values())))
    ax.set_ylabel(ylabel, fontsize=FONT)
    ax.spines[["top", "right"]].set_visible(False)
    return picture


def _answer(grid, title: str, truth) -> Panel:
    if grid is None:
        return Panel(None, f"{title}\nno grid", BAD if truth is not None else INK)
    return judged(grid, title, truth)


def _principal_colors(states: np.ndarray) -> np.ndarray:
    """[segments, N, D] → [segments, N, 3] between 0 and 1: three principal components, each on its own scale."""
    flat = states.reshape(-1, states.shape[-1])
    centred = flat - flat.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ axes[:3].T
    low, high = np.percentile(scores, [2, 98], axis=0)
    scores = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    colors = np.full((len(flat), 3), 0.5)
    colors[:, : scores.shape[1]] = scores
    return colors.reshape(*states.shape[:2], 3)


def _row_of_axes(columns: int, rows: int, inches: float) -> tuple[Picture, np.ndarray]:
    picture = Picture(figsize=(inches * columns, (inches + 0.3) * rows), layout="constrained")
    return picture, picture.subplots(rows, columns, squeeze=False)


def _image(ax: Axes, colors: np.ndarray, title: str) -> None:
    ax.imshow(colors, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, fontsize=FONT - 1, color=INK)

"""Pictures of a joint model: its loop with live shapes, where gradients arrive, attempts, and arms side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from arc_helpers.arc import as_grid, compare_grids
from arc_helpers.plot.picture import ACCENT, BAD, FONT, GOOD, INK, Picture
from arc_helpers.plot.sheet import Cells, Panel, lay_out
from arc_helpers.plot.widgets import Explorer, explore, stepper

FROZEN, TRAINED = "#e8eef7", "#fdf0d5"
#: box → (x, y) of its centre, width, whether it is trained
_BOXES = {
    "prompt": (0.09, 0.70, 0.15, False),
    "language model": (0.29, 0.70, 0.17, False),
    "text → latent": (0.50, 0.70, 0.15, True),
    "TRM": (0.71, 0.70, 0.17, True),
    "answer": (0.91, 0.70, 0.14, False),
    "latent → text": (0.50, 0.22, 0.15, True),
}
#: from, to, name of the shape on the arrow, bend
_ARROWS = (
    ("prompt", "language model", "ids", 0.0),
    ("language model", "text → latent", "states", 0.0),
    ("text → latent", "TRM", "prefix", 0.0),
    ("TRM", "answer", "tokens", 0.0),
    ("TRM", "latent → text", "z_H, z_L", -0.25),
    ("latent → text", "language model", "soft tokens", -0.25),
)


def plot_loop(notes: Mapping[str, str], shapes: Mapping[str, str]) -> Picture:
    """The loop of a joint model. notes: {box: a line in it}; shapes: {arrow: what runs along it}.

    Boxes: prompt, language model, text → latent, TRM, answer, latent → text. Arrows: ids, states, prefix, tokens,
    "z_H, z_L", soft tokens. Raises ValueError on another name.
    """
    known = {"notes": set(_BOXES), "shapes": {name for *_, name, _ in _ARROWS}}
    for what, given in (("notes", notes), ("shapes", shapes)):
        unknown = sorted(set(given) - known[what])
        if unknown:
            raise ValueError(f"{what}: {unknown[0]!r} is not in the picture; allowed: {', '.join(sorted(known[what]))}")
    picture = Picture(figsize=(12, 3.6))
    ax = picture.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    for name, (x, y, width, trained) in _BOXES.items():
        _box(ax, x, y, width, f"{name}\n{notes.get(name, '')}".strip(), trained)
    for start, end, name, bend in _ARROWS:
        _arrow(ax, start, end, f"{name}\n{shapes.get(name, '')}".strip(), bend)
    ax.text(0.98, 0.06, "solid frame: trained · dashed: not", ha="right", fontsize=FONT, color="#777777")
    return picture


def plot_gradients(norms: Mapping[str, float], title: str = "gradient of a joint step") -> Picture:
    """The norm of the gradient that arrives at each part, on a logarithmic scale; 0 is written out in red."""
    if not norms:
        raise ValueError("nothing to draw: no part was given")
    picture = Picture(figsize=(8, 0.9 + 0.32 * len(norms)), layout="constrained")
    ax = picture.add_subplot()
    positive = [norm for norm in norms.values() if norm > 0]
    least = min(positive, default=1.0) / 10
    for i, norm in enumerate(norms.values()):
        ax.barh(i, norm if norm > 0 else least, color=ACCENT if norm > 0 else BAD, height=0.6)
        label = f"{norm:.1e}" if norm > 0 else "no gradient"
        ax.annotate(label, (max(norm, least), i), (4, 0), textcoords="offset points", va="center", fontsize=FONT - 1)
    ax.set_xscale("log")
    ax.set_xlim(least / 2, 20 * max(positive, default=1.0))
    ax.set_yticks(range(len(norms)), list(norms), fontsize=FONT)
    ax.invert_yaxis()
    ax.set_xlabel("norm", fontsize=FONT)
    ax.set_title(title, fontsize=FONT + 1, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    return picture


def plot_attempts(rows: Mapping[str, tuple]) -> Picture:
    """Questions and the attempts at them, a row each: (question, attempts, truth or None).

    An attempt is (grid or None, confidence, what was said about it). Wrong cells are outlined where the truth is given.
    """
    if not rows:
        raise ValueError("nothing to draw: no attempt was given")
    lines = []
    for question, tries, truth in rows.values():
        line = [Panel(as_grid(question), "question")]
        for number, (grid, q, text) in enumerate(tries, start=1):
            said = "".join(f"\n{part}" for part in textwrap.wrap(text, 36))
            line.append(_tried(grid, f"attempt {number}, confidence {q:.2f}{said}", truth))
        if truth is not None:
            line.append(Panel(as_grid(truth), "truth"))
        lines.append(line)
    return lay_out(lines, row_labels=list(rows), cells=Cells(scale=0.8))


def plot_arms(arms: Mapping[str, Mapping[str, tuple[float, float, float]]], ylabel: str) -> Picture:
    """Groups of bars: {arm: {group: (share, low, high)}}; an arm without a group has a gap there."""
    groups = list(dict.fromkeys(group for values in arms.values() for group in values))
    if not groups:
        raise ValueError("nothing to draw: no arm was given")
    picture = Picture(figsize=(2.2 + 0.42 * len(arms) * len(groups), 3.8), layout="constrained")
    ax = picture.add_subplot()
    shades = [ACCENT, "#7FDBFF", "#AAAAAA", "#B10DC9", "#FF851B", "#2ECC40", "#777777"]
    width, top, hatches = 0.8 / len(arms), 0.05, ("", "//", "..", "xx", "\\\\", "--", "oo")
    for i, (arm, values) in enumerate(arms.items()):
        for j, group in enumerate(groups):
            if group not in values:
                continue
            value, low, high = values[group]
            x = j + (i - (len(arms) - 1) / 2) * width
            label = arm if group == next(iter(values)) else None
            style: dict[str, Any] = {
                "color": shades[i % len(shades)],
                "hatch": hatches[i % len(hatches)],
                "edgecolor": "white",
            }
            ax.bar(x, value, 0.9 * width, label=label, **style)
            ax.errorbar(x, value, [[max(0, value - low)], [max(0, high - value)]], color=INK, capsize=2, lw=1)
            ax.annotate(f"{100 * value:.0f}", (x, high), (0, 2), textcoords="offset points", ha="center", fontsize=7)
            top = max(top, high)
    ax.set_xticks(range(len(groups)), groups, fontsize=FONT)
    ax.set_ylim(0, 1.12 * top)
    ax.set_ylabel(ylabel, fontsize=FONT)
    ax.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside right upper", fontsize=FONT - 1, frameon=False)
    return picture


def plot_self_correction(curves: Mapping[str, Mapping[int, tuple[float, float, float]]]) -> Picture:
    """Share solved after k tries, {way: {k: (share, low, high)}}, k on a logarithmic scale."""
    picture = Picture(figsize=(7, 3.6), layout="constrained")
    ax = picture.add_subplot()
    for i, (name, points) in enumerate(curves.items()):
        k = np.array(list(points)) * 1.02**i  # intervals side by side, not one over the other
        value, low, high = np.array(list(points.values())).T
        errors = np.clip([value - low, high - value], 0, None)
        ax.errorbar(k, value, errors, marker="os^v"[i % 4], ls=("-", "--", ":", "-.")[i % 4], capsize=3, label=name)
    ax.set_xscale("log", base=2)
    ticks = sorted({k for points in curves.values() for k in points})
    ax.set_xticks(ticks, [str(k) for k in ticks])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("tries", fontsize=FONT)
    ax.set_ylabel("questions solved", fontsize=FONT)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside right upper", fontsize=FONT - 1, frameon=False)
    return picture


def explore_attempts(tried: Sequence[tuple]) -> Explorer | Picture:
    """Step through questions: (name, what `plot_attempts` takes) each."""

    def draw(question: int) -> Picture:
        return plot_attempts(tried[question][1])

    return explore({"question": stepper("question", [name for name, *_ in tried])}, draw)


def _tried(grid, title: str, truth) -> Panel:
    if grid is None:
        return Panel(None, f"{title}\nno grid", BAD if truth is not None else INK)
    if truth is None:
        return Panel(as_grid(grid), title)
    diff = compare_grids(grid, truth)
    if diff.correct:
        return Panel(as_grid(grid), f"{title}\n✓ right", GOOD)
    said = f"✗ {diff.n_wrong} wrong" if diff.same_shape else "✗ wrong size"
    return Panel(as_grid(grid), f"{title}\n{said}", BAD, wrong=diff.wrong if diff.same_shape else None)


def _box(ax: Axes, x: float, y: float, width: float, text: str, trained: bool) -> None:
    style: dict[str, Any] = {"fc": TRAINED, "lw": 1.6} if trained else {"fc": FROZEN, "lw": 0.9, "ls": "--"}
    shape = "round,pad=0.004,rounding_size=0.015"
    ax.add_patch(FancyBboxPatch((x - width / 2, y - 0.15), width, 0.30, boxstyle=shape, ec=INK, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=FONT, color=INK, linespacing=1.5)


def _arrow(ax: Axes, start: str, end: str, text: str, bend: float) -> None:
    (x0, y0, w0, _), (x1, y1, w1, _) = _BOXES[start], _BOXES[end]
    level = y0 == y1
    if level:
        a, b = (x0 + w0 / 2 + 0.004, y0), (x1 - w1 / 2 - 0.004, y1)
        label, align = ((a[0] + b[0]) / 2, y0 + 0.24), "center"
    elif y0 > y1:
        a, b = (x0, y0 - 0.155), (x1 + w1 / 2 + 0.004, y1)
        label, align = (x0 + 0.012, 0.34), "left"
    else:
        a, b = (x0 - w0 / 2 - 0.004, y0), (x1, y1 - 0.155)
        label, align = (x1 - 0.012, 0.34), "right"
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 12,
        "color": INK,
        "lw": 1.0,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.add_patch(FancyArrowPatch(a, b, connectionstyle=f"arc3,rad={bend}", **style))
    ax.text(*label, text, ha=align, va="center", fontsize=FONT - 1, color="#444444", linespacing=1.3)

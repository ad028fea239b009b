"""What the model sees: its tokens as a table and as a coloured strip."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Patch, Rectangle

from arc_helpers.arc import ARC_COLORS
from arc_helpers.plot.cells import ink_on
from arc_helpers.plot.picture import FONT, INK, Picture

IGNORED = -100  # the label of a token that does not count in the loss
PROMPT, ANSWER = "#c3cede", "#c2410c"
TINT = {"prompt": "#eef2f7", "answer": "#ffe8d6"}
DIGITS = set("0123456789")
LINE_PITCH = 1.5  # height of a line of the strip in squares: the square, the bar below it and a gap
SIGNS = {"\n": "⏎", "\t": "⇥", " ": "␣"}


class TokenRow(NamedTuple):
    """One token: `label` is −100 on the prompt, `text` has visible signs for white space."""

    index: int  # type: ignore[assignment]  # a column, not the tuple's method
    id: int
    label: int
    text: str
    part: str  # "prompt" or "answer"


@dataclass(frozen=True)
class TokenTable:
    """The rows on show out of `total` tokens; a jump in their index is drawn as an ellipsis row.

    `probabilities` holds a further column a model: {model: {index of an answer token: its probability}}.
    """

    rows: tuple[TokenRow, ...]
    total: int
    answers: int
    probabilities: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        prompt = self.total - self.answers
        return f"{self.total} tokens: {prompt} prompt, {self.answers} answer (these count in the loss)"

    def to_text(self) -> str:
        """The table in plain text, for a terminal or a log."""
        wide = max(4, *(len(row.text) for row in self.rows))
        models = "".join(f"  {name:>7}" for name in self.probabilities)
        lines = [self.summary, f"{'index':>6} {'id':>6} {'label':>6}  {'text':<{wide}}  {'part':<6}{models}".rstrip()]
        for row in self._with_gaps():
            if isinstance(row, int):
                lines.append(f"{'…':>6} {row} more")
            else:
                likely = "".join(f"  {p:>{max(7, len(n))}}" for n, p in self._likely(row))
                line = f"{row.index:>6} {row.id:>6} {row.label:>6}  {row.text:<{wide}}  {row.part:<6}{likely}"
                lines.append(line.rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cell = "padding:1px 10px;text-align:right;color:#222"
        columns = [*TokenRow._fields, *self.probabilities]
        head = "".join(f'<th style="{cell}">{escape(name)}</th>' for name in columns)
        lines = []
        for row in self._with_gaps():
            if isinstance(row, int):
                gap = f'<tr style="background:#fff"><td colspan="{len(columns)}" style="{cell}">… {row} more</td></tr>'
                lines.append(gap)
                continue
            values = [*row, *(likely for _, likely in self._likely(row))]
            inner = "".join(f'<td style="{cell}">{escape(str(value))}</td>' for value in values)
            lines.append(f'<tr style="background:{TINT[row.part]}">{inner}</tr>')
        return (
            '<table style="border-collapse:collapse;font-family:monospace;font-size:12px">'
            f'<caption style="text-align:left;white-space:nowrap">{self.summary}</caption>'
            f'<thead><tr style="background:#fff">{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        )

    def _likely(self, row: TokenRow) -> list[tuple[str, str]]:
        """Each model and the probability it gave this token, empty on the prompt."""
        found = ((name, values.get(row.index)) for name, values in self.probabilities.items())
        return [(name, "" if p is None else f"{p:.3f}") for name, p in found]

    def _with_gaps(self) -> Iterator[TokenRow | int]:
        """The rows, and between them the number of tokens left out."""
        expected = 0
        for row in self.rows:
            if row.index > expected:
                yield row.index - expected
            yield row
            expected = row.index + 1
        if expected < self.total:
            yield self.total - expected


def token_table(
    input_ids: Sequence[int],
    labels: Sequence[int],
    symbol: Callable[[int], str],
    limit: int = 80,
    start: int | None = None,
    logprobs: Mapping[str, Sequence[float]] | None = None,
) -> TokenTable:
    """A table of at most `limit` tokens: from `start` on, or the head and where the answer begins.

    `symbol` gives the text of a token id, for example `prompt_form.symbol` or `tokenizer.decode`. `logprobs`, one for
    each answer token a model, adds a column of probabilities a model.
    """
    ids, labels = _checked(input_ids, labels)
    answers = [i for i, label in enumerate(labels) if label != IGNORED]
    likely = {
        name: dict(zip(answers, map(math.exp, _one_each(values, answers)), strict=True))
        for name, values in (logprobs or {}).items()
    }
    rows = tuple(
        TokenRow(i, ids[i], labels[i], visible(symbol(ids[i])), _part(labels[i])) for i in _shown(labels, limit, start)
    )
    return TokenTable(rows, len(ids), len(answers), likely)


def plot_tokens(
    input_ids: Sequence[int],
    labels: Sequence[int],
    symbol: Callable[[int], str],
    logprobs: Sequence[float] | None = None,
    title: str | None = None,
) -> Picture:
    """The whole sequence as a wrapped strip: a square a token, digits in ARC colours, its part below it.

    `logprobs`, one for each answer token, shades the answer by the probability that the model gave it.
    """
    ids, labels = _checked(input_ids, labels)
    texts = [visible(symbol(token)) for token in ids]
    fills = [ARC_COLORS[int(text)] if text in DIGITS else "#f4f4f4" for text in texts]
    bars, legend = _bars(labels, logprobs)

    # A long sequence gets more and smaller squares a line, not a page without end.
    columns = min(max(32, math.ceil(2 * math.sqrt(len(ids)))), 128)
    lines = math.ceil(len(ids) / columns)
    width, left, top, edge = 11.0, 0.5, 0.4, 0.1  # inches
    square = (width - left - edge) / columns
    strip = lines * LINE_PITCH * square
    height = top + strip + edge
    picture = Picture(figsize=(width, height))
    ax = picture.add_axes((left / width, edge / height, columns * square / width, strip / height))
    ax.set(xlim=(0, columns), ylim=(lines * LINE_PITCH, 0))
    ax.set_axis_off()

    places = [(i % columns, LINE_PITCH * (i // columns)) for i in range(len(ids))]
    squares = [Rectangle(place, 1, 1) for place in places]
    under = [Rectangle((x, y + 1), 1, 0.25) for x, y in places]
    ax.add_collection(PatchCollection(squares, facecolor=fills, gid="tokens", edgecolor="#999999", linewidth=0.3))
    ax.add_collection(PatchCollection(under, facecolor=bars, gid="parts"))
    if square * 72 > 6.5:  # smaller text would be noise, and thousands of texts are slow to draw
        _write_texts(ax, places, texts, fills, square * 72)
    style: dict[str, Any] = {"fontsize": FONT - 2, "color": "#777777", "ha": "right", "va": "center"}
    for line in range(lines):
        ax.text(-0.4, line * LINE_PITCH + 0.5, str(line * columns), **style)

    picture.text(left / width, 1 - 0.08 / height, title or "", fontsize=FONT + 1, color=INK, va="top")
    handles = [Patch(color=color, label=label) for label, color in legend.items()]
    style = {"fontsize": FONT - 1, "frameon": False, "borderpad": 0}
    picture.legend(handles=handles, loc="upper right", ncols=len(handles), **style)
    return picture


def visible(text: str) -> str:
    """White space and control characters as signs that can be seen."""
    return "".join(SIGNS.get(c, c if c.isprintable() else repr(c)[1:-1]) for c in text) or "∅"


def _part(label: int) -> str:
    return "prompt" if label == IGNORED else "answer"


def _write_texts(ax: Axes, places: list, texts: list[str], fills: list[str], points: float) -> None:
    """The first characters of each token in its square, smaller where there are more of them."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False}  # a lone $ is a token, not a formula
    for (x, y), text, fill in zip(places, texts, fills, strict=True):
        size = points * min(0.6, 1.4 / len(text[:4]))
        ax.text(x + 0.5, y + 0.5, text[:4], fontsize=size, color=ink_on(fill), **style)


def _bars(labels: list[int], logprobs: Sequence[float] | None) -> tuple[list[str], dict[str, str]]:
    """The colour below each token, and what the colours mean."""
    answers = [i for i, label in enumerate(labels) if label != IGNORED]
    bars = [PROMPT if label == IGNORED else ANSWER for label in labels]
    legend = {f"prompt ({len(labels) - len(answers)} tokens)": PROMPT}
    if logprobs is None:
        return bars, legend | {f"answer ({len(answers)} tokens, these count in the loss)": ANSWER}
    for i, logprob in zip(answers, _one_each(logprobs, answers), strict=True):
        bars[i] = _shade(math.exp(logprob))
    return bars, legend | {f"answer, probability {p:g}": _shade(p) for p in (0, 0.5, 1)}


def _one_each(logprobs: Sequence[float], answers: list[int]) -> list[float]:
    if len(logprobs) != len(answers):
        raise ValueError(f"logprobs: {len(logprobs)} given for {len(answers)} answer tokens")
    return [float(logprob) for logprob in logprobs]


def _shade(probability: float) -> str:
    return to_hex(matplotlib.colormaps["viridis"](float(probability)))


def _checked(input_ids: Sequence[int], labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """Plain ints, whether they came as lists, arrays or tensors."""
    ids, labels = [int(i) for i in input_ids], [int(i) for i in labels]
    if len(ids) != len(labels) or not ids:
        raise ValueError(f"labels: {len(labels)} given for {len(ids)} input_ids; expected as many, and some")
    return ids, labels


def _shown(labels: list[int], limit: int, start: int | None) -> list[int]:
    """Which indices the table shows."""
    if limit < 1:
        raise ValueError(f"limit: expected at least 1, got {limit}")
    n = len(labels)
    if start is not None:
        if not 0 <= start < n:
            raise ValueError(f"start: expected 0 to {n - 1}, got {start}")
        return list(range(start, min(start + limit, n)))
    if n <= limit:
        return list(range(n))
    head = limit // 4
    around = limit - head
    boundary = next((i for i, label in enumerate(labels) if label != IGNORED), n)
    first = min(max(boundary - around // 2, head), n - around)
    return [*range(head), *range(first, first + around)]

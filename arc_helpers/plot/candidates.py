"""The wall of candidates: distinct answers to one test input, and which view proposed which."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from arc_helpers.arc import Transform, as_grid
from arc_helpers.plot.grids import describe_transform, judged
from arc_helpers.plot.picture import ACCENT, FONT, INK, Picture
from arc_helpers.plot.sheet import Cells, Panel, lay_out, make_room_below

ROW = 0.2  # inches a view
MOST = 8  # candidates on a wall


class Answer(Protocol):
    """A distinct answer to one test input, as `ttt.ranking` ranks them."""

    grid: Any
    votes: int
    logprob: float  # mean over its views, a token
    views: Sequence[str]  # names of the transforms that gave it
    product: float | None  # sum of its log-probabilities under every view


def plot_candidates(
    answers: Sequence[Answer],
    truth=None,
    views: Sequence[str] = (),
    title: str = "",
    digits: bool = False,
) -> Picture:
    """Answers, best first, and below them a row a view: a dot where the view proposed the answer above.

    The first two are the attempts. views: names of all views, where some may have proposed nothing. truth: outlines
    wrong cells.
    Raises ValueError without any answer.
    """
    count = Counter(view for answer in answers for view in answer.views)
    rows = sorted({*views, *count}, key=lambda view: (-count[view], _in_words(view)))
    panels = [_panel(i, answer, len(views), truth) for i, answer in enumerate(answers[:MOST])]
    if truth is not None:
        panels.append(Panel(as_grid(truth), "truth"))
    more = f" · {len(answers) - MOST} more" if len(answers) > MOST else ""
    picture = lay_out([panels], heading=title + more, cells=Cells(digits, scale=0.7), left=1.1)
    _draw_views(picture, [set(answer.views) for answer in answers[:MOST]], rows)
    return picture


def _panel(place: int, answer: Answer, views: int, truth) -> Panel:
    likely = f"Σ log p {answer.product:.2f}" if answer.product is not None else f"log p {answer.logprob:.2f} a token"
    name = f"attempt {place + 1}" if place < 2 else f"{place + 1}."
    votes = f"{answer.votes} of {views} views" if views else "1 vote" if answer.votes == 1 else f"{answer.votes} votes"
    panel = judged(answer.grid, name, truth)
    color = ACCENT if truth is None and place < 2 else panel.color
    return Panel(panel.grid, f"{panel.title}\n{votes}\n{likely}", color, panel.wrong)


def _draw_views(picture: Picture, proposals: Sequence[set[str]], rows: Sequence[str]) -> None:
    """The matrix views × candidates, each column below its grid."""
    room = ROW * len(rows) + 0.1
    grids = picture.axes[: len(proposals)]
    make_room_below(picture, room)
    width, height = picture.get_size_inches()
    ax = picture.add_axes((0, 0.05 / height, 1, (room - 0.05) / height))
    ax.set(xlim=(0, width), ylim=(len(rows) - 0.5, -0.5))
    ax.set_axis_off()
    columns = [width * (box.x0 + box.x1) / 2 for box in (grid.get_position() for grid in grids)]
    for y, view in enumerate(rows):
        ax.axhline(y, color="#dddddd", lw=0.5, zorder=0)
        ax.text(0.1, y, _in_words(view), fontsize=FONT - 2, color=INK, va="center", bbox={"fc": "white", "lw": 0})
        ax.plot(
            [x for x, proposed in zip(columns, proposals, strict=True) if view in proposed],
            [y for proposed in proposals if view in proposed],
            "o", color=ACCENT, ms=5,
        )  # fmt: skip


def _in_words(view: str) -> str:
    """A view's name as its geometry; colours are too many to name."""
    try:
        return describe_transform(Transform.from_name(view)).split("\n")[0]
    except ValueError:
        return view

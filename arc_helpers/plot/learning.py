"""A task while it is learned: demonstrations, question, the answer of a moment, and the losses so far."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from arc_helpers.arc import Task
from arc_helpers.plot.curves import style_axes
from arc_helpers.plot.grids import demonstrations, judged
from arc_helpers.plot.picture import ACCENT, INK, Picture
from arc_helpers.plot.sheet import Cells, Panel, lay_out, make_room_below

ROOM = 1.5  # inches of the losses


class Shot(Protocol):
    """The answer of a moment, as `ttt.watch_task` takes them."""

    step: int
    loss: float | None
    grid: Any
    sure: Any  # float [H, W]: probability of each cell
    votes: int
    views: int  # 0: nobody voted


def plot_learning(
    task: Task, shot: Shot, truth=None, losses: Sequence[float] = (), unit: str = "step", digits: bool = False
) -> Picture:
    """The demonstrations of a task; below them its first test input and the answer of `shot`, each cell filled as far
    as its probability goes; below these the losses, with a line at `shot`. truth: outlines wrong cells."""
    rows, labels = demonstrations(task, Cells(digits))
    answer = judged(shot.grid, f"{unit} {shot.step}", truth)
    votes = f"\n{shot.votes} of {shot.views} views" if shot.views else ""
    said = Panel(answer.grid, answer.title + votes, answer.color, answer.wrong, np.asarray(shot.sure))
    row = [Panel(task.test[0].input, "test input", ACCENT), said]
    picture = lay_out([*rows, row], row_labels=[*labels, "question"], heading=task.id, cells=Cells(digits))
    if len(losses):
        make_room_below(picture, ROOM)
        width, height = picture.get_size_inches()
        ax = picture.add_axes((0.6 / width, 0.45 / height, (width - 0.9) / width, (ROOM - 0.6) / height))
        style_axes(ax, unit, "nats a token")
        ax.plot(range(1, len(losses) + 1), losses, color=INK, lw=1)
        ax.axvline(shot.step, color=ACCENT, lw=2)
        ax.set(xlim=(0, len(losses)), ylim=(0, None))
    return picture

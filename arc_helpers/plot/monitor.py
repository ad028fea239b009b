"""K trainings side by side while they run: their losses, and who waits, trains, is done or has failed."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from arc_helpers.plot.cells import ink_on
from arc_helpers.plot.curves import draw_line, short_name, style_axes
from arc_helpers.plot.picture import FONT, INK, Picture
from arc_helpers.runs.env import detect

#: state → its colour and its sign, so that the colour is not needed
STATES = {
    "waits": ("#f2f2f2", "·"),
    "trains": ("#0074d9", "▶"),
    "done": ("#9ecae1", "●"),  # trained; whether it is solved nobody knows yet
    "failed": ("#ff4136", "✗"),
}
CURVES = 12  # the last to have had a step
ACROSS, BOX = 30, 0.26  # boxes a line, inches of a box


class TrainingMonitor:
    """Call it with {name: loss} after every step: the picture is drawn again, at most every `every` seconds and in a
    twentieth of the time; where no one watches only at the end.

    names: those that are still to come, drawn as waiting. A name that was in the step before and is not in this one is
    done; one whose loss is not finite has failed, until it is finite again. The picture is one output of the cell that
    calls `show`, live as in a saved notebook.
    """

    def __init__(self, names: Sequence[str] = (), every: float = 2.0):
        self.losses: dict[str, list[float]] = {name: [] for name in names}
        self.every = every
        self._running: list[str] = []
        self._handle, self._due = None, math.inf

    def __call__(self, losses: Mapping[str, float]) -> None:
        self._running = [name for name, loss in losses.items() if not math.isnan(loss) or name in self._running]
        for name in self._running:
            self.losses.setdefault(name, []).append(float(losses[name]))
        began = time.monotonic()
        if self._handle and began >= self._due:
            self._handle.update(self.picture())
            ended = time.monotonic()
            self._due = ended + max(self.every, 20 * (ended - began))

    def show(self) -> "TrainingMonitor":
        """Put the picture into the cell's output."""
        self._handle = display(self.picture(), display_id=True)
        self._due = math.inf if detect().headless else 0.0
        return self

    def finish(self) -> Picture:
        """The training is over: the last picture, which is also put where `show` was called."""
        self._running = []
        picture = self.picture()
        if self._handle:
            self._handle.update(picture)
        return picture

    @property
    def states(self) -> dict[str, str]:
        """waits, trains, done or failed, by name."""
        return {name: self._state(name, losses) for name, losses in self.losses.items()}

    def _state(self, name: str, losses: list[float]) -> str:
        if not losses:
            return "waits"
        if not math.isfinite(losses[-1]):
            return "failed"
        return "trains" if name in self._running else "done"

    def picture(self) -> Picture:
        """The curves of the last to have had a step, and a box a training."""
        begun = [name for name, losses in self.losses.items() if losses]
        return plot_monitor({name: self.losses[name] for name in begun[-CURVES:]}, self.states)


def plot_monitor(losses: Mapping[str, Sequence[float]], states: Mapping[str, str]) -> Picture:
    """Loss curves above; below them a box for each of `states`: waits ·, trains ▶, done ●, failed ✗."""
    below = BOX * math.ceil(len(states) / ACROSS) + 0.35  # inches
    picture = Picture(figsize=(9, 3.4 + below), layout="constrained")
    top, bottom = picture.subplots(2, 1, height_ratios=(3.4, below))
    style_axes(top, "step", "loss (nats a token)")
    for i, (name, values) in enumerate(losses.items()):
        steps = range(1, len(values) + 1)
        draw_line(top, short_name(name), values, i, len(losses), steps, lw=1.2, alpha=0.85)
    if losses:
        style = {"fontsize": FONT - 1, "frameon": False, "handlelength": 3.2}
        top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0, **style)
    _draw_boxes(bottom, list(states.values()))
    return picture


def _draw_boxes(ax: Axes, states: Sequence[str]) -> None:
    ax.set(xlim=(0, ACROSS), ylim=(math.ceil(len(states) / ACROSS) or 1, 0), aspect="equal", anchor="W")
    ax.set_axis_off()
    for i, state in enumerate(states):
        fill, sign = STATES[state]
        x, y = i % ACROSS, i // ACROSS
        ax.add_patch(Rectangle((x + 0.05, y + 0.05), 0.9, 0.9, fc=fill, ec="#999999", lw=0.5))
        ax.text(x + 0.5, y + 0.5, sign, ha="center", va="center", fontsize=FONT, color=ink_on(fill))
    count = Counter(states)
    words = "   ".join(f"{sign} {count[state]} {state}" for state, (_, sign) in STATES.items() if count[state])
    ax.set_title(words, loc="left", fontsize=FONT, color=INK, pad=3)

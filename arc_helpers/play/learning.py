"""A task while it is learned: to move through in a notebook, as one HTML file, and as a GIF."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_helpers.arc import Task, safe_name
from arc_helpers.play.rows import rows_of, task_for_browser
from arc_helpers.play.script import script, style
from arc_helpers.plot import Picture, Shot, plot_learning
from arc_helpers.runs import atomic_write_bytes, atomic_write_text, detect

if TYPE_CHECKING:
    from arc_helpers.play.watcher import Watcher

FRAME, LAST = 600, 2500  # milliseconds a frame of the GIF, and its last


@dataclass(frozen=True)
class Learning:
    """What `ttt.watch_task` has seen of one test input, the first of `task`.

    truth: its answer, where one may look; it is compared, never learned from. losses: one a step. unit: what a shot
    is taken after: a training step, a segment of a recursion, a turn. Raises ValueError without a shot.
    """

    task: Task
    shots: Sequence[Shot]
    truth: Any = None
    losses: Sequence[float] = field(default=())
    unit: str = "step"

    def __post_init__(self) -> None:
        if not self.shots:
            raise ValueError(f"nothing to watch: no step of {self.task.id} has an answer")

    def picture(self, at: int = -1) -> Picture:
        """The demonstrations, the question, the answer of a shot and the losses."""
        return plot_learning(self.task, self.shots[at], self.truth, self.losses, self.unit)

    def story(self) -> dict[str, Any]:
        """All of it in JSON's own types, as watch.js reads it."""
        shots = [
            {
                "step": shot.step,
                "loss": _finite(shot.loss),
                "grid": rows_of(shot.grid),
                "sure": [[round(float(p), 3) for p in row] for row in shot.sure],
                "votes": shot.votes,
                "views": shot.views,
            }
            for shot in self.shots
        ]
        truth = None if self.truth is None else rows_of(self.truth)
        losses = [_finite(loss) for loss in self.losses]
        return {
            "task": task_for_browser(self.task),
            "shots": shots,
            "truth": truth,
            "losses": losses,
            "unit": self.unit,
        }

    def describe(self) -> str:
        """What the picture shows, in words."""
        first, last = self.shots[0], self.shots[-1]
        return (
            f"Task {self.task.id}: its demonstrations, a test input, and the answer from {self.unit} {first.step} to "
            f"{self.unit} {last.step}, each cell filled as far as the model is sure of it; beside it the loss."
        )

    def to_html(self) -> str:
        """A page that needs nothing else: no network, no kernel."""
        story = json.dumps(self.story()).replace("</", "<\\/")
        still = base64.b64encode(self.picture().to_png()).decode()
        title = html.escape(f"Task {self.task.id} while it is learned")
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{style()}</style></head><body><h1>{title}</h1><div id=here></div><noscript>"
            f'<img alt="{html.escape(self.describe())}" src="data:image/png;base64,{still}"></noscript>'
            f'<script type="module">{script("watch")}\n'
            f'render({{ model: {{ get: () => ({story}) }}, el: document.getElementById("here") }});</script>'
            "</body></html>\n"
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write <task id>.html and .gif; returns their paths."""
        name = safe_name(self.task.id)
        page, film = Path(folder) / f"{name}.html", Path(folder) / f"{name}.gif"
        atomic_write_text(page, self.to_html())
        atomic_write_bytes(film, self.to_gif())
        return [page, film]

    def to_gif(self) -> bytes:
        """A frame a shot, over and over."""
        from PIL import Image

        frames = [Image.open(io.BytesIO(self.picture(i).to_png())).convert("RGB") for i in range(len(self.shots))]
        size = (max(frame.width for frame in frames), max(frame.height for frame in frames))
        sheets = []
        for frame in frames:
            sheet = Image.new("RGB", size, "white")
            sheet.paste(frame)
            sheets.append(sheet.quantize(64, dither=Image.Dither.NONE))
        buffer = io.BytesIO()
        times = [FRAME] * (len(sheets) - 1) + [LAST]
        sheets[0].save(buffer, "GIF", save_all=True, append_images=sheets[1:], duration=times, loop=0, optimize=True)
        return buffer.getvalue()


def watch_learning(learning: Learning) -> "Watcher | Picture":
    """Move through the shots; without a front end the last of them."""
    if detect().headless:
        return learning.picture()
    try:
        from arc_helpers.play.watcher import Watcher
    except ImportError as error:
        print(f"{error.name} is not installed, so this is a picture: pip install anywidget")
        return learning.picture()
    return Watcher(learning)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)

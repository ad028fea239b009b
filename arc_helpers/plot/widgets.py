"""Explorers: controls around the plotting functions. Without a front end they return their first picture."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from ipywidgets import HTML, Checkbox, HBox, Image, IntSlider, Layout, SelectionSlider, VBox, Widget

from arc_helpers.arc import Task, Transform, color_permutation
from arc_helpers.plot.grids import plot_prediction, plot_round_trip, plot_task
from arc_helpers.plot.picture import Picture
from arc_helpers.plot.tokens import plot_tokens, token_table
from arc_helpers.runs.env import detect


class Encoded(Protocol):
    """A prompt with its answer as tokens; `labels` is −100 on the prompt."""

    input_ids: Sequence[int]
    labels: Sequence[int]


class Explorer(VBox):
    """Controls above a picture, which is drawn again when one of them changes.

    `controls` holds the widgets by name, `picture` the image, so that code can turn the knobs too:
    `explorer.controls["task"].value = 3`.
    """

    def __init__(
        self,
        controls: dict[str, Widget],
        draw: Callable[..., Picture],
        table: Callable[..., Any] | None = None,
    ) -> None:
        self.controls = controls
        # Bytes in an Image, not a figure in an Output: nothing is shown twice and no old figure flickers.
        self.picture = Image(format="png", layout=Layout(max_width="100%", object_fit="contain"))
        self.table = HTML()
        self._draw, self._table = draw, table
        self._shown: Picture | None = None
        super().__init__([HBox(list(controls.values()), layout=Layout(flex_flow="row wrap")), self.picture])
        if table is not None:
            self.children += (self.table,)
        for control in controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    def _refresh(self, _change: Any = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        picture = self._draw(**values)
        if picture is not self._shown:  # rendering is the slow part
            self._shown, self.picture.value = picture, picture.to_png()
        if self._table is not None:
            self.table.value = self._table(**values)._repr_html_()


def explore_tasks(tasks: Sequence[Task]) -> Explorer | Picture:
    """Step through tasks."""

    def draw(task: int, digits: bool) -> Picture:
        return plot_task(tasks[task], digits=digits)

    return _explore({"task": _stepper("task", [task.id for task in tasks]), "digits": _digits()}, draw)


def explore_augmentations(task: Task) -> Explorer | Picture:
    """Turn, flip and recolour a pair of a task, and see the inverse bring the original back."""
    named = [(f"train {i}", pair) for i, pair in enumerate(task.train)]
    named += [(f"test {i}", pair) for i, pair in enumerate(task.test)]

    def draw(pair: int, rotation: int, flip: bool, colors: int, digits: bool) -> Picture:
        recolour = {"colors": color_permutation(colors)} if colors else {}
        return plot_round_trip(named[pair][1], Transform(k=rotation, flip=flip, **recolour), digits=digits)

    controls = {
        "pair": _stepper("pair", [name for name, _ in named]),
        "rotation": SelectionSlider(
            description="rotation", options=[("0°", 0), ("90°", 1), ("180°", 2), ("270°", 3)], value=1,
            continuous_update=False,
        ),
        "flip": Checkbox(description="flip", value=False),
        "colors": IntSlider(description="colour seed", value=1, max=20, continuous_update=False),
        "digits": _digits(),
    }  # fmt: skip
    return _explore(controls, draw)


def explore_predictions(
    results: Sequence[tuple[Task, Sequence[Sequence], Sequence | None]],
) -> Explorer | Picture:
    """Step through predictions: each result is what `plot_prediction` takes: task, attempts, truth."""

    def draw(task: int, digits: bool) -> Picture:
        return plot_prediction(*results[task], digits=digits)

    return _explore({"task": _stepper("task", [result[0].id for result in results]), "digits": _digits()}, draw)


def explore_tokens(
    sequences: Sequence[Encoded], symbol: Callable[[int], str], names: Sequence[str] | None = None
) -> Explorer | Picture:
    """Step through token sequences: the strip of the whole, and below it the token table from `start` on."""
    names = [f"sequence {i}" for i in range(len(sequences))] if names is None else names

    @lru_cache(maxsize=1)
    def strip(sequence: int) -> Picture:
        encoded = sequences[sequence]
        return plot_tokens(encoded.input_ids, encoded.labels, symbol, title=names[sequence])

    def draw(sequence: int, start: int) -> Picture:
        return strip(sequence)  # the strip shows the whole: it stays while `start` moves

    def table(sequence: int, start: int) -> Any:
        encoded = sequences[sequence]
        first = min(start, len(encoded.input_ids) - 1)
        return token_table(encoded.input_ids, encoded.labels, symbol, limit=40, start=first or None)

    longest = max((len(encoded.input_ids) for encoded in sequences), default=1)
    controls = {
        "sequence": _stepper("sequence", names),
        "start": IntSlider(description="start", max=longest - 1, continuous_update=False),
    }
    return _explore(controls, draw, table)


def _explore(
    controls: dict[str, Widget], draw: Callable[..., Picture], table: Callable[..., Any] | None = None
) -> Explorer | Picture:
    """The explorer, or the picture of its first state where nobody can turn a knob (papermill)."""
    if detect().headless:
        return draw(**{name: control.value for name, control in controls.items()})
    return Explorer(controls, draw, table)


def _stepper(what: str, names: Sequence[str]) -> SelectionSlider:
    """A slider over positions that shows their names."""
    if not names:
        raise ValueError(f"nothing to explore: no {what} was given")
    options = [(name, i) for i, name in enumerate(names)]
    return SelectionSlider(description=what, options=options, continuous_update=False)


def _digits() -> Checkbox:
    return Checkbox(description="digits", value=False)

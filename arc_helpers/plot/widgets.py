"""Controls around a plotting function. Without a front end there is its first picture instead."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arc_helpers.plot.beside import LIVE, show_beside
from arc_helpers.plot.controls import (
    HAS_WIDGETS,
    HTML,
    Checkbox,
    HBox,
    Image,
    Layout,
    SelectionSlider,
    VBox,
    Widget,
)
from arc_helpers.plot.picture import Picture
from arc_helpers.runs.env import detect

WIDE = Layout(width="30em")  # a slider with room for a name beside it
BUSY = "drawing … (■ in the toolbar stops it)"


class Explorer(VBox):
    """Controls above a picture, which is drawn again when one of them changes.

    `controls` holds the widgets by name, `picture` the image, so that code can turn the knobs too:
    `explorer.controls["task"].value = 3`. While it draws, which takes some tenths of a second, `status` says so; an
    interrupt of the kernel leaves the picture as it was.
    """

    def __init__(
        self,
        controls: dict[str, Widget],
        draw: Callable[..., Picture],
        table: Callable[..., Any] | None = None,
    ) -> None:
        self.controls = controls
        # Bytes in an Image, not a figure in an Output: nothing is shown twice and no old figure flickers.
        # At its own size: a box would stretch it.
        self.picture = Image(format="png", layout=Layout(max_width="100%", align_self="flex-start"))
        self.table, self.status = HTML(), HTML(layout=Layout(min_width="18em"))
        self._draw, self._table = draw, table
        self._shown: Picture | None = None
        self._drawn: dict[str, Any] | None = None
        knobs = HBox([*controls.values(), self.status], layout=Layout(flex_flow="row wrap"))
        super().__init__([knobs, self.picture, *([self.table] if table else [])])
        self.add_class(LIVE)
        for control in controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    def _ipython_display_(self) -> None:
        names = ", ".join(f"{name}: {value}" for name, value in (self._drawn or {}).items())
        bundle = super()._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        show_beside(data, self.picture.value, f"A picture with controls ({names})")

    def _refresh(self, _change: Any = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        if values == self._drawn:  # one knob has turned another, and the picture is drawn
            return
        self.status.value = BUSY
        try:
            picture = self._draw(**values)
            if picture is not self._shown:  # rendering is the slow part
                self._shown, self.picture.value = picture, picture.to_png()
            if self._table is not None:
                self.table.value = self._table(**values)._repr_html_()
        except KeyboardInterrupt:
            self.status.value = "stopped; this is the picture of before"
            return
        self._drawn, self.status.value = values, ""


def explore(
    controls: dict[str, Widget], draw: Callable[..., Picture], table: Callable[..., Any] | None = None
) -> Explorer | Picture:
    """An explorer, or the picture of its first state where nobody can turn a knob (papermill, no ipywidgets).

    draw takes the controls' values by their names; so does table, whose result has a `_repr_html_`.
    """
    if detect().headless or not HAS_WIDGETS:
        return draw(**{name: control.value for name, control in controls.items()})
    return Explorer(controls, draw, table)


def explore_pictures(pictures: Mapping[str, Callable[[], Picture]]) -> Explorer | Picture:
    """Step through pictures by name, each drawn when it is asked for."""
    draws = list(pictures.values())
    return explore({"picture": stepper("picture", list(pictures))}, lambda picture: draws[picture]())


def stepper(what: str, names: Sequence[str]) -> SelectionSlider:
    """A slider over positions that shows their names. Raises ValueError where there is none."""
    if not names:
        raise ValueError(f"nothing to explore: no {what} was given")
    options = [(name, i) for i, name in enumerate(names)]
    return SelectionSlider(description=what, options=options, continuous_update=False, layout=WIDE)


def digits_box() -> Checkbox:
    """Whether cells show their number, for readers who cannot tell the colours apart."""
    return Checkbox(description="digits", value=False)

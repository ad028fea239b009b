"""A figure that shows itself exactly once in a notebook."""

import io

from matplotlib.figure import Figure
from matplotlib.text import Text

INK = "#222222"
GOOD = "#1a7f37"
BAD = "#cf222e"
ACCENT = "#0b5cad"
FONT = 9  # points, for everything that is not a heading


class Picture(Figure):
    """A matplotlib Figure outside pyplot that draws itself as the last expression of a cell.

    A pyplot figure is shown a second time when the inline backend closes the cell, and a bare Figure is
    shown only where that backend is active. This one knows how to draw itself, and pyplot never hears of it.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{"dpi": 100, "facecolor": "white", **kwargs})

    def draw(self, renderer) -> None:
        """As matplotlib's, but a "$" in a name is a dollar, not the start of a formula; tick labels keep theirs."""
        for text in self.findobj(Text):
            if "$" in text.get_text() and "mathdefault" not in text.get_text():
                text.set_parse_math(False)
        super().draw(renderer)

    def to_png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.to_png()

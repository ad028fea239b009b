"""Rows of grids on one sheet, laid out in inches so that a 3×3 and a 30×30 grid are both easy to read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.textpath import TextPath

from arc_helpers.plot.cells import UNKNOWN, draw_grid, title_with_size
from arc_helpers.plot.picture import FONT, INK, Picture

MARGIN, GAP = 0.15, 0.3  # inches
PAGE = 12.5  # width in inches beyond which a notebook would shrink the sheet
LINE = FONT * 1.35 / 72  # height of a line of text, inches


@dataclass(frozen=True)
class Cells:
    """How cells are drawn: `digits` in them or not, and a `scale` below 1 for galleries of little grids."""

    digits: bool = False
    scale: float = 1.0

    def inches(self, side: int) -> float:
        """Size of a cell in a grid this large: it gets more room than a small one, not in proportion."""
        cell = self.scale * min(0.4, (0.9 + 0.065 * side) / side)
        return max(cell, 0.17) if self.digits else cell


@dataclass(frozen=True)
class Panel:
    """One grid of a sheet; `grid=None` draws a question mark."""

    grid: np.ndarray | None
    title: str = ""
    color: str = INK
    wrong: np.ndarray | None = None
    sure: np.ndarray | None = None  # float [H, W], how far each cell is filled

    @property
    def heading(self) -> str:
        return title_with_size(self.grid, self.title)

    def size(self, cells: Cells) -> tuple[float, float]:
        """Width and height of the drawn grid in inches."""
        height, width = (UNKNOWN if self.grid is None else self.grid).shape
        side = cells.inches(max(height, width))
        return width * side, height * side

    def width(self, cells: Cells) -> float:
        """Width in inches of the grid or its title, whichever is wider."""
        return max(self.size(cells)[0], *(_text_width(line, FONT) for line in self.heading.split("\n")))


def bands(columns: Sequence[Sequence[Panel]], cells: Cells) -> list[Sequence[Sequence[Panel]]]:
    """Columns of panels, cut into bands that a page holds, all about equally full."""
    widest = max((panel.width(cells) for column in columns for panel in column), default=PAGE)
    fit = max(1, int((PAGE + GAP) / (widest + GAP)))
    n_bands = max(1, math.ceil(len(columns) / fit))
    size = max(1, math.ceil(len(columns) / n_bands))
    return [columns[i : i + size] for i in range(0, len(columns), size)]


def lay_out(
    rows: Sequence[Sequence[Panel]],
    *,
    row_labels: Sequence[str] = (),
    heading: str = "",
    cells: Cells,
    left: float = 0.0,
) -> Picture:
    """A sheet of panels: columns and rows as large as their largest panel, titles never clipped.

    left: inches that are kept free at the left edge.
    """
    if not any(rows):
        raise ValueError("nothing to draw: no grid was given")
    columns = zip_longest(*([panel.width(cells) for panel in row] for row in rows), fillvalue=0.0)
    widths = [max(column) for column in columns]
    heights = [max(panel.size(cells)[1] for panel in row) for row in rows]
    titles = [LINE * max(panel.heading.count("\n") + 1 for panel in row) + 0.08 for row in rows]
    left += MARGIN + (LINE + 0.1 if row_labels else 0)
    top = MARGIN + (0.26 if heading else 0)

    width = left + sum(widths) + GAP * (len(widths) - 1) + MARGIN
    width = max(width, 2 * MARGIN + _text_width(heading, FONT + 3) * 1.1)  # headings are bold
    height = top + sum(titles) + sum(heights) + GAP / 2 * (len(rows) - 1) + MARGIN
    picture = Picture(figsize=(width, height))
    if heading:
        y = 1 - MARGIN / height
        picture.text(MARGIN / width, y, heading, fontsize=FONT + 3, weight="bold", color=INK, va="top")

    y = top
    for i, row in enumerate(rows):
        y += titles[i]
        if i < len(row_labels):
            centre = 1 - (y + heights[i] / 2) / height
            style: dict[str, Any] = {
                "rotation": 90,
                "ha": "center",
                "va": "center",
                "fontsize": FONT,
                "color": "#777777",
            }
            picture.text((MARGIN + LINE / 2) / width, centre, row_labels[i], **style)
        x = left
        for panel, column in zip(row, widths, strict=False):
            w, h = panel.size(cells)
            box = ((x + (column - w) / 2) / width, 1 - (y + h) / height, w / width, h / height)
            ax = picture.add_axes(box)
            draw_grid(ax, panel.grid, panel.title, digits=cells.digits, wrong=panel.wrong, sure=panel.sure)
            ax.title.set_color(panel.color)
            x += column + GAP
        y += heights[i] + GAP / 2
    return picture


def make_room_below(picture: Picture, inches: float) -> None:
    """Make a sheet taller; what is drawn keeps its size and its distance from the upper edge."""
    width, before = picture.get_size_inches()
    after = before + inches
    picture.set_size_inches(width, after)
    for ax in picture.axes:
        box = ax.get_position(original=True)  # the other would fit it into the new size first
        ax.set_position((box.x0, (box.y0 * before + inches) / after, box.width, box.height * before / after))
    for text in picture.texts:
        text.set_y((text.get_position()[1] * before + inches) / after)


@lru_cache(maxsize=4096)
def _text_width(text: str, size: float) -> float:
    """Width of a line of text in inches; a dollar is one, not the start of a formula, and as wide as an S."""
    if not text:
        return 0.0
    return TextPath((0, 0), text.replace("$", "S"), size=size).get_extents().width / 72 * 1.05

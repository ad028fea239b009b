"""One grid in one pair of axes: ARC colours, borders, digits, and outlines around wrong cells."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from arc_helpers.arc import ARC_COLORS, as_grid
from arc_helpers.plot.picture import FONT, INK

ARC_CMAP = ListedColormap(ARC_COLORS, name="arc")
BORDER = "#555555"
UNKNOWN = np.zeros((3, 3), dtype=np.int8)  # the place that a grid nobody knows takes up


def ink_on(color: str) -> str:
    """Black or white, whichever is easier to read on `color`."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    luminance = (rgb**2.2) @ (0.2126, 0.7152, 0.0722)
    return "#000000" if luminance > 0.18 else "#ffffff"


def draw_grid(
    ax: Axes,
    grid,
    title: str | None = None,
    digits: bool = False,
    wrong: np.ndarray | None = None,
    sure: np.ndarray | None = None,
) -> None:
    """Draw one grid into `ax` in the ARC colours; the title always ends with its size `H×W`.

    `digits` writes the value into each cell, for readers who cannot tell the colours apart. `wrong` is a
    boolean mask of cells to outline. `sure` is a probability a cell, float [H, W]: so much of it is filled.
    `grid=None` draws a question mark in place of an unknown output.
    """
    ax.set_axis_off()
    if grid is not None:
        grid = as_grid(grid)
    height, width = (UNKNOWN if grid is None else grid).shape
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    ax.set_title(title_with_size(grid, title or ""), fontsize=FONT, color=INK, pad=4, linespacing=1.25)
    if grid is None:
        ax.add_patch(Rectangle((-0.5, -0.5), width, height, fc="#f2f2f2", ec="#aaaaaa", ls="--"))
        ax.text(0.5, 0.5, "?", transform=ax.transAxes, ha="center", va="center", fontsize=28, color="#888888")
        return

    # The norm is fixed: an autoscaled one would paint the same value differently from grid to grid.
    ax.imshow(grid, cmap=ARC_CMAP, norm=Normalize(0, 9), interpolation="nearest")
    if sure is not None:
        _fill(ax, grid, np.asarray(sure, dtype=float))
    cell = _cell_points(ax, width, height)
    border = min(0.8, cell / 12)
    ax.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, color=BORDER, lw=border, clip_on=False)
    ax.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, color=BORDER, lw=border, clip_on=False)
    if digits:
        inks = [ink_on(color) for color in ARC_COLORS]
        style: dict[str, Any] = {"fontsize": cell * 0.6, "ha": "center", "va": "center_baseline"}
        for (row, column), value in np.ndenumerate(grid):
            ax.text(column, row, str(value), color=inks[value], **style)
    if wrong is not None:
        _outline(ax, np.asarray(wrong, dtype=bool), grid.shape, cell)


def _fill(ax: Axes, grid: np.ndarray, sure: np.ndarray) -> None:
    """White cells, and in each a square of its colour whose area is the cell's probability."""
    if sure.shape != grid.shape:
        raise ValueError(f"sure: the probabilities are {sure.shape}, the grid is {grid.shape}")
    ax.imshow(np.ones((*grid.shape, 3)), interpolation="nearest")
    for (row, column), value in np.ndenumerate(grid):
        side = float(np.sqrt(np.clip(sure[row, column], 0, 1)))
        corner = (column - side / 2, row - side / 2)
        ax.add_patch(Rectangle(corner, side, side, fc=ARC_COLORS[value], ec="none", gid="sure"))


def title_with_size(grid: np.ndarray | None, title: str) -> str:
    """The title with the grid's size at the end of its first line."""
    first, *rest = title.split("\n")
    size = "" if grid is None else f"{grid.shape[0]}×{grid.shape[1]}"
    return "\n".join([" · ".join(part for part in (first, size) if part), *rest])


def _cell_points(ax: Axes, width: int, height: int) -> float:
    """Side of a cell in points, from the room that `ax` has in its figure."""
    return 72 / ax.figure.dpi * min(ax.bbox.width / width, ax.bbox.height / height)


def _outline(ax: Axes, wrong: np.ndarray, shape: tuple[int, int], cell: float) -> None:
    """A white line in a black one around each wrong cell: one of the two stands out on every colour."""
    if wrong.shape != shape:
        raise ValueError(f"wrong: the mask is {wrong.shape}, the grid is {shape}")
    thin = min(1.6, max(0.5, 0.06 * cell))
    style: dict[str, Any] = {"fill": False, "ec": "white", "lw": thin, "gid": "wrong"}
    around = [withStroke(linewidth=2.5 * thin, foreground="black")]
    for row, column in np.argwhere(wrong):
        ax.add_patch(Rectangle((column - 0.4, row - 0.4), 0.8, 0.8, path_effects=around, **style))

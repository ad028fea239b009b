"""Rules about whole objects: their size, place and inside."""

import numpy as np

from arc_helpers.lm.procedural.registry import rule
from arc_helpers.lm.procedural.shapes import around, components, enclosed, unique_extreme
from arc_helpers.lm.procedural.world import Misfit, World


@rule("recolor_extreme", anywhere=True)
def recolor_extreme(world: World):
    """The largest (or smallest) object takes a new colour."""
    largest, color = world.chance(0.6), world.mark()

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        best = unique_extreme([o.size for o in found], largest)
        out = grid.copy()
        out[found[best].cells] = color
        return out

    return lambda: world.objects(2, 5), apply


@rule("keep_extreme", anywhere=True)
def keep_extreme(world: World):
    """Only the largest (or smallest) object stays."""
    largest = world.chance(0.6)

    def apply(grid: np.ndarray) -> np.ndarray:
        found = components(grid, world.background)
        best = unique_extreme([o.size for o in found], largest)
        out = np.full_like(grid, world.background)
        out[found[best].cells] = found[best].color
        return out

    return lambda: world.objects(2, 5), apply


@rule("fill_enclosed", anywhere=True)
def fill_enclosed(world: World):
    """Closed areas are filled with a colour."""
    color = world.mark()
    return lambda: world.objects(1, 4, world.ring), lambda grid: np.where(
        enclosed(grid, world.background), np.int8(color), grid
    )


@rule("outline", anywhere=True)
def outline(world: World):
    """All things get an outline, with or without corners."""
    color, corners = world.mark(), world.chance(0.6)
    return world.objects, lambda grid: np.where(
        around(grid != world.background, corners), np.int8(color), grid
    )


@rule("bounding_boxes", anywhere=True)
def bounding_boxes(world: World):
    """The free cells of every object's bounding box are filled."""
    color = world.mark()

    def apply(grid: np.ndarray) -> np.ndarray:
        out = grid.copy()
        for o in components(grid, world.background):
            view = out[o.box]
            view[view == world.background] = color
        return out

    return world.objects, apply


@rule("hollow", anywhere=True)
def hollow(world: World):
    """The inside of solid boxes is emptied (or takes a colour)."""
    color = world.mark() if world.chance(0.5) else world.background

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = np.pad(grid != world.background, 1)
        inside = solid[1:-1, 1:-1].copy()
        for dy in (0, 1, 2):
            for dx in (0, 1, 2):
                inside &= solid[dy : dy + grid.shape[0], dx : dx + grid.shape[1]]
        return np.where(inside, np.int8(color), grid)

    return lambda: world.objects(1, 3, lambda: world.box(3, 6)), apply


@rule("denoise", anywhere=True)
def denoise(world: World):
    """Single cells vanish, larger objects stay."""

    def sample() -> np.ndarray:
        grid = world.objects(1, 3, lambda: world.box(2, 5))
        world.place(grid, [np.ones((1, 1), bool)] * world.integer(2, 8))
        return grid

    def apply(grid: np.ndarray) -> np.ndarray:
        solid = grid != world.background
        near = np.pad(solid, 1)
        near = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
        if not (solid & near).any():
            raise Misfit("only noise")
        return np.where(solid & near, grid, np.int8(world.background))

    return sample, apply

"""Rules that change colours and leave shapes where they are."""

import numpy as np

from arc_helpers.rules.registry import Drawn, rule
from arc_helpers.rules.world import Misfit, World


def counts(grid: np.ndarray, background: int) -> np.ndarray:
    """How often each colour occurs, the background not counted."""
    n = np.bincount(grid.ravel(), minlength=10)
    n[background] = 0
    return n


@rule("recolor", anywhere=True)
def recolor(world: World) -> Drawn:
    """Every colour becomes another fixed one."""
    world.narrow(3)
    table = np.arange(10, dtype=np.int8)
    for color in list(world.pool):
        table[color] = world.mark()
    return world.scene, lambda grid: table[grid]


@rule("swap_colors", anywhere=True)
def swap_colors(world: World) -> Drawn:
    """Two colours change places."""
    world.narrow(4)
    a, b = world.colors(2)
    table = np.arange(10, dtype=np.int8)
    table[[a, b]] = b, a

    def apply(grid: np.ndarray) -> np.ndarray:
        if not ((grid == a).any() and (grid == b).any()):
            raise Misfit("one of the colours is missing")
        return table[grid]

    return world.scene, apply


@rule("keep_color", anywhere=True)
def keep_color(world: World) -> Drawn:
    """One colour stays, all others become background."""
    world.narrow(4)
    keep = world.colors(2)[0]

    def apply(grid: np.ndarray) -> np.ndarray:
        out = np.where(grid == keep, grid, np.int8(world.background))
        if not (grid == keep).any():
            raise Misfit("nothing stays")
        return out

    return world.scene, apply


@rule("remove_color", anywhere=True)
def remove_color(world: World) -> Drawn:
    """One colour becomes background."""
    world.narrow(4)
    gone = world.colors(2)[0]
    return world.scene, lambda grid: np.where(grid == gone, np.int8(world.background), grid)


@rule("paint_all", anywhere=True)
def paint_all(world: World) -> Drawn:
    """All that is not background takes one colour."""
    color = world.mark()
    world.widen(2)
    return world.scene, lambda grid: np.where(grid == world.background, grid, np.int8(color))


@rule("change_background", anywhere=True)
def change_background(world: World) -> Drawn:
    """The background takes another colour."""
    color = world.mark()
    return world.scene, lambda grid: np.where(grid == world.background, np.int8(color), grid)


@rule("majority_wins", anywhere=True)
def majority_wins(world: World) -> Drawn:
    """All that is not background takes the most (or least) frequent colour."""
    most = world.chance(0.6)
    world.widen(3)

    def apply(grid: np.ndarray) -> np.ndarray:
        n = counts(grid, world.background)
        present = np.flatnonzero(n)
        order = present[np.argsort(n[present], kind="stable")]
        if len(order) < 2 or n[order[-1]] == n[order[-2]] or n[order[0]] == n[order[1]]:
            raise Misfit("a tie")
        return np.where(grid == world.background, grid, np.int8(order[-1] if most else order[0]))

    return world.scene, apply


@rule("negative", anywhere=True)
def negative(world: World) -> Drawn:
    """Background and the only colour change places."""
    world.narrow(1)

    def apply(grid: np.ndarray) -> np.ndarray:
        present = np.flatnonzero(counts(grid, world.background))
        if len(present) != 1:
            raise Misfit("not two colours")
        return np.where(grid == world.background, np.int8(present[0]), np.int8(world.background))

    return world.scene, apply


@rule("color_by_parity", anywhere=True)
def color_by_parity(world: World) -> Drawn:
    """Coloured cells take one of two colours by the parity of their row, column or diagonal."""
    a, b, kind = world.mark(), world.mark(), world.choice("rcd")

    def apply(grid: np.ndarray) -> np.ndarray:
        y, x = np.ogrid[: grid.shape[0], : grid.shape[1]]
        odd = {"r": y + 0 * x, "c": x + 0 * y, "d": y + x}[kind] % 2 == 1
        return np.where(grid == world.background, grid, np.where(odd, b, a).astype(np.int8))

    return world.scene, apply

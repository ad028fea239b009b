"""The world of one task: its background, colours and sides, and the scenes that can be drawn in it."""

from collections.abc import Callable, Sequence
from random import Random

import numpy as np


class Misfit(ValueError):
    """A rule met a grid it has no answer for; the generator draws another one."""


class World:
    """What all pairs of a task share, and a source of random scenes.

    `pool` are the colours that inputs are painted with; `mark()` hands out colours that no input has.
    """

    def __init__(self, rng: np.random.Generator, max_side: int = 12) -> None:
        self.rng = rng
        self.random = Random(int(rng.integers(1 << 62)))
        self.max_side = self.limit = max_side
        colors = self.random.sample(range(10), 10)
        self.background = 0 if self.random.random() < 0.85 else colors[0]
        colors.remove(self.background)
        n = self.random.choice((1, 2, 2, 3, 3, 4, 4, 5, 6))
        self.pool, self.fresh = colors[:n], colors[n:]
        self.fixed = self.random.random() < 0.4  # all inputs of one shape
        self.square = self.random.random() < 0.3
        self.high = self.random.randint(min(6, max_side), max_side)
        self._shapes: dict[tuple[int, int], tuple[int, int]] = {}
        self._scene: Callable[[], np.ndarray] | None = None

    # --- numbers, colours, sides -------------------------------------------------------------------

    def integer(self, low: int, high: int) -> int:
        """A whole number in low..high, both ends included."""
        return self.random.randint(low, max(low, high))

    def choice(self, options: Sequence):
        """One of the options."""
        return self.random.choice(options)

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.random.random() < p

    def color(self) -> int:
        """A colour of the pool."""
        return self.random.choice(self.pool)

    def colors(self, n: int) -> list[int]:
        """n distinct colours of the pool, which grows when it is too small."""
        self.widen(n)
        return self.random.sample(self.pool, n)

    def widen(self, n: int) -> None:
        """Make the pool hold at least n colours."""
        while len(self.pool) < n:
            self.pool.append(self.mark())

    def narrow(self, n: int) -> None:
        """Make the pool hold at most n colours."""
        self.fresh += self.pool[n:]
        del self.pool[n:]

    def mark(self) -> int:
        """A colour that no input has, for what the rule draws."""
        if not self.fresh:
            raise Misfit("out of colours")
        return self.fresh.pop()

    def reserve(self, factor: int) -> None:
        """Keep inputs so small that an output `factor` times as long still fits."""
        self.limit //= factor

    def shape(self, least: int = 3, most: int | None = None) -> tuple[int, int]:
        """Height and width of an input, each in least..most; the same in each pair of a fixed-shape task."""
        least, most = max(1, least), min(most or self.high, self.limit)
        if most < least:
            if self.limit < least:
                raise Misfit(f"sides of {least} do not fit")
            most = least
        if self.fixed and (least, most) in self._shapes:
            return self._shapes[least, most]
        height = self.random.randint(least, most)
        shape = height, height if self.square else self.random.randint(least, most)
        self._shapes[least, most] = shape
        return shape

    # --- scenes ------------------------------------------------------------------------------------

    def blank(self, shape: tuple[int, int] | None = None) -> np.ndarray:
        """A grid of background."""
        return np.full(shape or self.shape(), self.background, np.int8)

    def full(self, shape: tuple[int, int] | None = None) -> np.ndarray:
        """Every cell a colour of the pool or background."""
        choices = np.array([self.background, *self.pool], np.int8)
        return choices[self.rng.integers(0, len(choices), shape or self.shape(2, min(6, self.high)))]

    def speckle(self, shape: tuple[int, int] | None = None, density: float | None = None) -> np.ndarray:
        """Single coloured cells on background."""
        shape = shape or self.shape(min(3, self.limit))
        density = density or self.random.uniform(0.08, 0.35)
        pool = np.array(self.pool, np.int8)
        grid = pool[self.rng.integers(0, len(pool), shape)]
        grid[self.rng.random(shape) >= density] = self.background
        return grid

    def blob(self, least: int = 2, most: int = 4) -> np.ndarray:
        """A random connected mask, sides in 1..most, at least `least` cells, trimmed."""
        h, w = self.random.randint(1, most), self.random.randint(1, most)
        if h * w < least:
            h = w = max(2, min(most, least))
        goal = self.random.randint(least, max(least, h * w))
        y, x = self.random.randrange(h), self.random.randrange(w)
        cells, edge = {(y, x)}, [(y, x)]
        while len(cells) < goal and edge:
            y, x = edge[self.random.randrange(len(edge))]
            near = [
                c
                for c in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                if c not in cells and 0 <= c[0] < h and 0 <= c[1] < w
            ]
            if not near:
                edge.remove((y, x))
                continue
            cell = self.random.choice(near)
            cells.add(cell)
            edge.append(cell)
        ys, xs = [c[0] for c in cells], [c[1] for c in cells]
        top, left = min(ys), min(xs)
        mask = np.zeros((max(ys) - top + 1, max(xs) - left + 1), bool)
        mask[[y - top for y in ys], [x - left for x in xs]] = True
        return mask

    def box(self, least: int = 2, most: int = 5) -> np.ndarray:
        """A full rectangle as a mask."""
        return np.ones((self.integer(least, most), self.integer(least, most)), bool)

    def ring(self, least: int = 3, most: int = 6) -> np.ndarray:
        """A rectangle's outline as a mask."""
        mask = self.box(least, most)
        mask[1:-1, 1:-1] = False
        return mask

    def sprite(self, least: int = 3, most: int = 3, density: float = 0.7) -> np.ndarray:
        """A small picture of several colours, trimmed."""
        while True:
            grid = self.speckle((self.integer(least, most), self.integer(least, most)), density)
            solid = grid != self.background
            if solid.any(0).all() and solid.any(1).all():
                return grid

    def place(
        self,
        grid: np.ndarray,
        stamps: Sequence[np.ndarray],
        colors: Sequence[int] | None = None,
        gap: int = 1,
    ) -> int:
        """Paint stamps (masks, or sprites with colours of their own) onto free places; how many fitted."""
        height, width = grid.shape
        taken = grid != self.background
        placed = 0
        for i, stamp in enumerate(stamps):
            h, w = stamp.shape
            if h > height or w > width:
                continue
            for _ in range(12):
                y, x = self.random.randint(0, height - h), self.random.randint(0, width - w)
                if not taken[max(0, y - gap) : y + h + gap, max(0, x - gap) : x + w + gap].any():
                    if stamp.dtype == bool:
                        solid, paint = stamp, colors[i] if colors else self.color()
                    else:
                        solid = stamp != self.background
                        paint = stamp[solid]
                    grid[y : y + h, x : x + w][solid] = paint
                    taken[y : y + h, x : x + w] |= solid
                    placed += 1
                    break
        return placed

    def objects(self, least: int = 1, most: int = 4, stamp: Callable[[], np.ndarray] | None = None) -> np.ndarray:
        """A few separate one-coloured objects on background."""
        grid = self.blank(self.shape(min(5, self.limit)))
        stamps = [(stamp or self.blob)() for _ in range(self.integer(least, most))]
        if self.place(grid, stamps) < least:
            raise Misfit("objects found no place")
        return grid

    def scene(self) -> np.ndarray:
        """A scene of the kind this task has: objects, boxes, speckles or a full grid."""
        if self._scene is None:
            boxes = lambda: self.objects(1, 4, self.box)  # noqa: E731
            rings = lambda: self.objects(1, 3, self.ring)  # noqa: E731
            self._scene = self.choice((self.objects, self.objects, boxes, rings, self.speckle, self.full))
        return self._scene()

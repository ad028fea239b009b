"""Augmentations that keep a task a task: 8 rotations and mirrors × colour permutation × order of pairs.

They form a group, so every Transform has an exact inverse: what a model predicts for an augmented task can
be carried back. Train and test pairs never change places.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arc_helpers.arc.grid import as_grid, short
from arc_helpers.arc.task import Pair, Task

_ALL_COLORS = tuple(range(10))
_NAME = re.compile(r"r([0-3])f([01])-c([0-9]{10})(?:-o([0-9]+(?:\.[0-9]+)*))?")


def rotate_grid(grid, k: int) -> np.ndarray:
    """Turn a grid by k quarter turns counterclockwise, k in 0..3 (else ValueError)."""
    if k not in (0, 1, 2, 3):
        raise ValueError(f"k: {short(k)}; allowed are 0, 1, 2, 3 quarter turns")
    return as_grid(np.rot90(as_grid(grid), k))


def flip_grid(grid, mode: Literal["none", "H", "V", "HV"]) -> np.ndarray:
    """Mirror a grid: "H" swaps left and right, "V" top and bottom, "HV" both; else ValueError."""
    if mode not in ("none", "H", "V", "HV"):
        raise ValueError(f"mode: {short(mode)}; allowed are 'none', 'H', 'V', 'HV'")
    rows, columns = (-1 if axis in mode else 1 for axis in "VH")
    return as_grid(as_grid(grid)[::rows, ::columns])


def permute_colors(grid, permutation: tuple[int, ...]) -> np.ndarray:
    """Replace every colour c by permutation[c]; ValueError unless it holds each of 0..9 once."""
    _check_colors(permutation)
    return as_grid(np.array(permutation, dtype=np.int8)[as_grid(grid)])


def color_permutation(rng_or_seed: np.random.Generator | int, keep_zero: bool = True) -> tuple[int, ...]:
    """A random permutation of the ten colours; `keep_zero` leaves 0, mostly the background, in place."""
    rng = np.random.default_rng(rng_or_seed)
    if keep_zero:
        return (0, *(1 + rng.permutation(9)).tolist())
    return tuple(rng.permutation(10).tolist())


def _check_colors(permutation: tuple[int, ...]) -> None:
    if sorted(permutation) != list(_ALL_COLORS):
        raise ValueError(f"colours: {short(permutation)}; allowed are permutations of 0 to 9")


@dataclass(frozen=True)
class Transform:
    """grid -> colours[rotate^k(flip(grid))]; `order` rearranges a task's demonstrations and nothing else.

    k: quarter turns counterclockwise. flip: mirror left-right first. colors: the new colour of each colour.
    order: new demonstration i is old demonstration order[i]; None (and the identity, which becomes None)
    leaves them. Equal transforms do the same thing. Raises ValueError on anything out of range.
    """

    k: int = 0
    flip: bool = False
    colors: tuple[int, ...] = _ALL_COLORS
    order: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.k not in (0, 1, 2, 3):
            raise ValueError(f"k: {short(self.k)}; allowed are 0, 1, 2, 3 quarter turns")
        _check_colors(self.colors)
        order = None if self.order is None else tuple(map(int, self.order))
        if order is not None and sorted(order) != list(range(len(order))):
            raise ValueError(f"order: {short(self.order)}; allowed are permutations of 0 to n-1")
        if order == tuple(range(len(order or ()))):
            order = None
        plain = {
            "k": int(self.k),
            "flip": bool(self.flip),
            "colors": tuple(map(int, self.colors)),
            "order": order,
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def grid(self, grid) -> np.ndarray:
        """The transformed grid, int8, read-only."""
        return permute_colors(rotate_grid(flip_grid(grid, "H" if self.flip else "none"), self.k), self.colors)

    def pair(self, pair: Pair) -> Pair:
        """The pair with both grids transformed."""
        return Pair(self.grid(pair.input), None if pair.output is None else self.grid(pair.output))

    def task(self, task: Task) -> Task:
        """The task with every pair transformed and the demonstrations in the new order; the id stays.

        Raises ValueError if `order` is for another number of demonstrations.
        """
        order = range(len(task.train)) if self.order is None else self.order
        if len(order) != len(task.train):
            raise ValueError(f"order: is for {len(order)} demonstrations, but task {task.id} has {len(task.train)}")
        train = tuple(self.pair(task.train[i]) for i in order)
        return Task(task.id, train, tuple(map(self.pair, task.test)), task.source)

    @property
    def inverse(self) -> "Transform":
        """The transform that undoes this one exactly."""
        # A turned mirror image is its own inverse: turning back and mirroring again is the same motion.
        k = self.k if self.flip else -self.k % 4
        return Transform(k, self.flip, _inverted(self.colors), self.order and _inverted(self.order))

    def compose(self, other: "Transform") -> "Transform":
        """self after other: self.compose(other).grid(g) equals self.grid(other.grid(g)).

        Raises ValueError if both have an order for different numbers of demonstrations.
        """
        # Moving a mirror past a rotation reverses the rotation.
        k = (self.k - other.k if self.flip else self.k + other.k) % 4
        colors = tuple(self.colors[color] for color in other.colors)
        if self.order is None or other.order is None:
            order = self.order or other.order
        elif len(self.order) == len(other.order):
            order = tuple(other.order[i] for i in self.order)
        else:
            raise ValueError(f"order: cannot compose {len(self.order)} with {len(other.order)} demonstrations")
        return Transform(k, self.flip != other.flip, colors, order)

    @property
    def name(self) -> str:
        """A stable name that is fit for a file name, such as r1f0-c0123456789-o210."""
        colors = "".join(map(str, self.colors))
        base = f"r{self.k}f{int(self.flip)}-c{colors}"
        if self.order is None:
            return base
        # Single digits are only unambiguous up to ten demonstrations.
        return f"{base}-o{('.' if len(self.order) > 10 else '').join(map(str, self.order))}"

    @classmethod
    def from_name(cls, name: str) -> "Transform":
        """The transform of that `name`; ValueError if there is none."""
        match = _NAME.fullmatch(name)
        if not match:
            raise ValueError(f"name: {short(name)}; expected the form r1f0-c0123456789-o210")
        k, flip, colors, order = match.groups()
        if order is not None:
            order = tuple(map(int, order.split(".") if "." in order else order))
        return cls(int(k), flip == "1", tuple(map(int, colors)), order)


def _inverted(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(permutation.index(i) for i in range(len(permutation)))


DIHEDRAL: tuple[Transform, ...] = tuple(Transform(k, flip) for flip in (False, True) for k in range(4))


def choose_views(
    task_id: str, n: int, seed: int = 0, *, colors: bool = True, demonstrations: int = 0
) -> list[Transform]:
    """n views to ask a task in, by its name: itself, the other symmetries, then symmetries with new colours.

    colors: False allows no new colours, and ValueError is raised for more than the 8 symmetries. demonstrations: how
    many to put in a new order in every view but the first; 0 leaves their order.
    """
    if not colors and n > len(DIHEDRAL):
        raise ValueError(f"views = {n}: without colour permutations there are {len(DIHEDRAL)}")
    rng, views = np.random.default_rng(zlib.crc32(f"{task_id}/{seed}".encode())), list(DIHEDRAL[:1])
    for number in range(1, n):
        spot = DIHEDRAL[number % len(DIHEDRAL)]
        recolored = spot.colors if number < len(DIHEDRAL) else color_permutation(rng)
        order = tuple(rng.permutation(demonstrations).tolist()) if demonstrations else None
        views.append(Transform(spot.k, spot.flip, recolored, order))
    return views

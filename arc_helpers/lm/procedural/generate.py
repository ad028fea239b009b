"""From rules to tasks: draw one or two rules, then pairs that show them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from arc_helpers.lm.procedural.registry import RULES, Rule
from arc_helpers.lm.procedural.world import Misfit, World

if TYPE_CHECKING:
    from arc_helpers.arc.task import Pair, Task

RawPair = tuple[np.ndarray, np.ndarray]
TRIES = 6  # inputs a pair may take before the task is given up


def generate_pairs(
    rng: np.random.Generator, max_side: int = 12, n_pairs: int = 5, compose: float = 0.3
) -> tuple[str, list[RawPair]]:
    """One task as its name and raw (input, output) int8 arrays; two rules with probability `compose`."""
    rules, seconds = list(RULES.values()), [r for r in RULES.values() if r.anywhere]
    while True:
        chain = [rules[rng.integers(len(rules))]]
        if rng.random() < compose:
            chain.append(seconds[rng.integers(len(seconds))])
            if chain[0] is chain[1]:
                continue
        pairs = draw_pairs(chain, rng, max_side, n_pairs)
        if pairs is not None:
            return "+".join(r.name for r in chain), pairs


def draw_pairs(
    chain: list[Rule], rng: np.random.Generator, max_side: int = 12, n_pairs: int = 5
) -> list[RawPair] | None:
    """Pairs of one task that follow the rules one after the other; None where the latents do not show."""
    world = World(rng, max_side)
    try:
        drawn = [r.draw(world) for r in chain]
    except Misfit:
        return None
    sample, applies = drawn[0][0], [apply for _, apply in drawn]
    pairs: list[RawPair] = []
    for _ in range(n_pairs * TRIES if n_pairs > 1 else 4 * TRIES):
        if len(pairs) == n_pairs:
            break
        try:
            grid = sample()
            steps = [grid]
            for apply in applies:
                steps.append(apply(steps[-1]))
        except Misfit:
            continue
        if all(_shows(a, b, max_side) for a, b in pairwise(steps)) and not any(
            _same(grid, other) for other, _ in pairs
        ):
            pairs.append((grid, np.ascontiguousarray(steps[-1], np.int8)))
    if len(pairs) < n_pairs or not _inferable(pairs):
        return None
    return pairs


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _shows(before: np.ndarray, after: np.ndarray, max_side: int) -> bool:
    """A step fits the grid's bounds and changes something."""
    return min(after.shape) > 0 and max(after.shape) <= max_side and not _same(before, after)


def _colors(grid: np.ndarray) -> int:
    """The colours of a grid as bits."""
    return int(np.bitwise_or.reduce(1 << grid.ravel().astype(np.int64)))


def _inferable(pairs: list[RawPair]) -> bool:
    """Answers differ, the last is not its input, and each colour that a rule brings in is shown twice."""
    if len(pairs) == 1:
        return not _same(*pairs[0])
    if all(_same(pairs[0][1], out) for _, out in pairs[1:]) or _same(*pairs[-1]):
        return False
    inputs, outputs = [_colors(a) for a, _ in pairs], [_colors(b) for _, b in pairs]
    for i, (a, b) in enumerate(zip(inputs, outputs, strict=True)):
        shown = 0
        for j, other in enumerate(outputs):
            shown |= other if j != i else 0
        if b & ~a & ~shown:
            return False
    return True


def generate_task(
    rng: np.random.Generator, max_side: int = 12, n_pairs: int = 5, compose: float = 0.3
) -> "Task":
    """One task whose `source` names its rules, such as "gravity+recolor"; the last pair is the test."""
    from arc_helpers.arc.task import Pair, Task

    name, raw = generate_pairs(rng, max_side, n_pairs, compose)
    pairs = tuple(Pair(a, b) for a, b in raw)
    identity = f"procedural-{int(rng.integers(1 << 40)):010x}"
    return Task(id=identity, train=pairs[:-1], test=pairs[-1:], source=name)


def gallery(rng: np.random.Generator, max_side: int = 12) -> Iterator[tuple[str, "Pair"]]:
    """One example of every rule, as (name, pair)."""
    from arc_helpers.arc.task import Pair

    for name, entry in RULES.items():
        pairs = None
        while pairs is None:
            pairs = draw_pairs([entry], rng, max_side, 3)
        yield name, Pair(*pairs[0])

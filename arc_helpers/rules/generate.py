"""From rules to tasks: draw one or two rules, then pairs that show them."""

from collections.abc import Iterator, Sequence

import numpy as np

from arc_helpers.arc import Pair, Task
from arc_helpers.rules.registry import RULES, Apply, Rule
from arc_helpers.rules.world import Misfit, World

RawPair = tuple[np.ndarray, np.ndarray]
TRIES = 6  # inputs a pair may take, on average, before the task is given up
ROUNDS = 1000  # tasks that may be given up before the arguments are to blame


def generate_pairs(
    rng: np.random.Generator, max_side: int = 12, n_pairs: int = 5, compose: float = 0.3
) -> tuple[str, list[RawPair]]:
    """One task as its name and raw (input, output) int8 arrays; two rules with probability `compose`."""
    rules, seconds = list(RULES.values()), [r for r in RULES.values() if r.anywhere]
    composed = rng.random() < compose
    for _ in range(ROUNDS):
        chain = [rules[rng.integers(len(rules))]]
        if composed:
            chain.append(seconds[rng.integers(len(seconds))])
            if chain[0] is chain[1]:
                continue
        pairs = draw_pairs(chain, rng, max_side, n_pairs)
        if pairs is not None:
            return "+".join(r.name for r in chain), pairs
    raise ValueError(f"no task with {n_pairs} pairs fits sides up to {max_side}")


def draw_pairs(
    chain: Sequence[Rule], rng: np.random.Generator, max_side: int = 12, n_pairs: int = 5
) -> list[RawPair] | None:
    """Pairs of one task that follow one or two rules in turn; None where the latents do not show."""
    world = World(rng, max_side)
    try:
        drawn = [r.draw(world) for r in chain]
    except Misfit:
        return None
    sample, applies = drawn[0][0], [apply for _, apply in drawn]
    pairs: list[RawPair] = []
    for _ in range(TRIES * max(n_pairs, 4)):
        if len(pairs) == n_pairs:
            break
        try:
            grid = sample()
            out = _answer(grid, applies, world)
        except Misfit:
            continue
        if not any(_same(grid, other) for other, _ in pairs):
            pairs.append((np.ascontiguousarray(grid, np.int8), np.ascontiguousarray(out, np.int8)))
    return pairs if len(pairs) == n_pairs and _inferable(pairs) else None


def _answer(grid: np.ndarray, applies: Sequence[Apply], world: World) -> np.ndarray:
    """The output of an input; Misfit unless every step fits, changes something and matters in the end."""
    if max(grid.shape) > world.max_side:
        raise Misfit("the input is out of bounds")
    before = grid
    for step, apply in enumerate(applies):
        if step and not (before == world.background).any():
            raise Misfit("the second rule would see no background")
        after = apply(before)
        if not after.size or max(after.shape) > world.max_side or _same(before, after):
            raise Misfit("out of bounds, or nothing changes")
        if (before == before[0, 0]).all() or (after.size > 1 and (after == world.background).all()):
            raise Misfit("a grid of one colour")
        before = after
    if len(applies) > 1:
        try:
            alone = applies[-1](grid)
        except Misfit:
            return after
        if _same(alone, after):
            raise Misfit("the first rule does not show")
    return after


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _colors(grid: np.ndarray) -> int:
    """The colours of a grid as bits."""
    return int(np.bitwise_or.reduce(1 << grid.ravel().astype(np.int64)))


def _inferable(pairs: list[RawPair]) -> bool:
    """Answers differ, and each colour that a rule brings in is shown by at least two pairs."""
    if len(pairs) == 1:
        return True
    if all(_same(pairs[0][1], out) for _, out in pairs[1:]):
        return False
    inputs, outputs = [_colors(a) for a, _ in pairs], [_colors(b) for _, b in pairs]
    once = twice = 0
    for bits in outputs:
        twice |= once & bits
        once |= bits
    return not any(b & ~a & ~twice for a, b in zip(inputs, outputs, strict=True))


def gallery(rng: np.random.Generator, max_side: int = 12) -> Iterator[Task]:
    """A task of every rule, called by its name: two demonstrations and a test input with its answer."""
    for name, entry in RULES.items():
        drawn = (draw_pairs([entry], rng, max_side, 3) for _ in range(ROUNDS))
        pairs = next((p for p in drawn if p is not None), None)
        if pairs is None:
            raise ValueError(f"rule {name} does not fit sides up to {max_side}")
        first, second, last = (Pair(*pair) for pair in pairs)
        yield Task(name, (first, second), (last,), source="procedural")

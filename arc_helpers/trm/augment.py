"""The augmentations of one task, each different from the others: 8 symmetries × permutations of the colours 1 to 9."""

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from arc_helpers.arc import DIHEDRAL, Pair, Transform

#: besides the task itself; 0, mostly the background, stays as it is
MOST_AUGMENTATIONS = 8 * math.factorial(9) - 1
_FEW = 20_000  # so many are listed, shuffled and compared; of more it is quicker to draw


def distinct_transforms(pairs: Sequence[Pair], n: int, rng: np.random.Generator) -> list[Transform]:
    """The identity and up to n other transforms, no two of which make the same task; all there are, if fewer.

    Compared by the augmented grids themselves: a symmetric task has fewer than it seems.
    """
    if n == 0:
        return [DIHEDRAL[0]]
    looks = [_look(pairs, transform) for transform in DIHEDRAL]
    used = sorted({int(c) for p in pairs for g in (p.input, p.output) for c in np.unique(g)} - {0})
    candidates = _listed(used, rng) if 8 * math.perm(9, len(used)) <= _FEW else _drawn(rng)
    found = {_key(looks[0], range(10)): DIHEDRAL[0]}
    for number, colors in candidates:
        if len(found) > n:
            break
        transform = DIHEDRAL[number]
        found.setdefault(_key(looks[number], colors), Transform(transform.k, transform.flip, tuple(colors)))
    return list(found.values())


def _look(pairs: Sequence[Pair], transform: Transform) -> tuple[str, np.ndarray]:
    grids = [transform.grid(grid) for p in pairs for grid in (p.input, p.output)]
    return str([grid.shape for grid in grids]), np.concatenate([grid.ravel() for grid in grids])


def _key(look: tuple[str, np.ndarray], colors: Sequence[int]) -> tuple[str, bytes]:
    shapes, cells = look
    return shapes, np.array(colors, dtype=np.int8)[cells].tobytes()


def _listed(used: list[int], rng: np.random.Generator) -> Iterator[tuple[int, list[int]]]:
    """Every symmetry with every choice of new colours for those that occur, in random order."""
    every = [(s, targets) for s in range(8) for targets in permutations(range(1, 10), len(used))]
    for i in rng.permutation(len(every)):
        number, targets = every[i]
        idle = [c for c in range(1, 10) if c not in used]
        places = [c for c in range(1, 10) if c not in targets]
        moved = dict(zip([0, *used, *idle], [0, *targets, *places], strict=True))
        yield number, [moved[c] for c in range(10)]


def _drawn(rng: np.random.Generator) -> Iterator[tuple[int, list[int]]]:
    while True:
        yield int(rng.integers(8)), [0, *(1 + rng.permutation(9)).tolist()]

"""Pseudo-tasks: new puzzles made from a task's own demonstrations, to train on at test time."""

import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from arc_helpers.arc.augment import DIHEDRAL, Transform
from arc_helpers.arc.task import Task

# An exhausted space is recognised by walking around it once; a larger one is never exhausted in practice.
_MAX_STEPS = 10_000


@dataclass(frozen=True)
class PseudoTask:
    """A leave-one-out task: demonstration `held_out` is the query, with its output; the others demonstrate.

    `task` is already transformed; `transform.inverse.task(task)` gives the original grids back.
    """

    task: Task
    transform: Transform
    held_out: int
    name: str


def build_pseudo_tasks(
    task: Task, m: int, seed: int = 0, *, keep_zero: bool = True, dihedral: bool = True, colors: bool = True
) -> list[PseudoTask]:
    """m pseudo-tasks, holding out each demonstration in turn, each under a random Transform.

    The test pairs are never used. Deterministic in (task, seed), and the first ones do not depend on m. All
    differ while different ones exist, then the next round begins. A task with one demonstration gives queries
    without demonstrations. `keep_zero`: colour 0 stays 0. `dihedral`: rotate and mirror, too. `colors`: permute
    the colours, too. Raises ValueError if m < 1 or the task has no demonstrations.
    """
    if m < 1:
        raise ValueError(f"m: {m}; allowed are whole numbers from 1")
    if not task.train:
        raise ValueError(f"task {task.id}: there are no demonstrations to make pseudo-tasks from")
    space = _TransformSpace(task, keep_zero, dihedral, colors)
    seen: set[Task] = set()
    pseudo_tasks = []
    for i in range(m):
        # crc32, because Python salts its own hash() anew in every process.
        rng = random.Random(zlib.crc32(f"{task.id}:{seed}:{i}".encode()))
        for turn in range(i, i + len(task.train)):
            held_out = turn % len(task.train)
            transform, pseudo = _draw(_leave_one_out(task, held_out), space, rng, seen)
            if pseudo not in seen:
                break
        else:
            seen.clear()  # every different one has been used: the next round begins
        seen.add(pseudo)
        name = f"{task.id}-p{i}-h{held_out}-{transform.name}"
        pseudo_tasks.append(PseudoTask(pseudo, transform, held_out, name))
    return pseudo_tasks


def _leave_one_out(task: Task, held_out: int) -> Task:
    rest = task.train[:held_out] + task.train[held_out + 1 :]
    return Task(task.id, rest, (task.train[held_out],), task.source)


def _draw(task: Task, space: "_TransformSpace", rng: random.Random, seen: set[Task]) -> tuple[Transform, Task]:
    """A random transform and what it makes of the task: something unseen if there is any."""
    start = rng.randrange(space.size)
    for step in range(min(space.size, _MAX_STEPS)):
        transform = space.transform((start + step) % space.size)
        result = transform.task(task)
        if result not in seen:
            break
    return transform, result


class _TransformSpace:
    """All transforms that can matter to a leave-one-out task, numbered from 0 to size - 1.

    Only the colours in use are permuted, else most numbers would name the same pseudo-task. Rotations are the
    lowest digit and orders the highest, so that a step to the next number changes as much as it can.
    """

    def __init__(self, task: Task, keep_zero: bool, dihedral: bool, colors: bool):
        grids = [grid for pair in task.train for grid in (pair.input, pair.output)]
        used = {color for grid in grids for color in grid.ravel().tolist()}
        self.fixed = (0,) if keep_zero else ()
        self.used = sorted(used - set(self.fixed)) if colors else []
        self.n_rest = len(task.train) - 1
        self.spots = DIHEDRAL if dihedral else DIHEDRAL[:1]
        n_colors = 10 - len(self.fixed)
        self.size = len(self.spots) * math.perm(n_colors, len(self.used)) * math.factorial(self.n_rest)

    def transform(self, number: int) -> Transform:
        number, place = divmod(number, len(self.spots))
        movable = [color for color in range(10) if color not in self.fixed]
        targets, number = _arrangement(movable, len(self.used), number)
        order, _ = _arrangement(range(self.n_rest), self.n_rest, number)
        # Colours that do not occur take the remaining places, to make it a permutation of all ten.
        idle = [color for color in movable if color not in self.used]
        places = [color for color in movable if color not in targets]
        colors = dict(zip([*self.fixed, *self.used, *idle], [*self.fixed, *targets, *places], strict=True))
        spot = self.spots[place]
        return Transform(spot.k, spot.flip, tuple(colors[color] for color in range(10)), tuple(order))


def _arrangement(items: Sequence[int], length: int, number: int) -> tuple[list[int], int]:
    """The arrangement of `length` items that the lowest digits of `number` name, and the other digits."""
    items, chosen = list(items), []
    for _ in range(length):
        number, place = divmod(number, len(items))
        chosen.append(items.pop(place))
    return chosen, number

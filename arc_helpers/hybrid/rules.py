"""Small tasks with known rules, for one question: can what a language model reads replace a task's identity?

Rule families come from `rules`. Families are split by a checksum of their name, three of four to learn from.
Three sets are asked, from easy to hard: new inputs of the tasks that were learned (`seen`), new tasks of the families
that were learned, in other colours and with other particulars (`variants`), and families never learned (`unseen`).
"""

import zlib
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Pair, Task
from arc_helpers.hybrid.questions import Example, examples_of
from arc_helpers.rules import RULES, draw_pairs

KINDS = ("colors", "geometry", "motion")  # modules of rules: rules that a few core-minutes can learn
ROUNDS = 100  # draws of a family before it counts as not fitting


@dataclass(frozen=True)
class RuleSets:
    """Examples by set. `train` and `seen` share tasks; no input occurs in both. `rows`: learned tasks, and blank."""

    train: list[Example]
    seen: list[Example]
    variants: list[Example]
    unseen: list[Example]
    learned: tuple[str, ...]  # families
    held_out: tuple[str, ...]
    rows: int


def split_families(names: list[str]) -> tuple[list[str], list[str]]:
    """(learned, held out): by a checksum, so that nobody chooses."""
    held_out = [name for name in names if zlib.crc32(name.encode()) % 4 == 0]
    return [name for name in names if name not in held_out], held_out


def same_size_families(side: int, pairs: int = 10) -> list[str]:
    """Families whose outputs are as large as their inputs most of their tasks with `pairs` pairs that fit a side."""
    fitting = []
    for name in [name for name, rule in RULES.items() if rule.draw.__module__.rsplit(".", 1)[-1] in KINDS]:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        drawn = [p for p in (draw_pairs([RULES[name]], rng, side, pairs) for _ in range(8)) if p is not None]
        if len(drawn) >= 5 and all(a.shape == b.shape for task in drawn for a, b in task):
            fitting.append(name)
    return fitting


def draw_rule_sets(
    seed: int, *, side: int = 5, tasks: int = 400, asked: int = 60, demonstrations: int = 3, questions: int = 6
) -> RuleSets:
    """Draw the sets. tasks: learned ones; asked: tasks of each test set; questions: of each learned task, in training.

    Every test task asks one question. Families take turns, so each has about as many tasks. ValueError where none fit.
    """
    learned, held_out = split_families(same_size_families(side, demonstrations + questions + 1))
    if not learned or not held_out:
        raise ValueError(f"side = {side}: no rule family fits grids of that side")
    rng = np.random.default_rng(seed)
    train, seen = [], []
    for row in range(1, tasks + 1):
        task = _draw(learned[(row - 1) % len(learned)], f"learned-{row}", rng, side, demonstrations, questions + 1)
        *examples, last = examples_of(task, row)
        train += examples
        seen.append(last)
    new = {
        name: [_draw(families[i % len(families)], f"{name}-{i}", rng, side, demonstrations, 1) for i in range(asked)]
        for name, families in (("variants", learned), ("unseen", held_out))
    }
    rng.shuffle(seen)
    variants, unseen = ([example for task in tasks for example in examples_of(task)] for tasks in new.values())
    return RuleSets(train, seen[:asked], variants, unseen, tuple(learned), tuple(held_out), tasks + 1)


def _draw(family: str, task_id: str, rng: np.random.Generator, side: int, demonstrations: int, questions: int) -> Task:
    for _ in range(ROUNDS):
        pairs = draw_pairs([RULES[family]], rng, side, demonstrations + questions)
        if pairs is not None:
            made = tuple(Pair(*pair) for pair in pairs)
            return Task(task_id, made[:demonstrations], made[demonstrations:], family)
    raise ValueError(f"{family}: no task with {demonstrations + questions} pairs fits grids of side {side}")

"""The table of rules: what a rule is, and the decorator that enters one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arc_helpers.rules.world import World

Sample = Callable[[], np.ndarray]  # draws one input
Apply = Callable[[np.ndarray], np.ndarray]  # answers it; no randomness of its own
Drawn = tuple[Sample, Apply]


@dataclass(frozen=True)
class Rule:
    """A family of tasks: `draw(world)` fixes one task's latents and returns its (sample, apply)."""

    name: str
    draw: Callable[[World], Drawn]
    anywhere: bool  # apply makes sense on any grid, so the rule may come second in a composition


RULES: dict[str, Rule] = {}


def rule(name: str, anywhere: bool = False) -> Callable[[Callable[[World], Drawn]], Callable[[World], Drawn]]:
    """Enter a function `(world) -> (sample, apply)` into RULES under a unique name."""

    def enter(draw: Callable[[World], Drawn]) -> Callable:
        if name in RULES:
            raise ValueError(f"two rules are called {name!r}")
        RULES[name] = Rule(name, draw, anywhere)
        return draw

    return enter

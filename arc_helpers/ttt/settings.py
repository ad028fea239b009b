"""The knobs of test-time training."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TTTSettings:
    """The knobs of test-time training, under their names in configs/*.yaml."""

    k: int = 4
    steps: int = 60
    num_pseudo: int = 16
    r: int = 16
    alpha: float = 32.0
    lr: float = 1e-2
    views: int = 8
    mode: str = "head"
    strategy: str = "greedy"  # how answers are decoded: greedy, beam or dfs (search.STRATEGIES)
    min_prob: float = 0.1  # dfs: every answer at least as likely
    select: str = "product"  # or "votes"
    colors: bool = True  # permute colours in the pseudo-tasks, too
    seed: int = 0


def settings_from(config: Mapping | object, seed: int) -> TTTSettings:
    """The settings that a notebook's resolved config asks for; what is no knob there keeps its default."""
    names = [name for name in TTTSettings.__dataclass_fields__ if name != "seed" and hasattr(config, name)]
    return TTTSettings(**{name: getattr(config, name) for name in names}, seed=seed)

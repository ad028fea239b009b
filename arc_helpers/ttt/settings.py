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
    use_rslora: bool = False  # scale by alpha / √r instead of alpha / r
    target_modules: str | None = None  # last parts of names, separated by commas; None: all linear layers
    lr: float = 1e-2
    patience: int | None = None  # steps without a new lowest loss after which an adapter has learned enough
    grouping: str = "length"  # which tasks train together (grouping.STRATEGIES)
    group_tokens: int | None = None  # padded tokens that a group may have
    tokens_at_once: int | None = None  # padded tokens that go through the model at once; None: what the memory holds
    activation_checkpointing: str = "auto"  # auto (where it is needed), on or off
    views: int = 8
    mode: str = "head"
    top_m: int | None = None  # layers that adapt in mode "top_m"; None: a quarter of them
    strategy: str = "greedy"  # how answers are decoded: greedy, beam or dfs (search.STRATEGIES)
    min_prob: float = 0.1  # dfs: every answer at least as likely
    select: str = "product"  # or "votes"
    form: str = "in_context"  # how a task is put: in_context, pairs or both (pools.FORMS)
    colors: bool = True  # permute colours in the pseudo-tasks, too
    cache_gib: float = 4.0  # memory for what the frozen layers compute (modes "head" and "top_m") …
    cache_disk_gib: float = 0.0  # … then disk; what fits neither is computed at every step
    seed: int = 0

    @property
    def targets(self) -> list[str] | None:
        """`target_modules` as names."""
        return [name for word in (self.target_modules or "").split(",") if (name := word.strip())] or None


def settings_from(config: Mapping | object, seed: int) -> TTTSettings:
    """The settings that a notebook's resolved config asks for; what is no knob there keeps its default."""
    names = [name for name in TTTSettings.__dataclass_fields__ if name != "seed" and hasattr(config, name)]
    return TTTSettings(**{name: getattr(config, name) for name in names}, seed=seed)

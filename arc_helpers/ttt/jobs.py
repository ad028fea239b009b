"""One adapter's training: what is asked for, where it stands, what came of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from torch import Tensor

from arc_helpers.ttt.cache import Example

LOWER = 1e-3  # share of a round's loss by which the next must be lower to count as learning


class SlotState(Enum):
    PENDING = "pending"  # nothing to train on
    ACTIVE = "active"
    FINISHED = "finished"
    FAILED = "failed"  # too many steps that were not finite; the slot is what it was before training
    NO_ROOM = "no room"  # its shortest sequences do not fit into the memory


@dataclass(frozen=True)
class Job:
    """One adapter's training. What it ends with depends on nothing else, but for the last bits that padding leaves."""

    name: str  # what the adapter belongs to
    pool: Sequence[Example]  # its pseudo-tasks, as `cache.prepare` returns them
    steps: int
    lr: float = 1e-2
    start: Tensor | None = None  # [P], first weights, a row of the bank; None: drawn from the name
    shorter: Callable[[int], Sequence[Example]] | None = None  # the pool in at most so many tokens a sequence


@dataclass(frozen=True)
class Trained:
    """What became of a job."""

    name: str
    weights: Tensor  # [P], a row of the bank, on the CPU
    losses: np.ndarray  # [n], nats a token, one a step that was run
    state: SlotState
    steps: int  # those that moved it
    notes: list[str] = field(default_factory=list)  # what was not done as asked


@dataclass
class JobRun:
    """A job in a slot."""

    index: int  # among the jobs
    job: Job
    draws: Iterator[Example]
    drawn: list[Example] | None = None  # for the next step
    start: Tensor | None = None  # [P], on the CPU
    aside: tuple[Tensor, ...] | None = None  # all there is of a slot, where it waits for one
    losses: list[float] = field(default_factory=list)
    moved: int = 0
    skips: int = 0
    lowest: float = np.inf  # mean loss of a round
    since: int = 0  # the step that ended it
    best: Tensor | None = None  # [P], the weights at it, on the CPU
    notes: list[str] = field(default_factory=list)
    state: SlotState = SlotState.ACTIVE

    def __post_init__(self):
        if not len(self.job.pool):
            self.state = SlotState.PENDING
        elif self.job.steps < 1:
            self.state = SlotState.FINISHED

    def examples(self, batch: int) -> list[Example]:
        """Those of the next step, however often it is tried."""
        if self.drawn is None:
            self.drawn = [next(self.draws) for _ in range(batch)]
        return self.drawn

    def stop(self) -> None:
        """There is no time left: end with what has been learned."""
        if self.state is SlotState.ACTIVE:
            self.state = SlotState.FINISHED
            self.notes.append(f"out of time: trained for {len(self.losses)} of {self.job.steps} steps")

    def look(self, patience: int, batch: int, weights: Tensor) -> None:
        """Take in the losses of a round that ends with this step; stop after `patience` steps without a new low.

        Losses of single examples do not compare: after an easy one first, nothing would ever be lower.
        """
        steps = -(-len(self.job.pool) // batch)  # of a round
        losses = np.array(self.losses[-steps:])
        if len(self.losses) % steps or not np.isfinite(losses).any():
            return
        mean, step = float(losses[np.isfinite(losses)].mean()), len(self.losses) - 1
        if mean < (1 - LOWER) * self.lowest:
            self.lowest, self.since, self.best = mean, step, weights.to("cpu", copy=True)
        elif step - self.since >= patience:
            self.state = SlotState.FINISHED


def endless(pool: Sequence[Example], seed: int) -> Iterator[Example]:
    """A pool without end, shuffled each time round."""
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(len(pool)):
            yield pool[i]

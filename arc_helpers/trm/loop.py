"""The loop of every training with a TRM in it, alone or joined: its length, its rate, what it tells and keeps, how it
goes on from a checkpoint, and what it refuses."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from arc_helpers.runs import CheckpointError, load_state, sealing, usable
from arc_helpers.trm.optim import OPTIMIZERS
from arc_helpers.trm.ranks import Ranks

#: what may change when a run goes on
RESUMABLE = {
    *("steps", "seconds", "micro_tokens", "compile"),
    *("log_every", "evaluate_every", "checkpoint_every", "keep_every"),
}


@dataclass(frozen=True)
class LoopConfig:
    """What every such training has. Its length is `steps`, or `seconds`, or whichever of both comes first.

    With `steps` alone a run is a function of its settings and seed: k steps and a resume equal a straight run.
    Only the fields in RESUMABLE may change when a run is resumed.
    """

    steps: int | None = 1000
    seconds: float | None = None  # training time, earlier parts of a resumed run included
    optimizer: str = "muon"
    lr: float = 1e-3  # of everything that has no rate of its own
    lr_matrices: float = 0.02  # matrices of TRM's blocks (Muon)
    lr_tasks: float = 1e-2  # the conditioning's tables
    weight_decay: float = 0.01
    warmup_steps: int = 50
    min_lr_ratio: float = 0.0  # where the cosine ends; 1.0 is the published run, which is constant
    max_grad_norm: float = 1.0  # 0 = no clipping, as published
    autocast: bool = False  # products in half precision
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 200
    checkpoint_every: int = 200
    keep_every: int = 0  # steps after which a checkpoint stays, as <name>_step_<step>.pt; 0 = none does

    POSITIVE: ClassVar[Sequence[str]] = (
        *("steps", "seconds", "lr", "log_every", "evaluate_every", "checkpoint_every"),
    )
    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {"optimizer": OPTIMIZERS}

    def __post_init__(self):
        if self.steps is None and self.seconds is None:
            raise ValueError(f"{type(self).__name__}: steps and seconds are both None; give the run a length")
        for name in self.POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} = {value}: must be > 0")
        for name, allowed in self.CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be one of {', '.join(allowed)}")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the run is over, 0 to 1."""
        parts = [step / self.steps if self.steps else 0.0, seconds / self.seconds if self.seconds else 0.0]
        return min(1.0, max(parts))

    def rate(self, step: int, seconds: float = 0.0, warmed: float = 0.0) -> float:
        """A linear warm-up, then a cosine to `min_lr_ratio`, as a factor of the peak; `step` counts from 0.

        warmed: progress of the run when the warm-up was over.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        rest = (self.progress(step, seconds) - warmed) / max(1 - warmed, 1e-9)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, rest))))


class TrainingLoop(ABC):
    """Trains a model to the end of the run, and goes on from its checkpoint where there is one.

    A kind of training says what one step learns (`_learn`), what is told of some steps (`_metrics`), and what must not
    change when a run goes on (`facts`). on_metrics gets a flat dict every `log_every` steps; evaluate gets `averaged`
    every `evaluate_every`, and its time does not count. clock: what `seconds` are measured by.
    """

    kind: ClassVar[str]  # for messages
    model: nn.Module
    config: LoopConfig

    def __init__(
        self,
        model: nn.Module,
        config: LoopConfig,
        optimizers: list[torch.optim.Optimizer],
        checkpoint: Path | None = None,
        on_metrics: Callable[[dict], None] = lambda metrics: None,
        evaluate: Callable[[Any], dict[str, float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.optimizers, self.clock, self.ranks = optimizers, clock, Ranks()
        self.checkpoint, self.on_metrics, self.evaluate = checkpoint, on_metrics, evaluate
        self.peak = [[group["lr"] for group in o.param_groups] for o in optimizers]
        self.parts: dict[str, Any] = {"model": model}  # what is saved by its own state_dict
        self.model, self.config, self._told = model, config, 0
        self.step, self.seconds, self.warmed = 0, 0.0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def averaged(self) -> Any:
        """The model to evaluate."""
        return self.model

    @property
    def progress(self) -> float:
        """How much of the run is over, 0 to 1."""
        return self.config.progress(self.step, self.seconds)

    def run(self, steps: int | None = None) -> dict[str, float]:
        """Train to the end, or `steps` further; returns step, seconds and the last metrics."""
        began, before, made, since = self.clock(), self.seconds, [], self.seconds
        stop = None if steps is None else self.step + steps
        self._tell()  # of the run's earlier parts
        self.model.train()
        while self.step != stop and self.progress < 1:
            made.append(self._one_step())
            # Ranks must agree on when the time is up, or one of them would wait for ever.
            self.seconds = self.ranks.agree(before + self.clock() - began)
            last = self.step == stop or self.progress >= 1
            if self._due("log_every", last):
                metrics = self._metrics(made, self.seconds - since)
                rate = self.config.rate(self.step, self.seconds, self.warmed)
                self.history.append({"step": self.step, **metrics, "lr_factor": rate, "seconds": self.seconds})
                if self.evaluate and self.ranks.first and self._due("evaluate_every", last):
                    paused = self.clock()
                    self.history[-1] |= self.evaluate(self.averaged)
                    began += self.clock() - paused  # looking costs no training time
                self._tell()
                made, since = [], self.seconds
            if self.checkpoint and self._due("checkpoint_every", last):
                self.save(self.checkpoint)
            if self.checkpoint and self._due("keep_every"):
                self.save(self.checkpoint.with_name(f"{self.checkpoint.stem}_step_{self.step}.pt"))
        self.model.eval()
        return {**(self.history[-1] if self.history else {}), "step": self.step, "seconds": self.seconds}

    def save(self, path: Path) -> None:
        """Write the whole state, atomically; with several ranks, the first writes what all of them hold."""
        every = self.ranks.gather(self._own())
        if self.ranks.first:
            state = {
                **{name: part.state_dict() for name, part in self.parts.items()},
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                **{"step": self.step, "seconds": self.seconds, "warmed": self.warmed, "history": self.history},
                "ranks": every,
                **self.facts(),
            }
            with sealing(path) as draft:
                torch.save(state, draft)
        self.ranks.wait()

    @abstractmethod
    def facts(self) -> dict[str, dict[str, Any]]:
        """{title: {name: value}} that a run which goes on must share with its checkpoint, RESUMABLE apart."""

    @abstractmethod
    def _learn(self) -> dict[str, Any]:
        """One step: forward, backward, update. What `_metrics` needs of it."""

    @abstractmethod
    def _metrics(self, made: list[dict[str, Any]], seconds: float) -> dict[str, float]:
        """What is told of the steps since the last time, which took so long."""

    def _own(self) -> dict[str, Any]:
        """What each process holds for itself."""
        return {}

    def _take(self, own: dict[str, Any]) -> None:
        """Take back what `_own` gave: of a loop that holds nothing, nothing."""
        assert not own

    def _one_step(self) -> dict[str, Any]:
        if self.step == self.config.warmup_steps:
            self.warmed = self.progress
        factor = self.config.rate(self.step, self.seconds, self.warmed)
        for optimizer, peaks in zip(self.optimizers, self.peak, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        made = self._learn()
        self.step += 1
        return made

    def _due(self, what: str, last: bool = False) -> bool:
        every = getattr(self.config, what)
        return last or bool(every and self.step % every == 0)

    def _tell(self) -> None:
        for metrics in self.history[self._told :] if self.ranks.first else ():
            self.on_metrics(metrics)
        self._told = len(self.history)

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one. CheckpointError, one line, where it is of another run."""
        if self.checkpoint is None or not usable(self.checkpoint):
            return
        state, facts = load_state(self.checkpoint), self.facts()
        missing = {*self.parts, *facts, "optimizers", "step", "ranks"} - set(state)
        if missing:
            raise CheckpointError(
                f"{self.checkpoint}: not a checkpoint of {self.kind}: it lacks {', '.join(sorted(missing))}"
            )
        for title, own in facts.items():
            for name, value in own.items():
                if name not in RESUMABLE and state[title].get(name) != value:
                    raise CheckpointError(
                        f"{self.checkpoint}: was made with {name} = {state[title].get(name)}, this run has {value}; "
                        "give the same value or start in another folder"
                    )
        if len(state["ranks"]) != self.ranks.size:
            raise CheckpointError(
                f"{self.checkpoint}: was made by {len(state['ranks'])} processes, this run has {self.ranks.size}; "
                "start as many"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.warmed = state["step"], state["seconds"], state["warmed"]
        self.history = state["history"]
        self._take(state["ranks"][self.ranks.rank])


def gradient_report(model: nn.Module) -> dict[str, str]:
    """{parameter: its gradient's norm as text, or "none", "zero", "not finite"} of everything that is trained."""

    def state(gradient: torch.Tensor | None) -> str:
        if gradient is None:
            return "none"
        if not gradient.isfinite().all():
            return "not finite"
        return f"{gradient.norm().item():.2e}" if gradient.any() else "zero"

    return {name: state(p.grad) for name, p in model.named_parameters() if p.requires_grad}


def check_gradients(model: nn.Module, finite: bool = True) -> None:
    """Raise RuntimeError, naming them, where trained parameters have no, a zero or, where asked, a non-finite gradient.

    A LoRA's first matrix may have a zero one: the second starts at zero, and has to move before anything reaches it.
    """
    wrong = {"none", "zero", "not finite"} if finite else {"none", "zero"}
    bad = {name: why for name, why in gradient_report(model).items() if why in wrong}
    bad = {name: why for name, why in bad.items() if not (why == "zero" and "lora_A" in name)}
    if bad:
        raise RuntimeError("gradients: " + ", ".join(f"{name} is {why}" for name, why in bad.items()))

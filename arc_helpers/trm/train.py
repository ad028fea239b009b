"""Training of TRM: one segment a step, rows refilled as they halt, EMA of all weights, full resume, DDP by torchrun."""

import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from arc_helpers.runs import CheckpointError, has_bfloat16, load_state, sealing, usable
from arc_helpers.trm.batch import Batch
from arc_helpers.trm.loss import segment_loss
from arc_helpers.trm.model import TRM, Carry, Segment, decide_halts
from arc_helpers.trm.optim import OPTIMIZERS, TABLES, build_optimizers
from arc_helpers.trm.ranks import Ranks


class Source(Protocol):
    """Where examples come from.

    shares: {cells of a canvas: its share of the training steps}. options: what must not change when a run is resumed.
    """

    shares: Mapping[int, float]
    options: Mapping[str, str | int | float | list]

    def draw(self, cells: int, n: int, generator: torch.Generator) -> Batch:
        """n labelled examples on canvases of so many cells."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Its length is `steps`, or `seconds`, or whichever of both comes first.

    With `steps` alone a run is a function of its settings and seed: k steps and a resume equal a straight run.
    Only the fields in RESUMABLE may change when a run is resumed.
    """

    steps: int | None = 1000
    seconds: float | None = None  # training time, earlier parts of a resumed run included
    batch_tokens: int = 4096  # positions a step and a process, prefixes included
    optimizer: str = "muon"
    lr: float = 1e-3  # embedding and heads; of everything but the tables without Muon
    lr_matrices: float = 0.02  # matrices of the blocks (Muon)
    lr_tasks: float = 1e-2  # the conditioning's tables
    tables_by: str = "adam"  # or signsgd: on the rows that were touched, without a state, as published
    weight_decay: float = 0.01
    weight_decay_tasks: float = 0.0  # of the tables
    warmup_steps: int = 50
    min_lr_ratio: float = 0.0  # where the cosine ends; 1.0 is the published run, which is constant
    max_grad_norm: float = 1.0  # 0 = no clipping, as published
    ema_decay: float = 0.999
    micro_tokens: int = 0  # positions that go through the model at once, gradients summed; 0 = all of a step's
    autocast: bool = False  # products in bfloat16; on a GPU that has none, in float16 with a loss scale
    compile: bool = False  # torch.compile of the blocks, one graph each
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 200
    checkpoint_every: int = 200
    keep_every: int = 0  # steps after which a checkpoint stays, as <name>_step_<step>.pt; 0 = none does

    def __post_init__(self):
        if self.steps is None and self.seconds is None:
            raise ValueError("TrainConfig: steps and seconds are both None; give the run a length")
        for name in ("steps", "seconds", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} = {value}: must be > 0")
        for name, allowed in (("optimizer", OPTIMIZERS), ("tables_by", TABLES)):
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


RESUMABLE = {
    *("steps", "seconds", "micro_tokens", "compile"),
    *("log_every", "evaluate_every", "checkpoint_every", "keep_every"),
}
RUNNING = ("rows", "loss", "cell_loss", "halt_loss", "exact", "halt_right", "finished", "finished_exact", "segments")


def check_gradient_flow(model: nn.Module, finite: bool = True) -> None:
    """Raise RuntimeError, naming them, if parameters have no, a zero or, where asked, a non-finite gradient."""
    bad = {
        name: "none" if p.grad is None else "zero" if not p.grad.any() else "not finite"
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.any() or (finite and not p.grad.isfinite().all())
    }
    if bad:
        raise RuntimeError("gradient of the first step: " + ", ".join(f"{name} is {why}" for name, why in bad.items()))


class Trainer:
    """Trains a model to the end of the run, and goes on from its checkpoint where there is one.

    on_metrics gets a flat dict every `log_every` steps; evaluate gets the averaged model every `evaluate_every`, and
    its time does not count. clock: what `seconds` are measured by.
    """

    def __init__(
        self,
        model: TRM,
        source: Source,
        config: TrainConfig,
        checkpoint: Path | None = None,
        on_metrics: Callable[[dict], None] = lambda metrics: None,
        evaluate: Callable[[TRM], dict[str, float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.model, self.source, self.config, self.clock = model, source, config, clock
        self.checkpoint, self.on_metrics, self.evaluate = checkpoint, on_metrics, evaluate
        self.ranks = Ranks()
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        self.optimizers = build_optimizers(
            model,
            config.optimizer,
            lr=config.lr,
            lr_matrices=config.lr_matrices,
            lr_tasks=config.lr_tasks,
            weight_decay=config.weight_decay,
            tables_by=config.tables_by,
            weight_decay_tasks=config.weight_decay_tasks,
        )
        if config.tables_by == "signsgd":  # as published: such tables are evaluated as they are, not averaged
            self.ema.module.conditioner = model.conditioner
        kind = model.device.type
        self.half = torch.bfloat16 if kind == "cpu" or has_bfloat16(kind) else torch.float16
        self.scaler = torch.amp.GradScaler(kind, enabled=config.autocast and self.half == torch.float16)
        self.peak = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.step, self.examples, self.seconds, self.warmed = 0, 0, 0.0, 0.0
        self.last: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.slots: dict[int, tuple[Batch, Carry]] = {}
        self.generator = torch.Generator().manual_seed(zlib.crc32(f"{config.seed}/{self.ranks.rank}".encode()))
        if checkpoint is not None and usable(checkpoint):
            self._load()
        if config.compile:
            for block in model.blocks:
                block.compile()
        self.net = self.ranks.wrap(model)

    @property
    def averaged(self) -> TRM:
        """The model with averaged weights, tables included: the one to evaluate and to save."""
        return self.ema.module

    def run(self) -> dict[str, float]:
        """Train to the end of the run; returns step, examples, seconds and the last metrics."""
        began, before = self.clock(), self.seconds
        sums, window = dict.fromkeys(RUNNING, 0.0), began
        for metrics in self.history if self.ranks.first else ():  # of the run's earlier parts
            self.on_metrics(metrics)
        self.model.train()
        while self.config.progress(self.step, self.seconds) < 1:
            for name, value in self._one_step().items():
                sums[name] += value
            # Ranks must agree on when the time is up, or one of them would wait for ever.
            self.seconds = self.ranks.agree(before + self.clock() - began)
            over = self.config.progress(self.step, self.seconds) >= 1
            if over or self.step % self.config.log_every == 0:
                self.last |= self._metrics(self.ranks.total(sums), self.clock() - window)
                if self.evaluate and self.ranks.first and (over or self.step % self.config.evaluate_every == 0):
                    paused = self.clock()
                    self.last |= self.evaluate(self.averaged)
                    began += self.clock() - paused  # looking costs no training time
                if self.ranks.first:
                    self.history.append(dict(self.last))
                    self.on_metrics(self.history[-1])
                sums, window = dict.fromkeys(RUNNING, 0.0), self.clock()
            if self.checkpoint and (over or self.step % self.config.checkpoint_every == 0):
                self.save(self.checkpoint)
            if self.checkpoint and self.config.keep_every and self.step % self.config.keep_every == 0:
                self.save(self.checkpoint.with_name(f"{self.checkpoint.stem}_step_{self.step}.pt"))
        return {**self.last, "step": self.step, "examples": self.examples, "seconds": self.seconds}

    def _one_step(self) -> dict[str, Tensor]:
        if self.step == self.config.warmup_steps:
            self.warmed = self.config.progress(self.step, self.seconds)
        factor = self.config.rate(self.step, self.seconds, self.warmed)
        for optimizer, peaks in zip(self.optimizers, self.peak, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        cells = self._choose_canvas()
        batch, carry = self._fill(cells)
        made = [self._learn(batch, carry, rows) for rows in self._pieces(batch)]
        self._update()
        segments, sums = zip(*made, strict=True)
        thoughts = zip(*(vars(segment.carry.detach()).values() for segment in segments), strict=True)
        halt = torch.cat([segment.halt.detach() for segment in segments])
        carry = decide_halts(Carry(*map(torch.cat, thoughts)), halt, self.model.config, self.generator)
        self.slots[cells] = batch, carry
        self.step += 1
        exact = torch.cat([one.pop("exact_rows") for one in sums])
        return {
            **{name: torch.stack([one[name] for one in sums]).sum() for name in sums[0]},
            "rows": torch.tensor(float(len(batch))),
            "finished": carry.halted.sum(),
            "finished_exact": (carry.halted & exact).sum(),
            "segments": (carry.steps * carry.halted).sum(),
        }

    def _pieces(self, batch: Batch) -> list[slice]:
        """The rows that go through the model at once."""
        positions = self.model.config.prefix_len + batch.cells.shape[1]
        size = max(1, self.config.micro_tokens // positions) if self.config.micro_tokens else len(batch)
        return [slice(first, first + size) for first in range(0, len(batch), size)]

    def _learn(self, batch: Batch, carry: Carry, rows: slice) -> tuple[Segment, dict[str, Tensor]]:
        """Add the gradient of some rows, by their share of the batch."""
        part, kind, last = batch.rows(rows), self.model.device.type, rows.stop >= len(batch)
        with self.ranks.holding(self.net, not last):
            with torch.autocast(kind, self.half, enabled=self.config.autocast):
                segment = self.net(carry.rows(rows), part)
                loss, sums = segment_loss(segment, part.labels, self.model.config.loss)
            self.scaler.scale(loss * (len(part) / len(batch))).backward()
        return segment, {**sums, "loss": loss.detach() * len(part)}

    def _update(self) -> None:
        """One step of all optimizers; in float16 it is left out where a gradient has overflowed."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.step == 0:  # the first loss scale is too large on purpose
            check_gradient_flow(self.model, finite=not self.scaler.is_enabled())
        if self.config.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        self.ema.update_parameters(self.model)

    def _choose_canvas(self) -> int:
        shares = torch.tensor(list(self.source.shares.values()), dtype=torch.float64)
        return list(self.source.shares)[torch.multinomial(shares, 1, generator=self.generator).item()]

    def _fill(self, cells: int) -> tuple[Batch, Carry]:
        """The rows to work on: those not halted go on, the others get new examples, as many as they need."""
        if cells not in self.slots:
            rows = max(1, self.config.batch_tokens // (self.model.config.prefix_len + cells))
            self.examples += rows
            batch = self.source.draw(cells, rows, self.generator).to(self.model.device)
            return batch, self.model.start(rows, cells)
        batch, carry = self.slots[cells]
        n = int(carry.halted.sum())
        if n:
            self.examples += n
            batch.put(carry.halted, self.source.draw(cells, n, self.generator).to(self.model.device))
            carry = self.model.restart(carry, carry.halted)
        return batch, carry

    def _metrics(self, sums: dict[str, float], seconds: float) -> dict[str, float]:
        rows, finished = max(1.0, sums["rows"]), max(1.0, sums["finished"])
        return {
            "step": self.step,
            "examples": self.examples,
            "loss": sums["loss"] / rows,
            "cell_loss": sums["cell_loss"] / rows,
            "exact": sums["exact"] / rows,  # of all segments, early ones included
            "exact_at_halt": sums["finished_exact"] / finished,
            "halt_right": sums["halt_right"] / rows,
            "segments": sums["segments"] / finished,
            "segments_per_second": sums["rows"] / max(seconds, 1e-9),
            "lr_factor": self.config.rate(self.step, self.seconds, self.warmed),
            "seconds": self.seconds,
        }

    def save(self, path: Path) -> None:
        """Write the whole state, atomically; with several ranks, the first writes what all of them hold."""
        own = {
            "generator": self.generator.get_state(),
            "examples": self.examples,
            "slots": {
                n: (batch.cpu().tensors(), {k: v.cpu() for k, v in vars(carry).items()})
                for n, (batch, carry) in self.slots.items()
            },
        }
        every = self.ranks.gather(own)
        if self.ranks.first:
            state = {
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizers": [o.state_dict() for o in self.optimizers],
                "step": self.step,
                "seconds": self.seconds,
                "warmed": self.warmed,
                "scaler": self.scaler.state_dict(),
                "ranks": every,
                "config": asdict(self.config),
                "model_config": asdict(self.model.config),
                "options": dict(self.source.options),
                "last": self.last,
                "history": self.history,
            }
            with sealing(path) as draft:
                torch.save(state, draft)
        self.ranks.wait()

    def _load(self) -> None:
        state = read_checkpoint(self.checkpoint)
        mine = {
            "config": asdict(self.config),
            "model_config": asdict(self.model.config),
            "options": dict(self.source.options),
        }
        for title, own in mine.items():
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
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.last = state["step"], state["seconds"], state["last"]
        self.history, self.warmed = state["history"], state["warmed"]
        self.scaler.load_state_dict(state["scaler"])
        own, device = state["ranks"][self.ranks.rank], self.model.device
        self.examples = own["examples"]
        self.generator.set_state(own["generator"])
        for cells, (batch, carry) in own["slots"].items():
            self.slots[cells] = Batch(**batch).to(device), Carry(**{k: v.to(device) for k, v in carry.items()})


def read_checkpoint(path: Path) -> dict:
    """A training checkpoint on the CPU. Raises CheckpointError, one line, where it is not a whole one."""
    state = load_state(path)
    missing = {"model", "ema", "optimizers", "step", "ranks", "config", "options"} - set(state)
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of TRM training: it lacks {', '.join(sorted(missing))}")
    return state

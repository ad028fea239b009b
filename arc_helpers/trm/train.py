"""Training of TRM: one segment a step, rows refilled as they halt, EMA of all weights, full resume, DDP by torchrun."""

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from arc_helpers.runs import has_bfloat16
from arc_helpers.trm.batch import Batch
from arc_helpers.trm.loop import LoopConfig, TrainingLoop, check_gradients
from arc_helpers.trm.loss import segment_loss
from arc_helpers.trm.model import TRM, Carry, Segment, decide_halts
from arc_helpers.trm.optim import TABLES, build_optimizers


class Source(Protocol):
    """Where examples come from.

    shares: {cells of a canvas: its share of the training steps}. options: what must not change when a run is resumed.
    """

    shares: Mapping[int, float]
    options: Mapping[str, str | int | float | list]

    def draw(self, cells: int, n: int, generator: torch.Generator) -> Batch:
        """n labelled examples on canvases of so many cells."""


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """One training of a TRM. On a GPU that has no bfloat16 `autocast` is float16 with a loss scale."""

    batch_tokens: int = 4096  # positions a step and a process, prefixes included
    tables_by: str = "adam"  # or signsgd: on the rows that were touched, without a state, as published
    weight_decay_tasks: float = 0.0  # of the tables
    ema_decay: float = 0.999
    micro_tokens: int = 0  # positions that go through the model at once, gradients summed; 0 = all of a step's
    compile: bool = False  # torch.compile of the blocks, one graph each

    POSITIVE = (*LoopConfig.POSITIVE, "batch_tokens")
    CHOICES = {**LoopConfig.CHOICES, "tables_by": TABLES}


class Trainer(TrainingLoop):
    """Trains a TRM on a source of examples. evaluate gets the averaged model."""

    kind = "TRM training"
    model: TRM
    config: TrainConfig

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
        rates = {name: getattr(config, name) for name in ("lr", "lr_matrices", "lr_tasks", "weight_decay")}
        tables = {name: getattr(config, name) for name in ("tables_by", "weight_decay_tasks")}
        optimizers = build_optimizers(model, config.optimizer, **rates, **tables)
        super().__init__(model, config, optimizers, checkpoint, on_metrics, evaluate, clock)
        self.source = source
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        if config.tables_by == "signsgd":  # as published: such tables are evaluated as they are, not averaged
            self.ema.module.conditioner = model.conditioner
        kind = model.device.type
        self.half = torch.bfloat16 if kind == "cpu" or has_bfloat16(kind) else torch.float16
        self.scaler = torch.amp.GradScaler(kind, enabled=config.autocast and self.half == torch.float16)
        self.parts |= {"ema": self.ema, "scaler": self.scaler}
        self.examples = 0
        self.slots: dict[int, tuple[Batch, Carry]] = {}
        self.generator = torch.Generator().manual_seed(zlib.crc32(f"{config.seed}/{self.ranks.rank}".encode()))
        self._resume()
        if config.compile:
            for block in model.blocks:
                block.compile()
        self.net = self.ranks.wrap(model)

    @property
    def averaged(self) -> TRM:
        """The model with averaged weights, tables included: the one to evaluate and to save."""
        return self.ema.module

    def facts(self) -> dict[str, dict[str, Any]]:
        return {
            "config": asdict(self.config),
            "model_config": asdict(self.model.config),
            "options": dict(self.source.options),
        }

    def run(self, steps: int | None = None) -> dict[str, float]:
        """Train to the end, or `steps` further; returns step, examples, seconds and the last metrics."""
        return {**super().run(steps), "examples": self.examples}

    def _learn(self) -> dict[str, Tensor]:
        cells = self._choose_canvas()
        batch, carry = self._fill(cells)
        made = [self._add_gradient(batch, carry, rows) for rows in self._pieces(batch)]
        self._update()
        segments, sums = zip(*made, strict=True)
        thoughts = zip(*(vars(segment.carry.detach()).values() for segment in segments), strict=True)
        halt = torch.cat([segment.halt.detach() for segment in segments])
        carry = decide_halts(Carry(*map(torch.cat, thoughts)), halt, self.model.config, self.generator)
        self.slots[cells] = batch, carry
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

    def _add_gradient(self, batch: Batch, carry: Carry, rows: slice) -> tuple[Segment, dict[str, Tensor]]:
        """Add the gradient of some rows, by their share of the batch."""
        part, kind, last = batch.rows(rows), self.model.device.type, rows.stop >= len(batch)
        with self.ranks.holding(self.net, not last):
            with torch.autocast(kind, self.half, enabled=self.config.autocast):
                segment = self.net(carry.rows(rows), part)
                loss, sums = self._loss(segment, part)
            self.scaler.scale(loss * (len(part) / len(batch))).backward()
        return segment, {**sums, "loss": loss.detach() * len(part)}

    def _loss(self, segment: Segment, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """What a segment learns by, and sums over its rows."""
        return segment_loss(segment, batch.labels, self.model.config.loss)

    def _update(self) -> None:
        """One step of all optimizers; in float16 it is left out where a gradient has overflowed."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.step == 0:  # the first loss scale is too large on purpose
            check_gradients(self.model, finite=not self.scaler.is_enabled())
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

    def _metrics(self, made: list[dict[str, Any]], seconds: float) -> dict[str, float]:
        sums = self.ranks.total({name: sum(one[name] for one in made) for name in made[0]})
        rows, finished = max(1.0, sums["rows"]), max(1.0, sums["finished"])
        return {
            "examples": self.examples,
            "loss": sums["loss"] / rows,
            "cell_loss": sums["cell_loss"] / rows,
            "exact": sums["exact"] / rows,  # of all segments, early ones included
            "exact_at_halt": sums["finished_exact"] / finished,
            "halt_right": sums["halt_right"] / rows,
            "segments": sums["segments"] / finished,
            "segments_per_second": sums["rows"] / max(seconds, 1e-9),
        }

    def _own(self) -> dict[str, Any]:
        return {
            "generator": self.generator.get_state(),
            "examples": self.examples,
            "slots": {
                n: (batch.cpu().tensors(), {k: v.cpu() for k, v in vars(carry).items()})
                for n, (batch, carry) in self.slots.items()
            },
        }

    def _take(self, own: dict[str, Any]) -> None:
        device = self.model.device
        self.examples = own["examples"]
        self.generator.set_state(own["generator"])
        for cells, (batch, carry) in own["slots"].items():
            self.slots[cells] = Batch(**batch).to(device), Carry(**{k: v.to(device) for k, v in carry.items()})

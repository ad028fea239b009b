"""Meta-training: the outer loss asks how well the model predicts while its inner loop is learning.

    L = mean over every token of l_t(W_{i−1}), its loss before the batch it is in was learned from   (eq. 6, "stream")

`objective="split"` is the older form: the first part of a text adapts, the second part alone is scored. The gradient
goes through all inner steps (second order); `order=1` takes their gradients as constants, `order=0` trains the plain
model, with nothing learned inside (the static rival).
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_helpers.memory.inner_loop import FastState, read
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.runs import load_state, sealing, usable


@dataclass(frozen=True)
class Batch:
    """Texts for one step: ids [B, T]; valid, scored bool [B, T]: no padding; tokens of the outer loss (None: valid)."""

    ids: Tensor
    valid: Tensor | None = None
    scored: Tensor | None = None

    def rows(self, part: slice) -> "Batch":
        """Some of its texts."""
        return Batch(*(None if t is None else t[part] for t in (self.ids, self.valid, self.scored)))

    def to(self, device: torch.device) -> "Batch":
        """The same texts on a device."""
        return Batch(*(None if t is None else t.to(device) for t in (self.ids, self.valid, self.scored)))

    @property
    def counted(self) -> Tensor:
        """Which tokens 1 … T − 1 are in the outer loss, bool [B, T − 1]."""
        scored = self.scored if self.scored is not None else self.valid
        return (torch.ones_like(self.ids, dtype=torch.bool) if scored is None else scored)[:, 1:]


@dataclass(frozen=True)
class MetaOutput:
    """loss: a scalar to call backward on; nll [B, T − 1] and counted [B, T − 1] what it is the mean of."""

    loss: Tensor
    nll: Tensor
    counted: Tensor
    state: FastState


def forward_ttt_meta(
    model: TTTForCausalLM,
    batch: Batch | Tensor,
    *,
    objective: str = "stream",
    adapt_share: float = 0.5,
    order: int = 2,
    checkpoint_batches: int = 0,
    lr_scale: float = 1.0,
) -> MetaOutput:
    """The outer loss of a batch of texts (on any device), each read from the trained fast weights on.

    objective: "stream" scores every token, "split" lets the first adapt_share of a text adapt and scores the rest.
    order: 2, 1, or 0 for no inner loop. Raises ValueError where nothing would be scored.
    """
    batch = (batch if isinstance(batch, Batch) else Batch(batch)).to(model.device)
    if objective not in ("stream", "split"):
        raise ValueError(f"objective = {objective}: must be stream or split")
    if order not in (0, 1, 2):
        raise ValueError(f"order = {order}: must be 0, 1 or 2")
    learn, counted = torch.full(batch.ids.shape, float(order > 0), device=batch.ids.device), batch.counted
    if objective == "split":
        first = int(adapt_share * batch.ids.shape[1])
        learn[:, first:] = 0
        counted = counted & (torch.arange(1, batch.ids.shape[1], device=learn.device) >= first)
    if not counted.any():
        raise ValueError("no token of the batch is in the outer loss")
    reading = read(
        model,
        batch.ids,
        learn=learn,
        valid=batch.valid,
        order=order or 1,  # 1: in the outer graph; with nothing to learn from no step is taken
        lr_scale=lr_scale,
        checkpoint_batches=checkpoint_batches,
    )
    return MetaOutput(reading.nll[counted].mean(), reading.nll, counted, reading.state)


def plain_nll(model: nn.Module, batch: Batch) -> Tensor:
    """Nats [B, T − 1] of an ordinary causal language model on a batch that is on its device; float32."""
    logits = model(input_ids=batch.ids[:, :-1], attention_mask=_mask(batch)).logits
    return F.cross_entropy(logits.float().mT, batch.ids[:, 1:], reduction="none")


def _mask(batch: Batch) -> Tensor | None:
    return None if batch.valid is None else batch.valid[:, :-1].long()


@dataclass(frozen=True)
class MetaConfig:
    """One training run. Its length is `steps`, or `seconds`, or whichever comes first.

    order, objective, adapt_share, checkpoint_batches: as in forward_ttt_meta. micro_batch: texts in memory at once;
    0 = all of a step. Only the fields in RESUMABLE may change when a run is resumed.
    """

    steps: int | None = 300
    seconds: float | None = None
    lr: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    order: int = 2
    objective: str = "stream"
    adapt_share: float = 0.5
    micro_batch: int = 0
    checkpoint_batches: int = 0
    log_every: int = 10
    save_every: int = 50

    def __post_init__(self):
        if self.steps is None and self.seconds is None:
            raise ValueError("MetaConfig: steps and seconds are both None; give the run a length")

    def rate(self, step: int, seconds: float) -> float:
        """Linear warm-up, then a half cosine to a thirtieth, as a factor of lr; step counts from 0."""
        done = self.progress(step, seconds)
        cosine = (1 + torch.cos(torch.tensor(torch.pi * done)).item()) / 2
        return min(1.0, (step + 1) / max(1, self.warmup_steps)) * (cosine + (1 - cosine) / 30)

    def progress(self, step: int, seconds: float) -> float:
        """How much of the run is over, 0 to 1."""
        parts = [step / self.steps if self.steps else 0.0, seconds / self.seconds if self.seconds else 0.0]
        return min(1.0, max(parts))


RESUMABLE = {"steps", "seconds", "log_every", "save_every", "micro_batch", "checkpoint_batches"}


class MetaTrainer:
    """AdamW on everything that requires a gradient, and on from its checkpoint where there is one.

    batches: step → Batch, so that a run that was stopped goes on with the same texts. model may be wrapped by PEFT:
    then the adapter alone is trained, and saved in the checkpoint. An ordinary causal language model is trained on the
    same batches, with no inner loop.
    """

    def __init__(
        self,
        model: Any,
        batches: Callable[[int], Batch],
        config: MetaConfig,
        checkpoint: Path | None = None,
        on_metrics: Callable[[dict], None] = lambda metrics: None,
    ):
        self.model, self.batches, self.config = model, batches, config
        self.checkpoint, self.on_metrics = checkpoint, on_metrics
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        decayed = [p for p in self.parameters.values() if p.ndim >= 2]
        rest = [p for p in self.parameters.values() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95))
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.history: list[dict] = []
        if checkpoint is not None and usable(checkpoint):
            self._load()

    def run(self) -> dict[str, float]:
        """Train to the end of the run; returns step, seconds, the last loss, and how many steps were refused."""
        began, before, loss = time.monotonic(), self.seconds, float("nan")
        for metrics in self.history:  # of the run's earlier parts
            self.on_metrics(metrics)
            loss = metrics["loss"]
        self.model.train()
        while self.config.progress(self.step, self.seconds) < 1:
            loss = self._one_step()
            self.seconds = before + time.monotonic() - began
            over = self.config.progress(self.step, self.seconds) >= 1
            if over or self.step % self.config.log_every == 0:
                self.history.append({"step": self.step, "loss": loss, "seconds": round(self.seconds, 2)})
                self.on_metrics(self.history[-1])
            if self.checkpoint and (over or self.step % self.config.save_every == 0):
                self.save()
        self.model.eval()
        return {"step": self.step, "seconds": self.seconds, "loss": loss, "skipped": self.skipped}

    def _one_step(self) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * config.rate(self.step, self.seconds)
        batch = self.batches(self.step)
        micro = config.micro_batch or len(batch.ids)
        total, count = 0.0, 0
        for i in range(0, len(batch.ids), micro):
            part = batch.rows(slice(i, i + micro))
            loss, n = self._loss(part)
            (loss * n).backward()  # a sum: micro-batches need not hold equally many scored tokens
            total, count = total + loss.item() * n, count + n
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad /= count
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), config.max_grad_norm)
        if norm.isfinite():
            self.optimizer.step()
        else:  # one bad batch must not cost the run
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total / count

    def _loss(self, part: Batch) -> tuple[Tensor, int]:
        """(mean outer loss, how many tokens it is the mean of)."""
        config = self.config
        if isinstance(self.model, TTTForCausalLM):
            options: dict[str, Any] = {"objective": config.objective, "adapt_share": config.adapt_share}
            options |= {"order": config.order, "checkpoint_batches": config.checkpoint_batches}
            out = forward_ttt_meta(self.model, part, **options)
            return out.loss, int(out.counted.sum())
        part = part.to(self.model.device)
        return plain_nll(self.model, part)[part.counted].mean(), int(part.counted.sum())

    def save(self) -> None:
        """Write the whole state, atomically."""
        state = {
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "counters": [self.step, self.seconds, self.skipped],
            "config": asdict(self.config),
            "history": self.history,
        }
        with sealing(self.checkpoint) as draft:
            torch.save(state, draft)

    def _load(self) -> None:
        state = load_state(self.checkpoint, self.model.device)
        for name, value in asdict(self.config).items():
            if name not in RESUMABLE and state["config"][name] != value:
                raise ValueError(
                    f"{self.checkpoint}: was made with {name} = {state['config'][name]}, this run has {value}; "
                    "give the same value or start in another folder"
                )
        if set(state["parameters"]) != set(self.parameters):
            raise ValueError(f"{self.checkpoint}: is of another model or adapter")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.skipped = state["counters"]
        self.history = state["history"]

"""Pretraining of GridLM: Muon on matrices, AdamW on the rest, warm-up / stable / decay, EMA, full resume."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from arc_helpers.arc import Task
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.mixture import Batch, Mixture
from arc_helpers.lm.prompt import IGNORE, TaskTooLong, encode
from arc_helpers.lm.vocabulary import GridVocabulary
from arc_helpers.runs.deadline import Deadline


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run. Only `steps` and the fields after it may change when a run is resumed."""

    batch_tokens: int = 8192  # padded tokens a step
    lr_muon: float = 0.02  # matrices of the blocks
    lr_adamw: float = 3e-3  # embedding, head and norms
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998
    warmup_steps: int = 50
    seed: int = 0
    steps: int = 1000
    decay_steps: int = 300  # the last steps, over which the rate falls linearly to zero
    log_every: int = 20  # steps between two lines of metrics
    evaluate_every: int = 200
    checkpoint_every: int = 200
    optimizer: str = "muon"  # or "adamw" for everything
    autocast: bool = False  # bfloat16 matrix products: for GPUs from capability 8.0, and CPUs with AVX-512 BF16


def learning_rate_factor(step: int, config: PretrainConfig) -> float:
    """Warm-up / stable / decay, as a factor of the peak rate; step counts from 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = (config.steps - step) / max(1, config.decay_steps)
    return warm * min(1.0, max(0.0, left))


def build_optimizers(model: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for all."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    ids = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ids]
    adamw = {"betas": (0.9, 0.95), "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return [torch.optim.AdamW([*matrices, *rest], lr=config.lr_adamw, **adamw)]
    muon = torch.optim.Muon(matrices, lr=config.lr_muon, momentum=0.95, weight_decay=config.weight_decay)
    return [muon, torch.optim.AdamW(rest, lr=config.lr_adamw, **adamw)]


def batch_loss(model: GridLMForCausalLM, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean loss over the counted tokens, and the unreduced losses [n]; logits are made at those positions only."""
    ids = torch.from_numpy(batch.input_ids).to(device)
    labels = torch.from_numpy(batch.labels).to(device)
    hidden = model.model(ids).last_hidden_state[:, :-1]
    counted = labels[:, 1:] != IGNORE
    losses = F.cross_entropy(model.lm_head(hidden[counted]).float(), labels[:, 1:][counted], reduction="none")
    return losses.mean(), losses


@torch.no_grad()
def held_out_score(
    model: GridLMForCausalLM, tasks: list[Task], vocabulary: GridVocabulary, max_len: int
) -> dict[str, float]:
    """Answer loss (nats a token) and exact answers under greedy decoding, on the tests of labelled tasks.

    An answer is exact when every one of its tokens is the most likely one given the right tokens before it:
    the same thing as greedy decoding giving the answer, at the price of one forward.
    """
    was_training = model.training
    model.eval()
    losses, exact = [], 0
    device = model.device
    documents = []
    for task in tasks:
        try:
            documents.append(("", encode(task, vocabulary, max_len=max_len)))
        except TaskTooLong:
            continue
    for document in documents:
        batch = Batch.of([document], vocabulary.pad)
        ids, labels = (torch.from_numpy(a).to(device) for a in (batch.input_ids, batch.labels))
        counted = labels[:, 1:] != IGNORE
        logits = model.lm_head(model.model(ids).last_hidden_state[:, :-1][counted]).float()
        losses.append(F.cross_entropy(logits, labels[:, 1:][counted]).item())
        exact += bool((logits.argmax(-1) == labels[:, 1:][counted]).all())
    model.train(was_training)
    if not documents:
        raise ValueError(f"held_out_score: none of {len(tasks)} tasks fits {max_len} tokens")
    return {
        "held_out_loss": float(np.mean(losses)),
        "held_out_exact": exact,
        "held_out_tasks": len(documents),
    }


class Pretrainer:
    """Trains a model on a mixture until its steps or its deadline end, and goes on from its checkpoint."""

    def __init__(
        self,
        model: GridLMForCausalLM,
        mixture: Mixture,
        config: PretrainConfig,
        checkpoint: Path | None = None,
        on_metrics: Callable[[dict], None] = lambda metrics: None,
        evaluate: Callable[[GridLMForCausalLM], dict[str, float]] | None = None,
    ):
        self.model, self.mixture, self.config = model, mixture, config
        self.checkpoint, self.on_metrics, self.evaluate = checkpoint, on_metrics, evaluate
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        self.optimizers = build_optimizers(model, config)
        self.peak = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.step, self.tokens, self.seconds, self.cursor = 0, 0, 0.0, (0, 0)
        if checkpoint is not None and checkpoint.exists():
            self._load()

    @property
    def averaged(self) -> GridLMForCausalLM:
        """The model with averaged weights: the one to evaluate and to save."""
        return self.ema.module

    def run(self, deadline: Deadline | None = None) -> dict[str, float]:
        """Train; returns steps, tokens, seconds and the last losses."""
        deadline = deadline or Deadline(None)
        last: dict[str, float] = {}
        window: list[tuple[float, int]] = []
        began = window_began = time.monotonic()
        before = self.seconds
        self.model.train()
        for batch in self.mixture.batches(self.config.batch_tokens, self.cursor):
            if self.step >= self.config.steps or deadline.passed:
                break
            window.append((self._one_step(batch), batch.input_ids.size))
            self.seconds = before + time.monotonic() - began
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                elapsed = time.monotonic() - window_began
                last |= {
                    "step": self.step,
                    "tokens": self.tokens,
                    "loss": float(np.mean([loss for loss, _ in window])),
                    "tokens_per_second": sum(n for _, n in window) / elapsed,
                    "lr_factor": learning_rate_factor(self.step, self.config),
                    "seconds": self.seconds,
                }
                if self.evaluate and (self.step % self.config.evaluate_every == 0 or self.step == self.config.steps):
                    last |= self.evaluate(self.averaged)
                self.on_metrics(dict(last))
                window, window_began = [], time.monotonic()
            if self.checkpoint and self.step % self.config.checkpoint_every == 0:
                self.save()
        if self.checkpoint:
            self.save()
        return {**last, "step": self.step, "tokens": self.tokens, "seconds": self.seconds}

    def _one_step(self, batch: Batch) -> float:
        factor = learning_rate_factor(self.step, self.config)
        for optimizer, peaks in zip(self.optimizers, self.peak, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.autocast):
            loss, _ = batch_loss(self.model, batch, device)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.model)
        self.step += 1
        self.tokens += batch.input_ids.size
        self.cursor = batch.following
        return loss.item()

    def save(self) -> None:
        """Write the whole state, atomically."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "counters": [self.step, self.tokens, self.seconds, *self.cursor],
            "config": asdict(self.config),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.checkpoint.with_suffix(".tmp")
        torch.save(state, scratch)
        scratch.replace(self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.model.device, weights_only=True)
        free = {"steps", "decay_steps", "log_every", "evaluate_every", "checkpoint_every"}
        for name, value in asdict(self.config).items():
            if name not in free and state["config"][name] != value:
                raise ValueError(
                    f"{self.checkpoint}: was made with {name} = {state['config'][name]}, this run has {value}; "
                    "give the same value or start in another folder"
                )
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds, *cursor = state["counters"]
        self.cursor = tuple(cursor)

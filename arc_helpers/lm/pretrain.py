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


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run. Its length is `steps`, or `seconds`, or whichever of both comes first.

    With `steps` alone a run is a function of its settings and seed: k steps and a resume equal a straight run.
    Only the fields in RESUMABLE may change when a run is resumed.
    """

    steps: int | None = 1000
    seconds: float | None = None  # training time, earlier parts of a resumed run included
    decay_fraction: float = 0.3  # the last part of the run, over which the rate falls linearly to zero
    warmup_steps: int = 50
    batch_tokens: int = 8192  # padded tokens a step
    optimizer: str = "muon"  # or "adamw" for everything
    lr_muon: float = 0.02  # matrices of the blocks
    lr_adamw: float = 3e-3  # embedding, head and norms
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998
    autocast: bool = False  # bfloat16 matrix products: GPUs from capability 8.0, CPUs with AVX-512 BF16
    seed: int = 0
    log_every: int = 20  # steps between two lines of metrics
    evaluate_every: int = 200
    checkpoint_every: int = 200

    def __post_init__(self):
        if self.steps is None and self.seconds is None:
            raise ValueError("PretrainConfig: steps and seconds are both None; give the run a length")
        for name in ("steps", "seconds"):
            length = getattr(self, name)
            if length is not None and not length > 0:
                raise ValueError(f"{name} = {length}: must be > 0 or None")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer = {self.optimizer!r}: must be muon or adamw")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the run is over, 0 to 1."""
        parts = [step / self.steps if self.steps else 0.0, seconds / self.seconds if self.seconds else 0.0]
        return min(1.0, max(parts))

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """Warm-up / stable / decay as a factor of the peak learning rate; `step` counts from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = 1.0 - self.progress(step, seconds)
        return warm * (min(1.0, left / self.decay_fraction) if self.decay_fraction else 1.0)


RESUMABLE = {"steps", "seconds", "decay_fraction", "log_every", "evaluate_every", "checkpoint_every"}


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


def batch_loss(model: GridLMForCausalLM, batch: Batch, device: torch.device) -> Tensor:
    """Mean loss over the counted tokens; logits are made at their positions only."""
    ids = torch.from_numpy(batch.input_ids).to(device)
    labels = torch.from_numpy(batch.labels).to(device)
    hidden = model.model(ids).last_hidden_state[:, :-1]
    counted = labels[:, 1:] != IGNORE
    return F.cross_entropy(model.lm_head(hidden[counted]).float(), labels[:, 1:][counted])


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
        task.answers()  # raises where there is nothing to compare with
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
    """Trains a model on a mixture to the end of the run, and goes on from its checkpoint where there is one."""

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

    def run(self) -> dict[str, float]:
        """Train to the end of the run; returns steps, tokens, seconds and the last metrics."""
        last: dict[str, float] = {}
        losses: list[float] = []
        began, before = time.monotonic(), self.seconds
        window = (began, self.tokens)
        self.model.train()
        for batch in self.mixture.batches(self.config.batch_tokens, self.cursor):
            if self.config.progress(self.step, self.seconds) >= 1:
                break
            losses.append(self._one_step(batch))
            now = time.monotonic()
            self.seconds = before + now - began
            over = self.config.progress(self.step, self.seconds) >= 1
            if over or self.step % self.config.log_every == 0:
                last |= self._metrics(losses, (self.tokens - window[1]) / (now - window[0]))
                if self.evaluate and (over or self.step % self.config.evaluate_every == 0):
                    last |= self.evaluate(self.averaged)
                self.on_metrics(dict(last))
                losses, window = [], (time.monotonic(), self.tokens)
            if self.checkpoint and self.step % self.config.checkpoint_every == 0:
                self.save()
        if self.checkpoint:
            self.save()
        return {**last, "step": self.step, "tokens": self.tokens, "seconds": self.seconds}

    def _metrics(self, losses: list[float], tokens_per_second: float) -> dict[str, float]:
        return {
            "step": self.step,
            "tokens": self.tokens,
            "loss": float(np.mean(losses)),
            "tokens_per_second": tokens_per_second,
            "lr_factor": self.config.rate(self.step, self.seconds),
            "seconds": self.seconds,
        }

    def _one_step(self, batch: Batch) -> float:
        factor = self.config.rate(self.step, self.seconds)
        for optimizer, peaks in zip(self.optimizers, self.peak, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.autocast):
            loss = batch_loss(self.model, batch, device)
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
        for name, value in asdict(self.config).items():
            if name not in RESUMABLE and state["config"][name] != value:
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

"""K independent trainings in one step."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from arc_helpers.ttt.bank import SlotBank
from arc_helpers.ttt.cache import Example, slot_losses
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.optim import MultiLoraAdamW

FP16_LOSS_SCALE = 1024.0  # a power of two, so that scaling changes no digit
CPU_TOKENS = 1024
SMOOTHING = 0.9  # of the loss that early stopping looks at: about the last ten steps


class SlotState(Enum):
    PENDING = "pending"  # nothing to train on
    ACTIVE = "active"
    FINISHED = "finished"
    FAILED = "failed"  # too many steps that were not finite; the slot is what it was before training


@dataclass
class Training:
    """How a training of K slots went."""

    losses: np.ndarray  # [steps, K], nats a token; NaN where a slot did not run
    states: list[SlotState]  # [K]
    steps: np.ndarray  # int [K], steps that moved the slot
    tokens: int = 0  # positions of all sequences that were run: answer positions in mode "head", else all
    padded_tokens: int = 0  # the same with the padding beside them
    seconds: float = 0.0  # wall clock

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def padding_ratio(self) -> float:
        """Padded over real tokens: 1.0 is no padding."""
        return self.padded_tokens / self.tokens if self.tokens else 1.0


def train_multi_lora(model: MultiLoRAModel, pools: Sequence[Sequence[Example]], *, steps: int, **options) -> np.ndarray:
    """`train_slots`, of which only the losses matter: float [steps, K] (nats a token)."""
    return train_slots(model, pools, steps=steps, **options).losses


def train_slots(
    model: MultiLoRAModel,
    pools: Sequence[Sequence[Example]],
    *,
    steps: int,
    lr: float = 1e-2,
    weight_decay: float = 0.0,
    max_grad_norm: float | None = 1.0,
    warmup: float = 0.1,
    batch: int = 1,
    max_tokens: int | None = None,
    patience: int | None = None,
    loss_scale: float | None = None,
    max_skips: int = 5,
    seed: int = 0,
    on_step: Callable[[int, np.ndarray], None] = lambda step, losses: None,
) -> Training:
    """Train every slot on its own pseudo-tasks.

    pools[k] is slot k's pool, as `cache.prepare` returns it. Each step takes `batch` pseudo-tasks a slot; a pool is
    shuffled each time round, by a random stream of its own. Losses are summed over slots, and each slot has its own
    clip, moments and finite gate, so the result equals K separate trainings. The learning rate rises over the first
    `warmup` of the steps and then falls linearly to zero.

    max_tokens: padded tokens that go through the model at once; slots beyond that take turns within the step, which
        changes no result. None: 1024 on a CPU, whose caches hold no more, else no limit.
    patience: a slot whose smoothed loss has not reached a new low for that many steps is finished and costs nothing
        from then on; and every slot ends with the weights it had at its lowest. None: all steps, last weights.
    loss_scale: what losses are multiplied by on the way back, a power of two; None: 1024 over a base in float16,
        whose small gradients would vanish, else 1. Where a slot's gradients overflow, its own scale is halved.
    max_skips: a slot whose loss or gradient is not finite skips the step; after that many (those that only halved
        its scale not counted) it has failed, and is put back to what it was before training.
    on_step(step, losses [K]) is called after every step. A slot with an empty pool is left as it is.
    """
    if len(pools) != model.num_slots:
        raise ValueError(f"train_slots: {len(pools)} pools for {model.num_slots} slots")
    if batch < 1:
        raise ValueError(f"batch = {batch}: must be >= 1")
    num_slots, device, started = model.num_slots, model.bank.flat.device, time.monotonic()
    states = [SlotState.ACTIVE if len(pool) else SlotState.PENDING for pool in pools]
    result = Training(np.full((steps, num_slots), np.nan), states, np.zeros(num_slots, dtype=int))
    start = model.bank.flat.clone()
    best = _Best(model.bank, patience) if patience is not None else None
    optimizer = MultiLoraAdamW(model.bank, lr, weight_decay=weight_decay, max_grad_norm=max_grad_norm)
    if max_tokens is None and device.type == "cpu":
        max_tokens = CPU_TOKENS
    if loss_scale is None:
        loss_scale = FP16_LOSS_SCALE if model.lm.dtype == torch.float16 else 1.0
    scale = torch.full_like(optimizer.lr, loss_scale)  # [K]
    skips = np.zeros(num_slots, dtype=int)
    draws = [_endless(len(pool), seed) for pool in pools]
    for step in range(steps):
        chosen = [k for k, state in enumerate(states) if state is SlotState.ACTIVE]
        if not chosen:
            break
        examples = [pools[k][next(draws[k])] for k in chosen for _ in range(batch)]
        optimizer.lr.fill_(lr * _rate(step, steps, warmup))
        optimizer.zero_grad()
        at_once = len(chosen) if max_tokens is None else max(1, max_tokens // (batch * max(map(len, examples))))
        for first in range(0, len(chosen), at_once):  # a finished slot is not run
            some, theirs = chosen[first : first + at_once], examples[first * batch : (first + at_once) * batch]
            result.tokens += sum(map(len, theirs))
            result.padded_tokens += len(theirs) * max(map(len, theirs))
            slots = torch.tensor(some, device=device)
            losses = slot_losses(model, theirs, slots)
            _backward((losses * scale[slots]).sum())  # a slot's gradient comes from its own turn alone
            result.losses[step, some] = losses.detach().cpu().numpy()
        if best is not None:
            for k in best.look(step, result.losses[step]):
                states[k] = SlotState.FINISHED
        running = torch.tensor([state is SlotState.ACTIVE for state in states], device=device)
        moved = optimizer.step(running, scale)
        result.steps += moved.cpu().numpy()
        for k in (running & ~moved).nonzero().flatten().tolist():
            if scale[k] > 1 and np.isfinite(result.losses[step, k]):
                scale[k] /= 2
                continue
            skips[k] += 1
            if skips[k] >= max_skips:
                states[k] = SlotState.FAILED
                model.bank.flat[k] = start[k]
        on_step(step, result.losses[step])
    for k, state in enumerate(states):
        if state is SlotState.ACTIVE:
            states[k] = SlotState.FINISHED
        if best is not None and states[k] is SlotState.FINISHED:
            model.bank.flat[k] = best.weights[k]
    result.seconds = time.monotonic() - started
    return result


class _Best:
    """The weights of each slot at the lowest smoothed training loss so far."""

    def __init__(self, bank: SlotBank, patience: int):
        if patience < 1:
            raise ValueError(f"patience = {patience}: must be >= 1")
        slots = len(bank.flat)
        self.bank, self.patience = bank, patience
        self.weights = bank.flat.clone()
        self.smoothed, self.lowest = np.full(slots, np.nan), np.full(slots, np.inf)
        self.since = np.zeros(slots, dtype=int)  # the step of the lowest loss

    @torch.no_grad()
    def look(self, step: int, losses: np.ndarray) -> list[int]:
        """Take in one step's losses [K], of the weights as they now are; returns the slots that are to stop."""
        seen = np.isfinite(losses)
        mixed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * losses
        self.smoothed = np.where(seen, np.where(np.isnan(self.smoothed), losses, mixed), self.smoothed)
        better = seen & (self.smoothed < self.lowest)
        self.lowest[better], self.since[better] = self.smoothed[better], step
        rows = torch.from_numpy(np.flatnonzero(better)).to(self.weights.device)
        self.weights[rows] = self.bank.flat[rows]
        return np.flatnonzero(seen & (step - self.since >= self.patience)).tolist()


def _rate(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay."""
    return min(1.0, (step + 1) / max(1.0, warmup * steps)) * (1 - step / steps)


def _backward(loss: Tensor) -> None:
    with warnings.catch_warnings():
        # the gradients are views into one matrix on purpose (SlotBank); torch would rather choose their layout
        warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")
        loss.backward()


def _endless(n: int, seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(n)

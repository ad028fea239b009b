"""K independent trainings in one step."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from arc_helpers.ttt.cache import Example, slot_losses
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.optim import MultiLoraAdamW


def train_multi_lora(
    model: MultiLoRAModel,
    pools: Sequence[Sequence[Example]],
    *,
    steps: int,
    lr: float = 1e-2,
    max_grad_norm: float = 1.0,
    warmup: float = 0.1,
    seed: int = 0,
    max_skips: int = 5,
    on_step: Callable[[int, np.ndarray], None] = lambda step, losses: None,
) -> np.ndarray:
    """Train every slot on its own pseudo-tasks; returns the losses, float [steps, K] (nats a token).

    pools[k] is slot k's pool, as `cache.prepare` returns it. Each step takes one pseudo-task a slot; a pool is
    shuffled each time round, by a random stream of its own. Losses are summed over slots, and each slot has its own
    clip, moments and finite gate, so the result equals K separate trainings. The learning rate rises over the first
    `warmup` of the steps and then falls linearly to zero.

    A slot with an empty pool is left as it is (its losses are NaN). A slot whose loss or gradient is not finite
    skips that step; after `max_skips` of them it has failed, and is put back to what it was before training.
    """
    if len(pools) != model.num_slots:
        raise ValueError(f"train_multi_lora: {len(pools)} pools for {model.num_slots} slots")
    history = np.full((steps, model.num_slots), np.nan)
    device = model.bank.flat.device
    active = torch.tensor([len(pool) > 0 for pool in pools], device=device)
    start = model.bank.flat.clone()
    skips = torch.zeros(model.num_slots, dtype=torch.long, device=device)
    optimizer = MultiLoraAdamW(model.bank, lr, max_grad_norm=max_grad_norm)
    draws = [_endless(len(pool), seed) for pool in pools]
    for step in range(steps):
        slots = active.nonzero().squeeze(1)  # [K'], those that still train
        if not len(slots):
            break
        optimizer.lr.fill_(lr * _rate(step, steps, warmup))
        optimizer.zero_grad()
        losses = slot_losses(model, [pools[k][next(draws[k])] for k in slots.tolist()], slots)
        _backward(losses.sum())
        moved = optimizer.step(active)
        history[step, slots.tolist()] = losses.detach().cpu().numpy()
        on_step(step, history[step])
        skips += active & ~moved
        failed = active & (skips >= max_skips)
        if failed.any():
            model.bank.restore(start, failed)
            active = active & ~failed
    return history


def _rate(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay."""
    return min(1.0, (step + 1) / max(1.0, warmup * steps)) * (1 - step / steps)


def _backward(loss: torch.Tensor) -> None:
    with warnings.catch_warnings():
        # the gradients are views into one matrix on purpose (SlotBank); torch would rather choose their layout
        warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")
        loss.backward()


def _endless(n: int, seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(n)

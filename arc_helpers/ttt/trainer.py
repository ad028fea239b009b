"""K independent trainings in one step."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from arc_helpers.lm.prompt import IGNORE
from arc_helpers.ttt.cache import AnswerFeatures
from arc_helpers.ttt.multilora import MultiLoRAModel, per_slot_cross_entropy


def train_multi_lora(
    model: MultiLoRAModel,
    features: Sequence[Sequence[AnswerFeatures]],
    *,
    steps: int,
    lr: float = 1e-2,
    max_grad_norm: float = 1.0,
    seed: int = 0,
    on_step: Callable[[int, np.ndarray], None] = lambda step, losses: None,
) -> np.ndarray:
    """Train every slot on its own pseudo-tasks; returns the losses, float [steps, K] (nats a token).

    features[k] is slot k's pool. Each step takes one pseudo-task a slot; a pool is shuffled each time round, by
    the slot's own random stream. Losses are summed over slots and clipped per slot, so the result equals K
    separate trainings. A slot with an empty pool is left as it is (its losses are NaN).
    """
    if len(features) != model.num_slots:
        raise ValueError(f"train_multi_lora: {len(features)} pools for {model.num_slots} slots")
    trained = [k for k, pool in enumerate(features) if pool]
    history = np.full((steps, model.num_slots), np.nan)
    if not trained or not steps:
        return history
    # one AdamW over the stack is bit for bit K AdamWs: its arithmetic is element by element
    optimizer = torch.optim.AdamW([model.A, model.B], lr=lr, weight_decay=0.0)
    draws = {k: _endless(len(features[k]), seed) for k in trained}
    slots = torch.tensor(trained, device=model.A.device)
    for step in range(steps):
        hidden, labels = _stack([features[k][next(draws[k])] for k in trained])
        losses = per_slot_cross_entropy(model.logits(hidden, slots), labels)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        clip_per_slot([model.A.grad, model.B.grad], max_grad_norm)
        optimizer.step()
        history[step, trained] = losses.detach().cpu().numpy()
        on_step(step, history[step])
    return history


@torch.no_grad()
def clip_per_slot(grads: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale each slot's gradients, in place, to a norm of at most max_norm; returns the norms before, [K].

    `clip_grad_norm_` would take one norm over all slots, and one wild slot would then silence the others.
    """
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
    scale = (max_norm / (norms + 1e-6)).clamp_max(1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.dim() - 1)))
    return norms


def _endless(n: int, seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(n)


def _stack(examples: Sequence[AnswerFeatures]) -> tuple[Tensor, Tensor]:
    """hidden [K, n, H] and labels [K, n], padded at the end."""
    labels = torch.nn.utils.rnn.pad_sequence([e.targets for e in examples], True, IGNORE)
    return torch.nn.utils.rnn.pad_sequence([e.hidden for e in examples], True), labels

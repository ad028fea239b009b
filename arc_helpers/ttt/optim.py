"""AdamW for K slots that know nothing of each other."""

import torch
from torch import Tensor

from arc_helpers.ttt.bank import SlotBank


class MultiLoraAdamW:
    """One AdamW a slot, in one pass over the bank: own learning rate, step count, clip and finite gate.

    Equals K runs of `torch.optim.AdamW` with `clip_grad_norm_`, one a slot (a test says to how many digits).
    A slot whose gradient is not finite skips its step, weights and moments untouched; so does an inactive one.
    (Torch's own AdamW shares `lr` and `step` over a stacked tensor, moves a slot with zero gradient by momentum and
    decay, and its clip lets one NaN slot poison all.)
    """

    def __init__(
        self,
        bank: SlotBank,
        lr: float | Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = 1.0,
    ):
        self.bank, self.betas, self.eps = bank, betas, eps
        self.weight_decay, self.max_grad_norm = weight_decay, max_grad_norm
        slots = bank.flat.shape[0]
        self.lr = torch.as_tensor(lr, dtype=bank.flat.dtype, device=bank.flat.device).expand(slots).clone()  # [K]
        self.steps = torch.zeros(slots, dtype=bank.flat.dtype, device=bank.flat.device)  # [K]
        self.mean = torch.zeros_like(bank.flat)
        self.square = torch.zeros_like(bank.flat)

    def zero_grad(self) -> None:
        self.bank.grad.zero_()

    @torch.no_grad()
    def step(self, active: Tensor | None = None) -> Tensor:
        """Step every active slot (bool [K]; None: all) with a finite gradient; returns which ones did, bool [K]."""
        grad = self.bank.grad
        norms = grad.norm(dim=1, keepdim=True)  # [K, 1]
        moved = norms.isfinite().squeeze(1)
        if active is not None:
            moved = moved & active
        row = moved[:, None]
        if self.max_grad_norm is not None:
            grad = grad * (self.max_grad_norm / (norms + 1e-6)).clamp_max(1.0)
        grad = torch.where(row, grad, 0.0)  # `0 * NaN` is NaN, so select
        beta1, beta2 = self.betas
        self.steps += moved
        mean = torch.lerp(self.mean, grad, 1 - beta1)
        square = self.square * beta2 + grad * grad * (1 - beta2)
        count = self.steps.clamp_min(1)[:, None]
        denominator = (square / (1 - beta2**count)).sqrt().add_(self.eps)
        lr = self.lr[:, None]
        new = self.bank.flat * (1 - lr * self.weight_decay) - lr / (1 - beta1**count) * mean / denominator
        # where, not a masked product: what a slot holds must stay as it is to the last bit
        self.bank.flat.copy_(torch.where(row, new, self.bank.flat))
        self.mean.copy_(torch.where(row, mean, self.mean))
        self.square.copy_(torch.where(row, square, self.square))
        return moved

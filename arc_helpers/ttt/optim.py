"""AdamW for K slots that know nothing of each other."""

import torch
from torch import Tensor

from arc_helpers.ttt.bank import SlotBank

CPU_NUMBERS = 2**16  # worked on at a time: what is read by one operation is still in the cache for the next


class MultiLoraAdamW:
    """One AdamW a slot, in one pass over the bank: own learning rate, step count, clip, loss scale and finite gate.

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
        # [K]; float64, since 1 - 0.999 in float32 is off by 3e-5 of itself
        self.steps = torch.zeros_like(self.lr, dtype=torch.float64)
        self.mean = torch.zeros_like(bank.flat)
        self.square = torch.zeros_like(bank.flat)
        width = bank.flat.shape[1]
        at_once = max(64, CPU_NUMBERS // slots // 64 * 64) if bank.flat.device.type == "cpu" else width
        self._parts = [slice(first, first + at_once) for first in range(0, width, at_once)]

    def reset(self, k: int) -> None:
        """Forget all that slot k has done."""
        for state in (self.mean, self.square, self.steps):
            state[k] = 0

    def zero_grad(self) -> None:
        self.bank.grad.zero_()

    @torch.no_grad()
    def step(self, active: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        """Step every active slot (bool [K]; None: all) with a finite gradient; returns which ones did, bool [K].

        scale [K]: what each slot's loss was multiplied by. The bank's gradients are used up.
        """
        grad = self.bank.grad
        if scale is not None:
            grad.div_(scale[:, None])
        norms = grad.norm(dim=1)
        moved = norms.isfinite()
        if active is not None:
            moved = moved & active
        clip = None if self.max_grad_norm is None else (self.max_grad_norm / (norms + 1e-6)).clamp_max(1.0)[:, None]
        if not moved.all():
            grad[~moved] = 0.0  # a product with 0 would keep the NaN
            clip = None if clip is None else torch.where(moved[:, None], clip, 0.0)
        # a slot that does not move has its rates at exactly 0: x + 0 · y is x, to the last bit
        move = moved[:, None].to(grad.dtype)  # [K, 1]
        beta1, beta2 = self.betas
        self.steps += moved
        count = self.steps.clamp_min(1)[:, None]
        # rounded once, here: a float64 factor would make every product below a slow one of two types
        rate = (self.lr[:, None] * move / (1 - beta1**count)).to(grad.dtype)
        square_bias = (1 - beta2**count).rsqrt().to(grad.dtype)
        decay = 1 - self.lr[:, None] * move * self.weight_decay
        for part in self._parts:
            g, mean, square, weights = (x[:, part] for x in (grad, self.mean, self.square, self.bank.flat))
            if clip is not None:
                g.mul_(clip)
            mean.lerp_(g, move * (1 - beta1))
            square.lerp_(g.square_(), move * (1 - beta2))
            torch.sqrt(square, out=g)
            g.mul_(square_bias).add_(self.eps)
            torch.div(mean, g, out=g)
            if self.weight_decay:
                weights.mul_(decay)
            weights.sub_(g.mul_(rate))
        return moved

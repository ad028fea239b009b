"""Muon with all matrices of one shape orthogonalised in one batched product.

torch.optim.Muon takes one matrix at a time: some 840 small kernels a step for the 56 matrices of `base`, which on a
GPU would cost about as much as a third of the step. The update is the same (Jordan et al. 2024,
kellerjordan.github.io/posts/muon), and so is the state: checkpoints of either load into the other.
"""

from collections import defaultdict

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """torch.optim.Muon with the default learning-rate adjustment, stacked."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every matrix that has a gradient; their gradients are not kept."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    if "momentum_buffer" not in self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                grads = [p.grad for p in params]
                momenta = [self.state[p]["momentum_buffer"] for p in params]
                torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
                if group["nesterov"]:
                    torch._foreach_lerp_(grads, momenta, group["momentum"])
                update = orthogonalize(
                    torch.stack(grads if group["nesterov"] else momenta),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                )
                update = self._rescaled(update.to(params[0].dtype), params, group)
                lr = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(update.unbind()), alpha=-lr)

    def _rescaled(self, update: Tensor, params: list[Tensor], group: dict) -> Tensor:
        """The update [n, rows, columns] that is made of the orthogonal one."""
        return update


class NorMuon(Muon):
    """Muon whose neurons move alike: each row of an update is divided by the root of its running mean square, and the
    whole brought back to the norm it had, so that Muon's learning rates stay right (Li et al. 2025, arXiv 2510.05491).
    """

    BETA2, EPS = 0.95, 1e-8

    def _rescaled(self, update: Tensor, params: list[Tensor], group: dict) -> Tensor:
        for p in params:
            if "row_square" not in self.state[p]:
                self.state[p]["row_square"] = torch.zeros_like(p[:, :1])
        squares = [self.state[p]["row_square"] for p in params]
        torch._foreach_lerp_(squares, list(update.square().mean(dim=2, keepdim=True).unbind()), 1 - self.BETA2)
        even = update / (torch.stack(squares).sqrt() + self.EPS)
        return even * (update.norm(dim=(1, 2), keepdim=True) / even.norm(dim=(1, 2), keepdim=True).clamp_min(self.EPS))


def orthogonalize(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The nearly orthogonal matrices nearest to `matrices` [n, rows, columns], by Newton-Schulz in bfloat16."""
    a, b, c = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x

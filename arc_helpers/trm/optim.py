"""Optimizers of TRM: AdamW, AdamATan2 as published, or Muon for matrices; the conditioning's tables on their own."""

from typing import Any

import torch
from torch import Tensor, nn

OPTIMIZERS = ("muon", "adamw", "adam_atan2")


class AdamATan2(torch.optim.Optimizer):
    """Adam whose step is atan2(m, √v) in place of m / (√v + ε): no ε, and no step longer than lr · π/2.

    Everett et al. 2024, "Scaling Exponents Across Parameterizations and Optimizers". Decoupled weight decay.
    """

    def __init__(self, params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.1):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state.update(step=0, m=torch.zeros_like(parameter), v=torch.zeros_like(parameter))
        state["step"] += 1
        state["m"].lerp_(parameter.grad, 1 - first)
        state["v"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
        mean = state["m"] / (1 - first ** state["step"])
        spread = (state["v"] / (1 - second ** state["step"])).sqrt()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(torch.atan2(mean, spread), alpha=-group["lr"])


def build_optimizers(
    model: nn.Module, kind: str, *, lr: float, lr_matrices: float, lr_tasks: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """One to three optimizers that share all parameters of a TRM among them.

    The conditioning's tables get `lr_tasks` and no weight decay (a row would shrink whenever its task is not in the
    batch). `muon`: the blocks' matrices with `lr_matrices`. Raises ValueError on another kind.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(f"optimizer = {kind!r}: must be one of {', '.join(OPTIMIZERS)}")
    tables = [p for n, p in model.named_parameters() if n.startswith("conditioner.")]
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    taken = {id(p) for p in [*tables, *matrices]}
    rest = [p for p in model.parameters() if id(p) not in taken]
    if kind == "muon":
        muon = torch.optim.Muon(matrices, lr=lr_matrices, momentum=0.95, weight_decay=weight_decay)
        return [muon, _adam("adamw", rest, tables, lr, lr_tasks, weight_decay)]
    return [_adam(kind, [*matrices, *rest], tables, lr, lr_tasks, weight_decay)]


def _adam(kind: str, rest: list, tables: list, lr: float, lr_tasks: float, weight_decay: float):
    groups: list[dict[str, Any]] = [{"params": rest}]
    groups += [{"params": tables, "lr": lr_tasks, "weight_decay": 0.0}] if tables else []
    make = AdamATan2 if kind == "adam_atan2" else torch.optim.AdamW
    return make(groups, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)

"""Optimizers of TRM: AdamW, AdamATan2 as published, or Muon for matrices; the conditioning's tables on their own, by
the same kind or, as published, by SignSGD on the rows that a batch has touched."""

from typing import Any

import torch
from torch import Tensor, nn

OPTIMIZERS = ("muon", "adamw", "adam_atan2")
TABLES = ("adam", "signsgd")


class AdamATan2(torch.optim.Optimizer):
    """Adam whose step is atan2(m, √v) in place of m / (√v + ε): no ε, and no step longer than lr · π/2.

    Everett et al. 2024, "Scaling Exponents Across Parameterizations and Optimizers". Decoupled weight decay. As in the
    CUDA package that the published TRM is trained with, m's bias is corrected outside of the atan2, v's inside.
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
        spread = (state["v"] / (1 - second ** state["step"])).sqrt()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(torch.atan2(state["m"], spread), alpha=-group["lr"] / (1 - first ** state["step"]))


class TableSignSGD(torch.optim.Optimizer):
    """Rows that have a gradient take a step of lr against its sign, and decay; the others are not touched.

    It keeps no state: of a table with a row for each of a million augmented tasks, Adam's would be two more.
    """

    def __init__(self, params, lr: float = 1e-2, weight_decay: float = 0.1):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, group)

    def _update(self, table: Tensor, group: dict) -> None:
        rows = table.grad.any(1).nonzero()[:, 0]
        moved = table[rows] * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * table.grad[rows].sign()
        table.index_copy_(0, rows, moved)


def build_optimizers(
    model: nn.Module,
    kind: str,
    *,
    lr: float,
    lr_matrices: float,
    lr_tasks: float,
    weight_decay: float,
    tables_by: str = "adam",
    weight_decay_tasks: float = 0.0,
) -> list[torch.optim.Optimizer]:
    """One to three optimizers that share all parameters of a TRM among them.

    The conditioning's tables get `lr_tasks` and `weight_decay_tasks`: with "adam" a row would shrink whenever its task
    is not in the batch, with "signsgd" it does so in steps of its own alone. `muon`: the blocks' matrices with
    `lr_matrices`. Raises ValueError on another kind.
    """
    for name, value, allowed in (("optimizer", kind, OPTIMIZERS), ("tables_by", tables_by, TABLES)):
        if value not in allowed:
            raise ValueError(f"{name} = {value!r}: must be one of {', '.join(allowed)}")
    tables = [p for n, p in model.named_parameters() if n.startswith("conditioner.")]
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    taken = {id(p) for p in [*tables, *matrices]}
    rest = [p for p in model.parameters() if id(p) not in taken]
    made: list[torch.optim.Optimizer] = []
    if tables and tables_by == "signsgd":
        made.append(TableSignSGD(tables, lr_tasks, weight_decay_tasks))
    if kind == "muon":
        made.append(torch.optim.Muon(matrices, lr=lr_matrices, momentum=0.95, weight_decay=weight_decay))
    groups: list[dict[str, Any]] = [{"params": rest if kind == "muon" else [*matrices, *rest]}]
    if tables and tables_by == "adam":
        groups.append({"params": tables, "lr": lr_tasks, "weight_decay": weight_decay_tasks})
    make = AdamATan2 if kind == "adam_atan2" else torch.optim.AdamW
    return [*made, make(groups, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)]

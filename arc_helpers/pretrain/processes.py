"""The processes of one training run: `torchrun` starts several, otherwise there is one.

All draw the same batches, each trains on its own rows, and the gradients are summed. So the number of processes changes
nothing but rounding, and a run may be resumed with another number. (torch's DistributedDataParallel averages over
processes, which would be wrong where they have unequal numbers of counted tokens.) Drawing takes about 0.7 ms a
document and process.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from arc_helpers.runs import take_gpu


@dataclass(frozen=True)
class Processes:
    """This process's number and how many there are."""

    rank: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> "Processes":
        """Those of torchrun (it sets RANK, WORLD_SIZE and LOCAL_RANK); otherwise this one alone. Joins the group:
        NCCL where there is a GPU for each process, else gloo."""
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return cls()
        on_gpu = take_gpu(int(os.environ.get("LOCAL_RANK", 0)))
        if not dist.is_initialized():
            dist.init_process_group("nccl" if on_gpu else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes, prints and evaluates."""
        return self.rank == 0

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over all processes, in place, in one message."""
        if self.count == 1:
            return
        tensors = list(tensors)
        flat = _flatten_dense_tensors(tensors)
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
            tensor.copy_(summed)

    def from_first(self, value: float, device: torch.device) -> float:
        """The first process's value: clocks differ, and what they decide must not."""
        if self.count == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(tensor, 0)
        return tensor.item()

    def close(self) -> None:
        """Wait for the others and leave the group."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()

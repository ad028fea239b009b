"""The processes of a torchrun; one process alone needs no torch.distributed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


class Ranks:
    """Which of how many processes this one is, and what they do together. `init_process_group` is the script's part."""

    device: torch.device | None = None

    def __init__(self):
        self.many = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self.many else 0
        self.size = dist.get_world_size() if self.many else 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, whose backward averages gradients over all processes. What they tell each other is where it is."""
        self.device = next(model.parameters()).device
        return nn.parallel.DistributedDataParallel(model) if self.many else model

    def holding(self, model: nn.Module, held: bool) -> AbstractContextManager:
        """Where `held`, a backward inside averages nothing yet: more of the same step is to come."""
        return model.no_sync() if self.many and held else nullcontext()  # type: ignore[operator]

    def agree(self, value: float) -> float:
        """The first process' value, everywhere."""
        return self._reduced([value if self.first else 0.0])[0] if self.many else value

    def total(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Sums over all processes."""
        values = [float(value) for value in sums.values()]
        return dict(zip(sums, self._reduced(values) if self.many else values, strict=True))

    def gather(self, value: Any) -> list[Any]:
        """One value a process, in the first process; what the others get is of no use."""
        if not self.many:
            return [value]
        every = [None] * self.size if self.first else None
        dist.gather_object(value, every)
        return every or []

    def wait(self) -> None:
        """Until all processes are here: a file that the first one wrote is then whole for the others."""
        if self.many:
            dist.barrier()

    def _reduced(self, values: list[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

"""One row of numbers a slot: where K adapters keep their weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class SlotBank(nn.Module):
    """Stacked parameters of K slots, held in one matrix `flat` [K, P]; row k is all there is to know of slot k.

    `bank["name"]` is a parameter [K, *shape], a view into `flat`; its gradient is a view into `grad` [K, P]. So an
    optimizer step, a clip, a snapshot, a reset or a move of a slot is an operation on rows, whatever the layers are.
    """

    def __init__(
        self,
        num_slots: int,
        shapes: Mapping[str, Sequence[int]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]
        self.flat = torch.zeros(num_slots, sum(sizes), device=device, dtype=dtype)
        self.grad = torch.zeros_like(self.flat)
        self._views: dict[str, nn.Parameter] = {}
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        for (name, shape), start, end in zip(shapes.items(), ends, ends[1:], strict=False):
            view = nn.Parameter(self.flat[:, start:end].view(num_slots, *shape))
            view.grad = self.grad[:, start:end].view(num_slots, *shape)  # autograd adds to it in place
            self._views[name] = view

    def __getitem__(self, name: str) -> nn.Parameter:
        return self._views[name]

    def __contains__(self, name: str) -> bool:
        return name in self._views

    @property
    def names(self) -> list[str]:
        return list(self._views)

    def slot(self, k: int) -> dict[str, Tensor]:
        """Copies of one slot's tensors, by name."""
        return {name: view[k].detach().clone() for name, view in self._views.items()}

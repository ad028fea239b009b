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
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]
        self.flat = torch.zeros(num_slots, sum(sizes), device=device, dtype=dtype)
        self.grad: Tensor | None = torch.zeros_like(self.flat)
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self._columns = {
            name: (slice(start, end), tuple(shape))
            for (name, shape), start, end in zip(shapes.items(), ends, ends[1:], strict=False)
        }
        self._views = {name: self._view(name, 0, num_slots) for name in shapes}
        self._parts: dict[tuple[str, int, int], nn.Parameter] = {}

    def __getitem__(self, name: str) -> nn.Parameter:
        return self._views[name]

    def rows(self, name: str, first: int, end: int) -> nn.Parameter:
        """`bank[name][first:end]` as a parameter of its own, whose gradient lands in the same place.

        (That of a slice would be made as zeros for all K slots and then added, once a slice.)
        """
        if (first, end) == (0, len(self.flat)):
            return self._views[name]
        key = (name, first, end)
        if key not in self._parts:
            self._parts[key] = self._view(name, first, end)
        return self._parts[key]

    def __contains__(self, name: str) -> bool:
        return name in self._views

    @property
    def names(self) -> list[str]:
        return list(self._views)

    def slot(self, k: int) -> dict[str, Tensor]:
        """Copies of one slot's tensors, by name."""
        return {name: view[k].detach().clone() for name, view in self._views.items()}

    def free_gradients(self) -> None:
        """From now on there are none, and nothing can be trained."""
        self.grad = None
        for view in (*self._views.values(), *self._parts.values()):
            view.grad = None

    def _view(self, name: str, first: int, end: int) -> nn.Parameter:
        columns, shape = self._columns[name]
        view = nn.Parameter(self.flat[first:end, columns].view(end - first, *shape))
        if self.grad is not None:
            view.grad = self.grad[first:end, columns].view(end - first, *shape)  # autograd adds to it in place
        return view

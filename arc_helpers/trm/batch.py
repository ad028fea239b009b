"""A batch of canvases with what conditions them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Batch:
    """B questions on canvases of the same number of cells N; all int64.

    cells: [B, N] tokens of the input canvas, row after row. width: [B] cells in a row of the canvas.
    identifier: [B] row of (task, augmentation), 0 = blank. task: [B] row of the task, 0 = blank.
    symmetry: [B] index into DIHEDRAL. colors: [B, 10] the new colour of each colour.
    labels: [B, N] tokens of the output canvas, PAD where nothing is asked; None for a query.
    draft: [B, N] tokens of an answer to be mended (`TRMConfig.mends`), PAD where there is none; or None.
    """

    cells: Tensor
    width: Tensor
    identifier: Tensor
    task: Tensor
    symmetry: Tensor
    colors: Tensor
    labels: Tensor | None = None
    draft: Tensor | None = None

    @classmethod
    def of(cls, cells: Tensor, width: int | Tensor, labels: Tensor | None = None, **given: Tensor) -> "Batch":
        """A batch in which whatever is not given is blank, or left as it is."""
        n, device = len(cells), cells.device
        zeros = torch.zeros(n, dtype=torch.int64, device=device)
        blank = {
            "identifier": zeros,
            "task": zeros,
            "symmetry": zeros,
            "colors": torch.arange(10, device=device).repeat(n, 1),
        }
        width = zeros + width
        return cls(cells.long(), width, **{**blank, **given}, labels=None if labels is None else labels.long())

    def __len__(self) -> int:
        return len(self.cells)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, those that are there."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def cpu(self) -> "Batch":
        """The same batch in the host's memory."""
        return Batch(**{name: tensor.cpu() for name, tensor in self.tensors().items()})

    def rows(self, index: Tensor) -> "Batch":
        """The rows that an index or a mask chooses."""
        return Batch(**{name: tensor[index] for name, tensor in self.tensors().items()})

    def put(self, mask: Tensor, other: "Batch") -> None:
        """Write the rows of `other` over those that `mask` [B] chooses."""
        theirs = other.tensors()
        for name, tensor in self.tensors().items():
            tensor[mask] = theirs[name]

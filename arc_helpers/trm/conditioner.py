"""What tells TRM which task it is on: P vectors in front of the cells, [B, P, D].

A conditioner is any module that makes these from a batch; a language model's states can take its place (hybrid).
"""

import torch
from torch import Tensor, nn

from arc_helpers.trm.batch import Batch

#: row 0 of every table: no task. It is never trained and stays zero, so it is the control without an identity.
BLANK = 0


def _table(rows: int, width: int, blank: int | None = None) -> nn.Embedding:
    """A table of zeros; no gradient reaches row `blank`."""
    table = nn.Embedding(rows, width, padding_idx=blank)
    nn.init.zeros_(table.weight)
    return table


class IdentifierConditioner(nn.Module):
    """As published: a vector for each (task, augmentation), zero-padded to the P positions.

    One vector fills the first position; the others are blank registers.
    """

    def __init__(self, num_rows: int, prefix_len: int, hidden_size: int):
        super().__init__()
        self.prefix_len = prefix_len
        self.task = _table(num_rows, hidden_size, BLANK)

    def forward(self, batch: Batch) -> Tensor:
        vector = self.task(batch.identifier)[:, None]  # [B, 1, D]
        return nn.functional.pad(vector, (0, 0, 0, self.prefix_len - 1))


class SharedConditioner(nn.Module):
    """One set of vectors a task for all its augmentations, and one vector each for symmetry and colours.

    The P positions hold P − 2 vectors of the task, the one of its symmetry (of 8), and the sum of ten vectors
    that say what became of each colour.
    """

    def __init__(self, num_rows: int, prefix_len: int, hidden_size: int):
        super().__init__()
        self.shape = prefix_len - 2, hidden_size
        self.task = _table(num_rows, (prefix_len - 2) * hidden_size, BLANK)
        self.symmetry = _table(8, hidden_size)
        self.color = _table(100, hidden_size)

    def forward(self, batch: Batch) -> Tensor:
        task = self.task(batch.task).unflatten(-1, self.shape)  # [B, P - 2, D]
        color = self.color(batch.colors + 10 * torch.arange(10, device=batch.colors.device)).sum(1)  # [B, D]
        return torch.cat([task, self.symmetry(batch.symmetry)[:, None], color[:, None]], dim=1)


CONDITIONERS = {"identifier": IdentifierConditioner, "shared": SharedConditioner}

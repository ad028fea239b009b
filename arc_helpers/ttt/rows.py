"""Which adapter each row of a batch goes through, and products with the weights of those adapters."""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from arc_helpers.ttt.bank import SlotBank


class Rows:
    """A batch of S equal blocks of rows, block i of slot slots[i]; None: one block for each slot of the bank, in order.

    Blocks in the order of neighbouring slots, one each or equally many, are multiplied where they stand. In any other
    order their activations are moved into such blocks, padded with zeros, and back: never the weights, which are much
    larger. Slots between the first and the last that have no rows are multiplied with zeros; only where most have none
    are the weights of the others gathered.
    """

    def __init__(self, bank: SlotBank, slots: Sequence[int] | None = None):
        self.bank, device = bank, bank.flat.device
        slots = list(range(len(bank.flat)) if slots is None else slots)
        counts = Counter(slots)
        known, room = sorted(counts), max(counts.values(), default=0)  # room: blocks a slot
        self.blocks = len(slots)
        self._first, self._end = (known[0], known[-1] + 1) if known else (0, 0)
        self._picked = None  # slots whose weights are gathered
        places = {slot: slot - self._first for slot in known}  # of a slot among the weights in use
        if 2 * len(known) < self._end - self._first:
            self._picked = torch.tensor(known, device=device)
            places = {slot: i for i, slot in enumerate(known)}
        self._slots = len(known) if self._picked is not None else self._end - self._first
        self._places = torch.tensor([places[slot] for slot in slots], dtype=torch.long, device=device)  # [S]
        seen, order = Counter(), []  # where each block stands among padded blocks
        for slot in slots:
            order.append(places[slot] * room + seen[slot])
            seen[slot] += 1
        self._padded = self._slots * room
        in_order = order == list(range(self._padded))
        self._order = None if in_order else torch.tensor(order, device=device)
        self._one_each = in_order and room == 1

    def __len__(self) -> int:
        return self.blocks

    def weights(self, name: str) -> Tensor:
        """The bank's tensor `name` for the slots in use, [n, *shape]; its gradient goes to the bank."""
        if self._picked is not None:
            return self.bank[name].index_select(0, self._picked)
        return self.bank.rows(name, self._first, self._end)

    def add_product(self, output: Tensor, x: Tensor, *factors: Tensor, scale: float = 1.0) -> Tensor:
        """output + scale · x f_1 … f_n, each row with its slot's factors; in place where nothing is differentiated.

        x [N, …, d], output [N, …, e], factors [n, d, …] to [n, …, e] in the order of `weights`.
        """
        product = self._gathered(x)  # [n, m, d]
        for factor in factors[:-1]:
            product = torch.bmm(product, factor)
        if self._order is None:
            out = output.reshape(self._slots, -1, output.shape[-1])
            add = torch.baddbmm if torch.is_grad_enabled() else Tensor.baddbmm_
            return add(out, product, factors[-1], alpha=scale).view_as(output)
        product = torch.bmm(product, factors[-1]).view(self._padded, -1, output.shape[-1])
        return torch.add(output, product.index_select(0, self._order).view_as(output), alpha=scale)

    def scaled(self, x: Tensor, factors: Tensor) -> Tensor:
        """x [N, …, d], each row times its slot's factors [n, d]."""
        own = factors if self._one_each else factors.index_select(0, self._places)  # [S, d]
        return (self._in_blocks(x) * own[:, None]).view_as(x)

    def looked_up(self, ids: Tensor, tables: Tensor) -> Tensor:
        """Rows of each slot's own table: [N, T, d] of ids [N, T] and tables [n, V, d]."""
        first = self._places[:, None] * tables.shape[1]  # [S, 1]
        ids = self._in_blocks(ids[..., None]).squeeze(-1) + first
        return F.embedding(ids, tables.flatten(0, 1))

    def _gathered(self, x: Tensor) -> Tensor:
        """x [N, …, d] as one block a slot in use, [n, m, d]."""
        if self._order is not None:
            blocks = self._in_blocks(x)
            # not index_select: a slot without rows may hold NaN, which must find no way back through a gradient
            x = blocks.new_zeros(self._padded, *blocks.shape[1:]).index_copy(0, self._order, blocks)
        elif len(x) % self.blocks:
            raise ValueError(f"{len(x)} rows for {self.blocks} slots: must be a multiple")
        return x.reshape(self._slots, -1, x.shape[-1])

    def _in_blocks(self, x: Tensor) -> Tensor:
        """x [N, …, d] as [S, m, d]."""
        if self.blocks == 0 or len(x) % self.blocks:
            raise ValueError(f"{len(x)} rows for {self.blocks} slots: must be a multiple")
        return x.reshape(self.blocks, -1, x.shape[-1])

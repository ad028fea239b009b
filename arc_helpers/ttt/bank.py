"""Where K adapters keep their weights, one row of numbers a slot; which of them each row of a batch goes through."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
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

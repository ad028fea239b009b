"""The cards: how much memory each has, what is on it, and its random numbers."""

import os
import weakref

import torch

GIB = 2**30
ROUND = 512  # bytes: CUDA's caching allocator gives out whole multiples
NAMES = {(7, 5): "Tesla T4", (8, 0): "NVIDIA A100-SXM4-40GB", (8, 9): "NVIDIA L4", (9, 0): "NVIDIA H100 80GB HBM3"}
MEMORY_GIB = {(7, 5): 14.58, (8, 0): 39.4, (8, 9): 22.0, (9, 0): 79.1}


class Card:
    """One simulated GPU. allocated, peak: bytes of the storages on it."""

    def __init__(self, index: int, capability: tuple[int, int], memory_gib: float | None):
        self.index, self.capability = index, capability
        self.name = NAMES.get(capability, "NVIDIA GPU") + " (simulated)"
        self.total = int((MEMORY_GIB.get(capability, 16.0) if memory_gib is None else memory_gib) * GIB)
        self.allocated = self.peak = self.ooms = 0
        self.generator = torch._C.Generator()

    def take(self, size: int) -> "Block":
        """Room for a storage of so many bytes; raises torch.OutOfMemoryError as CUDA does."""
        size = -(-size // ROUND) * ROUND
        if self.allocated + size > self.total:
            self.ooms += 1
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU {self.index} has a total capacity "
                f"of {self.total / GIB:.2f} GiB of which {(self.total - self.allocated) / 2**20:.2f} MiB is free."
            )
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        return Block(self, size)


class Block:
    """A storage's bytes on a card: given back when the last tensor that holds it goes."""

    __slots__ = ("__weakref__", "card", "size")

    def __init__(self, card: Card, size: int):
        self.card, self.size = card, size

    def __del__(self):
        self.card.allocated -= self.size


class Machine:
    """All cards of a simulation, and which one is current."""

    def __init__(self, capability: tuple[int, int], memory_gib: float | None, devices: int):
        self.cards = [Card(index, capability, memory_gib) for index in range(devices)]
        self.current = 0
        self.generators: dict[int, int] = {card.generator._cdata: card.index for card in self.cards}
        self._blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()

    def count(self) -> int:
        """How many cards CUDA_VISIBLE_DEVICES leaves."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return len(self.cards) if visible is None else min(len(self.cards), len([v for v in visible.split(",") if v]))

    def index(self, device: "torch.device | str | int | None") -> int:
        """A card's number, out of whatever names a device; None and "cuda" mean the current one."""
        if isinstance(device, str):
            device = torch.device(device)
        number = device.index if isinstance(device, torch.device) else device
        number = self.current if number is None else number
        if not 0 <= number < self.count():
            raise RuntimeError(f"CUDA error: invalid device ordinal ({number} of {self.count()})")
        return number

    def block(self, storage: torch.UntypedStorage, index: int) -> Block:
        """The block of a storage, taken from the card the first time it is seen."""
        key = storage._cdata
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = self.cards[index].take(storage.nbytes())
        return block

    def generator(self, given: "torch.Generator | None", index: int) -> torch.Generator:
        """The generator an operator on a card draws from; raises where a CPU's was given."""
        if given is None:
            return self.cards[index].generator
        if self.generators.get(given._cdata) is None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return given

"""Prompts, read once: the keys and values that writing answers and scoring them both go on from."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from arc_helpers.ttt.limits import CPU_TOKENS
from arc_helpers.ttt.multilora import MultiLoRAModel

KEPT = 0.25  # of the memory that is free, for keys and values that are needed again
States = list[tuple[Tensor, Tensor]]  # keys and values [heads, n, d] of every layer


class RoomyLayer(DynamicLayer):
    """A layer's keys and values in buffers with room for more: only what is new or moves is copied.

    `DynamicLayer` concatenates: it copies the whole cache for every token, half of a step's time on a CPU.
    """

    room = 64  # tokens

    @classmethod
    def holding(cls, keys: Tensor, values: Tensor) -> "RoomyLayer":
        """A layer that begins with these, [N, heads, n, d]; they are its buffers."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = layer.buffers = keys, values
        return layer

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Append [N, heads, n, d]; returns all keys and values so far, views of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self.buffers = self.keys, self.values
        rows, old = len(key_states), self.keys.shape[2]
        new = old + key_states.shape[2]
        if new > self.buffers[0].shape[2]:
            self._reserve(rows, new + self.room)
        self.keys, self.values = (buffer[:rows, :, :new] for buffer in self.buffers)
        self.keys[:, :, old:], self.values[:, :, old:] = key_states, value_states
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows [n]; those that stay where they are are not copied."""
        rows, length = len(indices), self.keys.shape[2]
        moved = (indices != torch.arange(rows, device=indices.device)).nonzero()[:, 0]
        keys, values = self.keys[indices[moved]], self.values[indices[moved]]
        if rows > len(self.buffers[0]):
            self._reserve(rows + rows // 4, self.buffers[0].shape[2])
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self.buffers)
        self.keys[moved], self.values[moved] = keys, values

    def _reserve(self, rows: int, length: int) -> None:
        """Larger buffers that begin with what there is."""
        states = self.keys, self.values
        self.buffers = tuple(x.new_empty(rows, x.shape[1], length, x.shape[3]) for x in states)
        for buffer, x in zip(self.buffers, states, strict=True):
            buffer[: len(x), :, : x.shape[2]] = x


class Reading:
    """Reads prompts, all but their last token, whose state predicts the answer's first.

    Prompts of one length are read together, as many as a CPU's caches like: nothing is padded or masked. What has room
    in `room` bytes is kept for the next time it is asked for; the adapters must not change in between.
    """

    def __init__(self, model: MultiLoRAModel, room: float = 0.0):
        self.model, self.room = model, room
        self._kept: dict[tuple[int, bytes], States] = {}

    def forget(self) -> None:
        """Give up what is kept, and keep nothing from now on."""
        self._kept, self.room = {}, 0.0

    @torch.no_grad()
    def cache(self, prompts: Sequence[np.ndarray], slots: Sequence[int], counts: Sequence[int] | None = None) -> Cache:
        """A cache of the prompts (int64 [T] each), padded on the left, each with its adapter slots[i], in counts[i]
        rows (one)."""
        width, ends = max(map(len, prompts)) - 1, np.cumsum(counts or [1] * len(prompts))
        layers: list[RoomyLayer] = []
        for i, states in self._read(prompts, slots):
            if not layers:
                layers = [RoomyLayer.holding(*(_empty(x, int(ends[-1]), width) for x in pair)) for pair in states]
            rows = slice(int(ends[i - 1]) if i else 0, int(ends[i]))
            for layer, pair in zip(layers, states, strict=True):
                for buffer, own in zip(layer.buffers, pair, strict=True):
                    buffer[rows, :, width - own.shape[1] :] = own
        return Cache(layers=layers) if layers else Cache(layer_class_to_replicate=RoomyLayer)

    def _read(self, prompts: Sequence[np.ndarray], slots: Sequence[int]) -> Iterator[tuple[int, States]]:
        """(index, states) of every prompt that has more than one token: first those that were kept."""
        names = [(slot, prompt.tobytes()) for slot, prompt in zip(slots, prompts, strict=True)]
        waiting: dict[int, list[int]] = {}
        for i, prompt in enumerate(prompts):
            if names[i] in self._kept:
                yield i, self._kept[names[i]]
            elif len(prompt) > 1:
                waiting.setdefault(len(prompt), []).append(i)
        for length, same in waiting.items():
            at_once = max(1, CPU_TOKENS // length) if self.model.lm.device.type == "cpu" else len(same)
            for first in range(0, len(same), at_once):
                some = same[first : first + at_once]
                states = self._states(np.stack([prompts[i] for i in some]), [slots[i] for i in some])
                size = sum(x.nbytes for pair in states for x in pair)
                keep = size <= self.room
                self.room -= size if keep else 0
                for row, i in enumerate(some):
                    own = [(keys[row], values[row]) for keys, values in states]
                    if keep:
                        self._kept[names[i]] = own
                    yield i, own

    def _states(self, prompts: np.ndarray, slots: list[int]) -> States:
        """Keys and values [N, heads, T - 1, d] of prompts [N, T]."""
        lm = self.model.lm
        ids = torch.from_numpy(prompts).to(lm.device)
        positions = lm.positions(ids)[:, :-1]
        read = self.model.hidden(ids[:, :-1], torch.tensor(slots), position_ids=positions, use_cache=True)
        return [(layer.keys, layer.values) for layer in read.past_key_values.layers]


def _empty(like: Tensor, rows: int, width: int) -> Tensor:
    return like.new_zeros(rows, like.shape[0], width, like.shape[2])  # zeros: what is masked must be finite, too

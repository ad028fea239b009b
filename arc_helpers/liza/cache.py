"""Cache layers that hold LiZA's memory beside keys and values, so that both share one life: beams, resets, batches."""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class LizaLayer(DynamicLayer):
    """Keys and values of one layer, and `memory`: tensors by name, the batch first, that have seen the same tokens."""

    def __init__(self, **options):
        super().__init__(**options)
        self.memory: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.memory = {}

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ValueError unless nothing is to be removed: a recurrent memory cannot be turned back."""
        if tokens_to_remove:
            raise ValueError(
                f"crop({tokens_to_remove}): LiZA's memory cannot forget its last tokens; start a new cache"
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam search: row i becomes what row beam_idx[i] was."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows of the batch."""
        super().batch_select_indices(indices)
        self.memory = {name: x[indices.to(x.device)] for name, x in self.memory.items()}

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch."""
        super().batch_repeat_interleave(repeats)
        self.memory = {name: x.repeat_interleave(repeats, dim=0) for name, x in self.memory.items()}

    def tensors(self) -> list[Tensor]:
        """Everything that is held."""
        return [x for x in (self.keys, self.values, *self.memory.values()) if x is not None]


class WindowLayer(LizaLayer):
    """Keys and values of the first `sinks` and the last `window` tokens only; `seen` tokens went through."""

    def __init__(self, window: int, sinks: int):
        super().__init__()
        self.window, self.sinks, self.seen = window, sinks, 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add [B, H, L, D] of new tokens. Returns keys and values that they may attend to."""
        if self.is_initialized:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.seen += keys.shape[2] - self.held
        self.keys, self.values, self.is_initialized = self._kept(keys), self._kept(values), True
        return keys, values

    @property
    def held(self) -> int:
        """Tokens whose keys and values are here."""
        return self.keys.shape[2] if self.is_initialized else 0

    def positions(self) -> Tensor:
        """Positions of the tokens held: the sinks, then the last window − 1; int64 [held]."""
        recent = torch.arange(self.seen - self.held, self.seen)
        return torch.where(torch.arange(self.held) < self.sinks, torch.arange(self.held), recent)

    def _kept(self, x: Tensor) -> Tensor:
        if x.shape[2] < self.sinks + self.window:
            return x
        recent = x.shape[2] - self.window + 1
        return torch.cat([x[:, :, : self.sinks], x[:, :, recent:]], dim=2)  # a copy: the rest is freed

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        """Raises TypeError: only a WindowedAttention knows what to do with the positions."""
        raise TypeError("WindowLayer: this cache belongs to windowed attention; call set_window on the model first")

    def get_seq_length(self) -> int:
        """Tokens that went through, not tokens that are held: what positions are counted by."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(columns, offset) of the mask that the model prepares: the new tokens alone."""
        return query_length, self.seen

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.seen = 0


def memory_layer(cache: Cache, index: int) -> LizaLayer:
    """Layer `index` of a cache, made one of ours while it is still empty, so that any fresh DynamicCache will do.

    Raises ValueError, one line, where another model has filled the cache.
    """
    while len(cache.layers) <= index:
        cache.layers.append(DynamicLayer())
    layer = cache.layers[index]
    if not isinstance(layer, LizaLayer):
        if layer.get_seq_length():
            raise ValueError(f"cache layer {index} ({layer!r}) was filled without LiZA: start a new cache")
        layer = cache.layers[index] = LizaLayer()
    return layer


def window_layer(cache: Cache, index: int, window: int, sinks: int) -> WindowLayer:
    """The same for windowed attention; a memory that has seen the new tokens already is kept.

    Raises ValueError, one line, where the cache was filled by full attention or with another window.
    """
    layer = memory_layer(cache, index)
    if isinstance(layer, WindowLayer) and (layer.window, layer.sinks) == (window, sinks):
        return layer
    if layer.get_seq_length():
        raise ValueError(f"cache layer {index} ({layer!r}) was filled by another kind of attention: start a new cache")
    fresh = WindowLayer(window, sinks)
    fresh.memory = layer.memory
    cache.layers[index] = fresh
    return fresh


def cache_bytes(cache: Cache) -> int:
    """Bytes of memory behind everything that a cache holds, views counted by what they keep alive."""
    storages = {}
    for layer in cache.layers:
        tensors = layer.tensors() if isinstance(layer, LizaLayer) else [layer.keys, layer.values]
        for tensor in tensors:
            if tensor is not None:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())

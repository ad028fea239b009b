"""Multi-query associative recall (zoology, arXiv 2312.04927): key value key value … noise … key value?

All keys of a text differ, values are drawn evenly, so a value that cannot be looked up costs ln(n_values) nats.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from arc_helpers.memory.meta import Batch


@dataclass(frozen=True)
class MQAR:
    """The task. Ids: keys, then values, then noise. Raises ValueError where the pairs do not fit."""

    pairs: int = 32
    length: int = 256
    n_keys: int = 64
    n_values: int = 64
    n_noise: int = 16
    seed: int = 0

    def __post_init__(self):
        if self.pairs > self.n_keys or 4 * self.pairs > self.length:
            most = min(self.n_keys, self.length // 4)
            raise ValueError(f"pairs = {self.pairs}: must be at most {most} for {self.n_keys} keys, T = {self.length}")

    @property
    def vocab_size(self) -> int:
        return self.n_keys + self.n_values + self.n_noise

    @property
    def gap(self) -> int:
        """Tokens between the last pair and the first query."""
        return self.length - 4 * self.pairs

    def batch(self, step: int, size: int) -> tuple[Batch, torch.Tensor]:
        """Texts [size, length + 1] of a step, and answers bool [size, length + 1]: the values asked for."""
        rng = np.random.default_rng(zlib.crc32(f"mqar/{self.seed}/{step}".encode()))
        rows = np.stack([self._text(rng) for _ in range(size)])
        answers = np.zeros(rows.shape, dtype=bool)
        answers[:, self.length - 2 * self.pairs + 1 : self.length : 2] = True
        return Batch(torch.from_numpy(rows)), torch.from_numpy(answers)

    def _text(self, rng: np.random.Generator) -> np.ndarray:
        keys = rng.permutation(self.n_keys)[: self.pairs]
        values = rng.integers(self.n_values, size=self.pairs) + self.n_keys
        told = np.stack([keys, values], axis=1)
        noise = rng.integers(self.n_noise, size=self.gap + 1) + self.n_keys + self.n_values
        asked = told[rng.permutation(self.pairs)]
        return np.concatenate([told.ravel(), noise[:-1], asked.ravel(), noise[-1:]])

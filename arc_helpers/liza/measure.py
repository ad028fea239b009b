"""What LiZA is worth and what it costs: loss by position, paired intervals, time and bytes of decoding by context."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from arc_helpers.liza.cache import cache_bytes
from arc_helpers.liza.checks import fresh_cache
from arc_helpers.liza.titanize import inner_model

#: 97.5 % points of Student's t for 1, 2, … degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)


@torch.no_grad()
def nll_by_position(model: nn.Module, rows: Tensor, batch: int = 2) -> np.ndarray:
    """Nats of each token given those before it: rows [n, L] → [n, L − 1]."""
    inner, found = inner_model(model), []
    inner.eval()
    for part in rows.to(inner.device).split(batch):
        logits = inner(input_ids=part, use_cache=False).logits[:, :-1].float()
        found.append(nn.functional.cross_entropy(logits.mT, part[:, 1:], reduction="none").cpu())
    return torch.cat(found).numpy()


@dataclass(frozen=True)
class DecodeCost:
    """After `context` tokens: median milliseconds a token, and bytes of the cache."""

    context: int
    ms: float
    bytes: int


@torch.no_grad()
def decode_cost(
    model: nn.Module, tokens: Tensor, contexts: Sequence[int], new: int = 24, block: int = 512
) -> list[DecodeCost]:
    """Greedy decoding of `new` tokens behind each of `contexts` tokens; the prompt goes in by blocks.

    tokens: [1, ≥ the largest context]. CPU seconds of this process on a CPU, wall-clock seconds on a GPU.
    """
    inner = inner_model(model).eval()
    on_gpu = inner.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    costs = []
    for context in contexts:
        cache = fresh_cache(model)
        for part in tokens[:, :context].to(inner.device).split(block, dim=1):
            logits = inner(input_ids=part, past_key_values=cache, use_cache=True).logits
        seconds = []
        for _ in range(new):
            token = logits[:, -1:].argmax(dim=-1)
            began = clock()
            logits = inner(input_ids=token, past_key_values=cache, use_cache=True).logits
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(clock() - began)
        costs.append(DecodeCost(context, 1000 * statistics.median(seconds), cache_bytes(cache)))
    return costs


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}] (n = {self.n})"


def paired_interval(ours: Sequence[float], control: Sequence[float]) -> Interval:
    """Student's interval of the mean of `ours − control`, one pair a seed. Raises ValueError but for 2 to 15 pairs."""
    differences = [a - b for a, b in zip(ours, control, strict=True)]
    n = len(differences)
    if not 2 <= n <= len(STUDENT) + 1:
        raise ValueError(f"{n} pairs: an interval needs 2 to {len(STUDENT) + 1}")
    mean = statistics.fmean(differences)
    half = STUDENT[n - 2] * statistics.stdev(differences) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)

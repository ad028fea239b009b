"""Which tasks train together: sequences of like length, so that little of a batch is padding."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def length_groups(items: Sequence[T], lengths: Sequence[int], k: int) -> list[list[T]]:
    """Groups of k items (the last may be smaller), shortest first; ties keep their order."""
    if k < 1:
        raise ValueError(f"k = {k}: must be >= 1")
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    return [[items[i] for i in order[first : first + k]] for first in range(0, len(order), k)]


def padding_ratio(groups: Sequence[Sequence[int]]) -> float:
    """Padded tokens over real tokens, of groups given as lengths: 1.0 is no padding."""
    real = sum(sum(group) for group in groups)
    return sum(max(group) * len(group) for group in groups if group) / real if real else 1.0

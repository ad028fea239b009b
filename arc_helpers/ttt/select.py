"""From candidate grids of several views to two attempts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Candidate:
    """An answer seen in one view, already turned back to the task's own orientation and colours."""

    grid: np.ndarray  # int8 [H, W]
    view: str  # the transform's name
    logprob: float  # mean natural log-probability a token


@dataclass(frozen=True, eq=False)
class Ranked:
    """A distinct grid with the views that gave it."""

    grid: np.ndarray
    votes: int
    logprob: float  # mean over its views, a token
    views: tuple[str, ...]
    product: float | None = None  # sum of its log-probabilities under every view, where it was scored


def vote(candidates: Sequence[Candidate]) -> list[Ranked]:
    """Distinct grids, most votes first, then the higher mean log-probability a token."""
    groups: dict[tuple, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.grid.shape, candidate.grid.tobytes()), []).append(candidate)
    ranked = [
        Ranked(g[0].grid, len(g), float(np.mean([c.logprob for c in g])), tuple(c.view for c in g))
        for g in groups.values()
    ]
    return sorted(ranked, key=lambda r: (-r.votes, -r.logprob))


def product_of_experts(ranked: Sequence[Ranked], logprobs: np.ndarray) -> list[Ranked]:
    """The same grids ordered by the sum of their log-probabilities over views; logprobs is [views, grids].

    Every grid is scored in the same views, also in those that did not propose it: what one view finds likely and
    another impossible is wrong (Franzen et al., "Product of Experts with LLMs", 2025).
    """
    scored = [replace(r, product=float(total)) for r, total in zip(ranked, logprobs.sum(axis=0), strict=True)]
    return sorted(scored, key=lambda r: -r.product)


def two_attempts(ranked: Sequence[Ranked]) -> tuple[np.ndarray, np.ndarray] | None:
    """The two best grids; the one grid twice if all views agree; None without any candidate."""
    if not ranked:
        return None
    return ranked[0].grid, ranked[min(1, len(ranked) - 1)].grid

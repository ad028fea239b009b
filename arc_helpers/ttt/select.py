"""From candidate grids of several views to two attempts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from arc_helpers.arc import Pair

#: a grid's score from its votes [grids] and its log-probabilities under every view [views, grids]
SCORES = {
    "product": lambda votes, logprobs: logprobs.sum(axis=0),
    "count_mean": lambda votes, logprobs: votes + logprobs.mean(axis=0),
    "max": lambda votes, logprobs: logprobs.max(axis=0),
}


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


def vote(candidates: Sequence[Candidate], demonstrations: Sequence[Pair] = ()) -> list[Ranked]:
    """Distinct grids, most votes first, then the higher mean log-probability a token.

    Among equal votes, a grid of one colour comes last where no demonstration's output is of one colour.
    """
    groups: dict[tuple, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.grid.shape, candidate.grid.tobytes()), []).append(candidate)
    ranked = [
        Ranked(g[0].grid, len(g), float(np.mean([c.logprob for c in g])), tuple(c.view for c in g))
        for g in groups.values()
    ]
    suspicious = bool(demonstrations) and not any(is_uniform(pair.output) for pair in demonstrations)
    return sorted(ranked, key=lambda r: (-r.votes, suspicious and is_uniform(r.grid), -r.logprob))


def order_by(strategy: str, ranked: Sequence[Ranked], logprobs: np.ndarray) -> list[Ranked]:
    """The same grids, the highest of `SCORES[strategy]` first; logprobs is [views, grids].

    Every grid is scored in the same views, also in those that did not propose it. Ties keep their order. Raises
    ValueError, one line, on an unknown strategy.
    """
    if strategy not in SCORES:
        raise ValueError(f"strategy = {strategy!r}: must be one of {', '.join(SCORES)}")
    scores = SCORES[strategy](np.array([r.votes for r in ranked]), logprobs)
    scored = [replace(r, product=float(total)) for r, total in zip(ranked, logprobs.sum(axis=0), strict=True)]
    return [scored[i] for i in np.argsort(-scores, kind="stable")]


def product_of_experts(ranked: Sequence[Ranked], logprobs: np.ndarray) -> list[Ranked]:
    """The same grids ordered by the sum of their log-probabilities over views; logprobs is [views, grids].

    What one view finds likely and another impossible is wrong (Franzen et al., "Product of Experts with LLMs", 2025).
    """
    return order_by("product", ranked, logprobs)


def same_size_first(ranked: Sequence[Ranked], demonstrations: Sequence[Pair], test_input: np.ndarray) -> list[Ranked]:
    """The same grids in the same order, but where every demonstration keeps its input's size, those that do so first.

    The others are not dropped: one of them may still be a second attempt.
    """
    if not all(pair.output.shape == pair.input.shape for pair in demonstrations):
        return list(ranked)
    return sorted(ranked, key=lambda r: r.grid.shape != test_input.shape)


def is_uniform(grid: np.ndarray) -> bool:
    """Whether a grid has one colour only."""
    return bool((grid == grid.flat[0]).all())


def two_attempts(ranked: Sequence[Ranked]) -> tuple[np.ndarray, np.ndarray] | None:
    """The two best grids, which differ; the one grid twice if there is no other; None without any candidate."""
    if not ranked:
        return None
    return ranked[0].grid, ranked[min(1, len(ranked) - 1)].grid

"""From candidate grids of several views to two attempts, by votes and by how likely each is in every view."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from arc_helpers.arc import Pair, most_voted
from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.ttt.cache import answer_logits
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.reading import Reading

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
    ranked = [
        Ranked(grid, len(g), float(np.mean([c.logprob for c in g])), tuple(c.view for c in g))
        for grid, g in most_voted(candidates, lambda candidate: candidate.logprob)
    ]
    suspicious = bool(demonstrations) and not any(is_uniform(pair.output) for pair in demonstrations)
    return sorted(ranked, key=lambda r: (-r.votes, suspicious and is_uniform(r.grid)))


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


@torch.no_grad()
def answer_logprobs(model: MultiLoRAModel, encoded: Encoded, slot: int) -> np.ndarray:
    """What `lm.answer_logprobs` says of the base, with adapter `slot` on it: float32 [answer tokens]."""
    logits, labels = answer_logits(model, [encoded], torch.tensor([slot]))
    logprobs = logits[0].float().log_softmax(dim=-1)
    return logprobs.gather(1, labels[0][:, None]).squeeze(1).cpu().numpy()


@torch.no_grad()
def score_answers(
    model: MultiLoRAModel,
    prompts: Sequence[np.ndarray],
    slots: Sequence[int],
    answers: Sequence[Sequence[np.ndarray]],
    *,
    max_rows: int = 64,
    reading: Reading | None = None,
) -> list[np.ndarray]:
    """Log-probability (natural, summed over tokens) of every answer to every prompt: float64 [len(answers[i])] each.

    prompts[i] (int64 [T]) is read once with adapter slots[i], unless `reading` has done so, and its KV cache then
    shared by its answers[i] (int64 [n] each, end token included). Probabilities are over the tokens an answer may hold.
    At most about `max_rows` answers are scored at a time, to prompts of one length.
    """
    reading = reading or Reading(model)
    scores: list[np.ndarray] = [np.empty(0)] * len(prompts)
    waiting = deque(sorted((i for i in range(len(prompts)) if answers[i]), key=lambda i: len(prompts[i])))
    while waiting:
        chosen = [waiting.popleft()]
        rows, length = len(answers[chosen[0]]), len(prompts[chosen[0]])
        while waiting and len(prompts[waiting[0]]) == length and rows + len(answers[waiting[0]]) <= max_rows:
            chosen.append(waiting.popleft())
            rows += len(answers[chosen[-1]])
        found = _score_batch(
            reading, [prompts[i] for i in chosen], [slots[i] for i in chosen], [answers[i] for i in chosen]
        )
        for i in chosen:
            scores[i], found = found[: len(answers[i])], found[len(answers[i]) :]
    return scores


def _score_batch(reading: Reading, prompts, slots, answers) -> np.ndarray:
    """Of prompts of one length: what is padded stands behind the answers, and nothing is masked."""
    model, lm = reading.model, reading.model.lm
    counts = [len(own) for own in answers]
    cache = reading.cache(prompts, slots, counts)
    labels = pad_sequence([torch.from_numpy(a) for own in answers for a in own], True, IGNORE)
    asked = torch.from_numpy(np.repeat(np.stack(prompts), counts, axis=0))
    ids = torch.cat([asked, labels.masked_fill(labels == IGNORE, lm.prompt_form.pad)], dim=1).to(lm.device)
    labels, read = labels.to(lm.device), asked.shape[1] - 1
    rows = model.rows(np.repeat(slots, counts).tolist())
    hidden = model.hidden(
        ids[:, read:-1],
        rows,
        position_ids=lm.positions(ids)[:, read:-1],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    legal = torch.tensor(lm.prompt_form.answer_ids, device=lm.device)
    logits = model.logits(hidden, rows)
    normaliser = logits[..., legal].logsumexp(dim=-1)
    chosen = logits.gather(2, labels.clamp_min(0)[..., None]).squeeze(-1) - normaliser
    return torch.where(labels == IGNORE, 0.0, chosen).double().sum(dim=1).cpu().numpy()

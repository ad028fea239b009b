"""Several answers to each prompt: all that are likely enough, or those that a beam finds."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from arc_helpers.runs import Deadline
from arc_helpers.ttt.decode import NO_DEADLINE, Generated, Writing, generate_with_lora, settled
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.reading import Reading

STRATEGIES = ("greedy", "beam", "dfs")


def answers_with_lora(
    strategy: str,
    model: MultiLoRAModel,
    prompts: Sequence[np.ndarray],
    slots: Sequence[int],
    max_new_tokens: Sequence[int],
    *,
    width: int = 4,
    min_prob: float = 0.1,
    max_seconds: float | None = None,
    counts: Counter | None = None,
    deadline: Deadline = NO_DEADLINE,
    reading: Reading | None = None,
) -> list[list[Generated]]:
    """Answers to each prompt by one of `STRATEGIES`, likeliest first: the greedy one alone, a beam of `width`, or all
    that reach `min_prob`. deadline: looked at before every token; what is not at its end by then is unfinished. Raises
    ValueError, one line, on another strategy."""
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy = {strategy!r}: must be one of {', '.join(STRATEGIES)}")
    asked = (model, prompts, slots, max_new_tokens)
    common: dict[str, Any] = {"deadline": deadline, "reading": reading}
    if strategy == "beam":
        return beam_with_lora(*asked, width=width, max_seconds=max_seconds, **common)
    if strategy == "dfs":
        return search_with_lora(*asked, min_prob=min_prob, max_seconds=max_seconds, counts=counts, **common)
    return [[answer] for answer in generate_with_lora(*asked, **common)]


def search_with_lora(
    model: MultiLoRAModel,
    prompts: Sequence[np.ndarray],
    slots: Sequence[int],
    max_new_tokens: Sequence[int],
    *,
    min_prob: float,
    max_rows: int = 64,
    max_candidates: int = 16,
    max_seconds: float | None = None,
    counts: Counter | None = None,
    deadline: Deadline = NO_DEADLINE,
    reading: Reading | None = None,
) -> list[list[Generated]]:
    """Every answer to each prompt with a probability of at least `min_prob`, likeliest first; arguments as in
    `generate_with_lora`.

    The answers are those of a depth-first search with the same bound. A prefix is never less likely than what
    continues it, so both visit exactly the prefixes that reach the bound, in whatever order. Prefixes of one length
    exclude each other, so at most 1 / min_prob of them reach it: few enough to keep all alive and write them side by
    side, one token a step. No row ever goes back, and the views of K tasks share one batch.

    The greedy answer is always in the list, however unlikely, and alone may be unfinished.

    max_rows: prefixes kept for a prompt at every step, the greedy one and then the likeliest; it bounds the memory,
        and cuts nothing where it is at least 1 / min_prob + 1.
    max_candidates: answers kept for a prompt, likeliest first; it also ends the search for less likely ones.
    max_seconds: from then on only the greedy answers are written to their end.
    counts: what is lost by these limits is added here: "cut" prefixes by `max_rows`, "late" ones by `max_seconds`.
    Raises ValueError, one line, on a limit that makes no sense.
    """
    if not 0 < min_prob < 1:
        raise ValueError(f"min_prob = {min_prob}: must be above 0 and below 1")
    for name, value in (("max_rows", max_rows), ("max_candidates", max_candidates)):
        if value < 1:
            raise ValueError(f"{name} = {value}: must be >= 1")
    limits = (math.log(min_prob), max_rows, max_candidates, max_seconds, deadline)
    with model.attached():  # once, not once a token
        counts = Counter() if counts is None else counts
        return _search(model, prompts, slots, max_new_tokens, *limits, counts, reading)


def beam_with_lora(
    model: MultiLoRAModel,
    prompts: Sequence[np.ndarray],
    slots: Sequence[int],
    max_new_tokens: Sequence[int],
    *,
    width: int,
    max_seconds: float | None = None,
    deadline: Deadline = NO_DEADLINE,
    reading: Reading | None = None,
) -> list[list[Generated]]:
    """Up to `width` answers to each prompt, likeliest first, from the `width` likeliest prefixes at every step.

    The greedy prefix is always one of them, and its answer always in the list, as in `search_with_lora`. Raises
    ValueError, one line, on a width below 1.
    """
    if width < 1:
        raise ValueError(f"width = {width}: must be >= 1")
    with model.attached():
        limits = (-math.inf, width, width, max_seconds, deadline)
        return _search(model, prompts, slots, max_new_tokens, *limits, Counter(), reading)


@torch.no_grad()
def _search(
    model, prompts, slots, max_new_tokens, lowest, max_rows, max_candidates, max_seconds, hard, counts, reading
) -> list[list[Generated]]:
    """What both do, for answers with a natural log-probability of at least `lowest`."""
    device, end = model.lm.device, model.lm.prompt_form.end
    if hard.passed:
        return [[Generated([], -math.inf, False)] for _ in prompts]
    # the last part of the time is for the greedy answers
    soft = hard.fraction(0.7) if max_seconds is None else Deadline(max_seconds)
    found: list[list[Generated]] = [[] for _ in prompts]
    greedy_answers: dict[int, Generated] = {}
    floors = [lowest] * len(prompts)  # below it no answer can be among the best any more
    writing = Writing(model, prompts, slots, reading=reading)
    owner = list(range(len(prompts)))  # which prompt each row belongs to
    logprob = torch.zeros(len(prompts), dtype=torch.float64, device=device)
    greedy = torch.ones(len(prompts), dtype=torch.bool, device=device)  # whether a row is the greedy answer so far
    while owner:
        if hard.passed:
            for row in [row for row, own in enumerate(greedy.tolist()) if own]:
                greedy_answers[owner[row]] = writing.cut(row, logprob[row].item())
            break
        scores = writing.scores()
        totals = logprob[:, None] + scores  # [N, V]
        is_greedy = torch.zeros_like(scores, dtype=torch.bool)
        is_greedy[torch.arange(len(owner), device=device), scores.argmax(dim=1)] = greedy
        likely = totals >= torch.tensor([floors[i] for i in owner], dtype=torch.float64, device=device)[:, None]
        likely &= scores.isfinite()  # the forbidden ones reach a floor of −inf
        if soft.passed:
            counts["late"] += int((likely & ~is_greedy).sum())
            likely = is_greedy
        parents, tokens = (likely | is_greedy).nonzero(as_tuple=True)  # ordered by row
        branches = zip(
            parents.tolist(),
            tokens.tolist(),
            totals[parents, tokens].tolist(),
            is_greedy[parents, tokens].tolist(),
            strict=True,
        )
        by_prompt: dict[int, list[tuple]] = {}
        for branch, (row, token, total, is_first) in enumerate(branches):
            by_prompt.setdefault(owner[row], []).append((is_first, total, branch, row, token))
        keep = []  # branches to be continued
        for i, own in by_prompt.items():
            counts["cut"] += len(own[max_rows:])
            for is_first, total, branch, row, token in sorted(own, reverse=True)[:max_rows]:
                if token != end and writing.length + 1 < max_new_tokens[i]:
                    keep.append(branch)
                    continue
                answer = writing.answer(row, token, total)
                if is_first:
                    greedy_answers[i] = answer
                if answer.finished:
                    found[i] = sorted([*found[i], answer], key=lambda a: -a.logprob)[:max_candidates]
                    if len(found[i]) == max_candidates:
                        floors[i] = max(lowest, found[i][-1].logprob)
        index = torch.tensor(keep, dtype=torch.long, device=device)
        index = index[settled(parents[index].tolist())]
        parents, tokens = parents[index], tokens[index]
        logprob, greedy = totals[parents, tokens], is_greedy[parents, tokens]
        rows = parents.tolist()
        if rows != list(range(len(owner))):
            writing.select(parents)
        writing.push(tokens)
        owner = [owner[row] for row in rows]
    return [own if greedy_answers[i] in own else [*own, greedy_answers[i]] for i, own in enumerate(found)]

"""Greedy decoding of many prompts at once, each row with its own adapter, over one KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arc_helpers.lm.grammar import GridGrammar
from arc_helpers.ttt.multilora import MultiLoRAModel


@dataclass(frozen=True)
class Generated:
    """One answer: its tokens without the end token, their summed log-probability, and whether it ended itself."""

    token_ids: list[int]
    logprob: float  # natural log, end token included, over the tokens that the grammar allowed
    finished: bool


@torch.no_grad()
def generate_with_lora(
    model: MultiLoRAModel,
    prompts: Sequence[np.ndarray],
    slots: Sequence[int],
    max_new_tokens: Sequence[int],
    *,
    use_cache: bool = True,
) -> list[Generated]:
    """Greedy answers to prompts (int64 [T] each), row i with adapter slots[i] and at most max_new_tokens[i] tokens.

    Only tokens that keep the answer a rectangle of at most 30 × 30 are possible (`GridGrammar`). Rows that have
    ended leave the batch. `use_cache=False` runs every step on the whole sequences: slow, the tests' reference.
    """
    lm, voc = model.lm, model.lm.vocabulary
    answers: list[list[int]] = [[] for _ in prompts]
    logprobs, finished = [0.0] * len(prompts), [False] * len(prompts)
    ids, mask = left_pad(prompts, voc.pad, lm.device)
    slot_of = torch.tensor(list(slots), device=lm.device)
    grammar = GridGrammar(len(prompts), voc, lm.head.weight.shape[0], lm.device)
    rows = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    cache = None
    while rows:
        positions = lm.positions(ids, mask)
        new = 1 if cache is not None else ids.shape[1]
        out = model.hidden(
            ids[:, -new:],
            slot_of,
            attention_mask=mask,
            position_ids=positions[:, -new:],
            past_key_values=cache,
            use_cache=use_cache,
        )
        cache = out.past_key_values if use_cache else None
        logits = model.logits(out.last_hidden_state[:, -1:], slot_of)[:, 0]
        scores = logits.masked_fill(~grammar.allowed(), -torch.inf).log_softmax(dim=-1)
        best, token = scores.max(dim=-1)
        grammar.push(token)
        for row, i in enumerate(rows):
            logprobs[i] += best[row].item()
            finished[i] = bool(grammar.done[row])
            if not finished[i]:
                answers[i].append(int(token[row]))
        keep = [row for row, i in enumerate(rows) if not finished[i] and len(answers[i]) < max_new_tokens[i]]
        ids = torch.cat([ids, token[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        if len(keep) < len(rows):
            index = torch.tensor(keep, dtype=torch.long, device=lm.device)
            ids, mask, slot_of = ids[index], mask[index], slot_of[index]
            grammar.keep(index)
            if cache is not None and keep:
                cache.batch_select_indices(index)
            rows = [rows[row] for row in keep]
    return [Generated(a, p, f) for a, p, f in zip(answers, logprobs, finished, strict=True)]


def left_pad(prompts: Sequence[np.ndarray], pad: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as ids [N, T], padded on the left, and their padding mask [N, T]."""
    width = max(map(len, prompts), default=0)
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)

"""How likely each candidate answer is under each view: what a product of experts multiplies."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.ttt.cache import answer_logits
from arc_helpers.ttt.decode import left_pad
from arc_helpers.ttt.multilora import MultiLoRAModel


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
) -> list[np.ndarray]:
    """Log-probability (natural, summed over tokens) of every answer to every prompt: float64 [len(answers[i])] each.

    prompts[i] (int64 [T]) is read once with adapter slots[i], and its KV cache then shared by its answers[i] (int64
    [n] each, end token included). Probabilities are over the tokens an answer may hold. At most about `max_rows`
    answers are scored at a time.
    """
    scores: list[np.ndarray] = [np.empty(0)] * len(prompts)
    waiting = [i for i in range(len(prompts)) if answers[i]]
    while waiting:
        chosen, rows = [], 0
        while waiting and (not chosen or rows + len(answers[waiting[0]]) <= max_rows):
            rows += len(answers[waiting[0]])
            chosen.append(waiting.pop(0))
        found = _score_batch(
            model, [prompts[i] for i in chosen], [slots[i] for i in chosen], [answers[i] for i in chosen]
        )
        for i in chosen:
            scores[i], found = found[: len(answers[i])], found[len(answers[i]) :]
    return scores


def _score_batch(model: MultiLoRAModel, prompts, slots, answers) -> np.ndarray:
    lm = model.lm
    ids, mask = left_pad(prompts, lm.prompt_form.pad, lm.device)
    slot_of = torch.tensor(list(slots), device=lm.device)
    counts = torch.tensor([len(a) for a in answers], device=lm.device)
    positions = lm.positions(ids, mask)
    read = ids.shape[1] - 1  # the last prompt token is read with the answers: its state predicts their first token
    cache = model.hidden(
        ids[:, :read],
        slot_of,
        attention_mask=mask[:, :read],
        position_ids=positions[:, :read],
        use_cache=True,
    ).past_key_values
    cache.batch_select_indices(torch.arange(len(prompts), device=lm.device).repeat_interleave(counts))
    ids, mask, slot_of = (x.repeat_interleave(counts, dim=0) for x in (ids, mask, slot_of))
    labels = pad_sequence([torch.from_numpy(a) for own in answers for a in own], True, IGNORE).to(lm.device)
    written = labels.masked_fill(labels == IGNORE, lm.prompt_form.pad)
    ids = torch.cat([ids, written], dim=1)
    mask = torch.cat([mask, torch.ones_like(written)], dim=1)  # padding behind an answer is never looked back at
    hidden = model.hidden(
        ids[:, read:-1],
        slot_of,
        attention_mask=mask[:, :-1],
        position_ids=lm.positions(ids, mask)[:, read:-1],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    legal = torch.tensor(lm.prompt_form.answer_ids, device=lm.device)
    logits = model.logits(hidden, slot_of)
    normaliser = logits[..., legal].logsumexp(dim=-1)
    chosen = logits.gather(2, labels.clamp_min(0)[..., None]).squeeze(-1) - normaliser
    return torch.where(labels == IGNORE, 0.0, chosen).double().sum(dim=1).cpu().numpy()

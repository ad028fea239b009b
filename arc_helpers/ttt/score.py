"""How likely each candidate answer is under each view: what a product of experts multiplies."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.ttt.cache import answer_logits
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.reading import Reading


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

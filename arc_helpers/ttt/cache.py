"""Hidden states of a frozen base are constant: computed once per pseudo-task, at the counted positions only."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import IGNORE, Encoded


@dataclass(frozen=True)
class AnswerFeatures:
    """What head adapters learn from: hidden[i] is the state that predicts token targets[i]."""

    hidden: Tensor  # [n, H], the base's dtype
    targets: Tensor  # int64 [n]


@torch.no_grad()
def answer_features(lm: LoadedLM, examples: Sequence[Encoded], batch_tokens: int = 8192) -> list[AnswerFeatures]:
    """One forward of the base over all examples, in batches of at most `batch_tokens` padded tokens."""
    features: list[AnswerFeatures | None] = [None] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]))
    while order:
        width = len(examples[order[-1]])
        chosen = [order.pop() for _ in range(min(len(order), max(1, batch_tokens // width)))]
        ids = torch.full((len(chosen), width), lm.vocabulary.pad)
        for row, i in enumerate(chosen):
            ids[row, : len(examples[i])] = torch.from_numpy(examples[i].input_ids)
        # padded on the right under a causal mask: no real token sees the padding, so no mask is needed
        hidden = lm.hidden(ids.to(lm.device)).last_hidden_state
        for row, i in enumerate(chosen):
            labels = torch.from_numpy(examples[i].labels)
            at = (labels[1:] != IGNORE).nonzero().squeeze(1)
            # indexing copies, so the big batch can be freed
            features[i] = AnswerFeatures(hidden[row, at.to(hidden.device)], labels[1:][at].to(hidden.device))
    return features

"""Dialogue fine-tuning: the inner loop learns from every token, the outer loss counts what the assistant says.

Dialogues are `messages`, which `texts.read_dialogs` makes of users' files, or persona dialogues without end. How well
a model says what an assistant said is its perplexity on dialogues that it has not learned from.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.meta import Batch, plain_nll
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.memory.persona import Encoded, PersonaDialogs, pad
from arc_helpers.memory.template import check_tokenizer, encode_messages
from arc_helpers.runs import progress
from arc_helpers.texts import TextError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class DialogBatches:
    """Batches of given dialogues: step → Batch with `scored` on the assistant's tokens. Order by seed and epoch.

    refused: a line for each dialogue that the tokenizer's template does not take, or whose assistant says nothing
    within max_len tokens.
    """

    rows: list[Encoded]
    size: int
    max_len: int
    pad_id: int
    seed: int = 0
    refused: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, tokenizer: "PreTrainedTokenizerBase", dialogs: Sequence, size: int, max_len: int, seed: int = 0
    ) -> "DialogBatches":
        """From messages. Raises TextError where the tokenizer writes no dialogues, or none of these is left."""
        check_tokenizer(tokenizer)
        rows, refused = [], []
        for n, messages in enumerate(dialogs):
            try:
                row = encode_messages(tokenizer, messages, f"dialogue {n}")
            except TextError as error:
                refused.append(str(error))
                continue
            if any(row.said[1:max_len]):
                rows.append(row)
            else:
                refused.append(f"dialogue {n}: the assistant says nothing within {max_len} tokens")
        if not rows:
            why = f" (the first of {len(refused)}: {refused[0]})" if refused else ""
            raise TextError(f"dialogues: there are none{why}")
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        return cls(rows, size, max_len, pad_id, seed, refused)

    @property
    def cut(self) -> int:
        """How many are longer than max_len tokens and lose their end."""
        return sum(len(row) > self.max_len for row in self.rows)

    def __call__(self, step: int) -> Batch:
        index = range(step * self.size, (step + 1) * self.size)
        chosen = [self._order(i // len(self.rows))[i % len(self.rows)] for i in index]
        return said_batch([self.rows[i] for i in chosen], self.pad_id, self.max_len)

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(f"dialogs/{self.seed}/{epoch}".encode())).permutation(len(self.rows))


@dataclass(frozen=True)
class SaidLoss:
    """What the assistant's words cost: nats [n], and how many tokens they are [n], a dialogue each."""

    nats: np.ndarray
    tokens: np.ndarray

    @property
    def nll(self) -> float:
        """Nats a token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        """exp of the nats a token."""
        return math.exp(self.nll)

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % interval of the perplexity, dialogues resampled."""
        nats, tokens = _resampled(self.nats, seed), _resampled(self.tokens, seed)
        low, high = np.quantile(np.exp(nats / tokens), [0.025, 0.975])
        return float(low), float(high)

    def gain(self, other: "SaidLoss", seed: int = 0) -> tuple[float, float, float]:
        """(mean, low, high) of the nats a token that `other` saves on the same dialogues, paired."""
        less = _resampled(self.nats - other.nats, seed) / _resampled(self.tokens, seed)
        low, high = np.quantile(less, [0.025, 0.975])
        return self.nll - other.nll, float(low), float(high)


def said_loss(model: Any, batches: DialogBatches, *, learn: bool = True, desc: str = "") -> SaidLoss:
    """The loss of what the assistant says in every dialogue of `batches`, each read from its beginning.

    learn: whether a TTTForCausalLM learns on the way; other models do not. desc: shows progress under that name.
    """
    ordered = sorted(batches.rows, key=len)  # little padding
    place = {id(row): i for i, row in enumerate(batches.rows)}
    nats, tokens = np.zeros(len(ordered)), np.zeros(len(ordered))
    starts = range(0, len(ordered), batches.size)
    for start in progress(starts, desc=desc) if desc else starts:
        rows = ordered[start : start + batches.size]
        batch = said_batch(rows, batches.pad_id, batches.max_len).to(model.device)
        with torch.no_grad():
            if isinstance(model, TTTForCausalLM):
                nll = read(model, batch.ids, valid=batch.valid, learn=learn).nll
            else:
                nll = plain_nll(model, batch)
        for row, values, counted in zip(rows, nll, batch.counted, strict=True):
            nats[place[id(row)]], tokens[place[id(row)]] = values[counted].sum().item(), counted.sum().item()
    return SaidLoss(nats, tokens)


def _resampled(values: np.ndarray, seed: int, draws: int = 2000) -> np.ndarray:
    """Sums over the dialogues, drawn with replacement; the same seed draws the same ones."""
    return values[np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))].sum(axis=1)


def persona_sft(dialogs: PersonaDialogs, step: int, size: int) -> Batch:
    """Persona dialogues number step · size …, with `scored` on the assistant's tokens."""
    texts = [dialogs.text(step * size + i) for i in range(size)]
    return said_batch(texts, dialogs.tokens.pad, dialogs.style.length)


def said_batch(rows: Sequence[Encoded], pad_id: int, max_len: int | None = None) -> Batch:
    """Encoded dialogues, cropped at max_len, with `scored` on the assistant's tokens."""
    batch = pad([row.ids for row in rows], pad_id, max_len and min(max_len, max(len(row) for row in rows)))
    scored = torch.zeros_like(batch.valid)
    for i, row in enumerate(rows):
        said = row.said[: scored.shape[1]]
        scored[i, : len(said)] = torch.tensor(said)
    return Batch(batch.ids, batch.valid, scored)

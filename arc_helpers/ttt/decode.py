"""Writing many answers at once, each row with its own adapter, over one KV cache; greedy decoding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arc_helpers.lm.grammar import GridGrammar
from arc_helpers.runs import NO_DEADLINE, Deadline
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.reading import Reading


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
    deadline: Deadline = NO_DEADLINE,
    reading: Reading | None = None,
) -> list[Generated]:
    """Greedy answers to prompts (int64 [T] each), row i with adapter slots[i] and at most max_new_tokens[i] tokens.

    Only tokens that keep the answer a rectangle of at most 30 × 30 are possible (`GridGrammar`). Rows that have
    ended leave the batch. deadline: looked at before every token; what is not at its end by then is unfinished.
    reading: what reads the prompts, or has read them already. `use_cache=False` runs every step on the whole sequences:
    slow, the tests' reference.
    """
    if deadline.passed:
        return [Generated([], -math.inf, False) for _ in prompts]
    end = model.lm.prompt_form.end
    answers: dict[int, Generated] = {}
    owner = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    writing = Writing(model, prompts, slots, use_cache=use_cache, reading=reading)
    logprobs = torch.zeros(len(prompts), dtype=torch.float64, device=model.lm.device)
    with model.attached():  # once, not once a token
        while owner:
            if deadline.passed:
                answers |= {i: writing.cut(row, logprobs[row].item()) for row, i in enumerate(owner)}
                break
            best, tokens = writing.scores().max(dim=-1)
            logprobs = logprobs + best
            keep = []
            for row, (i, token) in enumerate(zip(owner, tokens.tolist(), strict=True)):
                if token != end and writing.length + 1 < max_new_tokens[i]:
                    keep.append(row)
                else:
                    answers[i] = writing.answer(row, token, logprobs[row].item())
            if len(keep) < len(owner):
                keep = [keep[i] for i in settled(keep)]
                index = torch.tensor(keep, dtype=torch.long, device=model.lm.device)
                writing.select(index)
                owner, tokens, logprobs = [owner[row] for row in keep], tokens[index], logprobs[index]
            writing.push(tokens)
    return [answers[i] for i in range(len(prompts))]


class Writing:
    """Answers being written, a row each: `scores` says what may come next, `push` writes it, and in between `select`
    drops, reorders or repeats rows."""

    def __init__(
        self,
        model: MultiLoRAModel,
        prompts: Sequence[np.ndarray],
        slots: Sequence[int],
        *,
        use_cache: bool = True,
        reading: Reading | None = None,
    ):
        lm = model.lm
        self.model = model
        self.ids, self.mask = left_pad(prompts, lm.prompt_form.pad, lm.device)  # [N, T], growing with the answers
        self.slots = list(slots)
        self.adapters = model.rows(self.slots)
        self.grammar = GridGrammar(len(prompts), lm.prompt_form, lm.head.weight.shape[0], lm.device)
        self.cache = (reading or Reading(model)).cache(prompts, self.slots) if use_cache and prompts else None
        unread = slice(None) if self.cache is None else slice(-1, None)
        # of the tokens that the cache has not yet: [N, n(, 3)]
        self.positions = lm.positions(self.ids, self.mask)[:, unread]
        self.start = self.ids.shape[1]

    @property
    def length(self) -> int:
        """Tokens written, the same in every row."""
        return self.ids.shape[1] - self.start

    def scores(self) -> Tensor:
        """Natural log-probability of each next token among those that are allowed, −inf for others: float32 [N, V]."""
        hidden = self.model.hidden(
            self.ids[:, -self.positions.shape[1] :],
            self.adapters,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=self.cache is not None,
        ).last_hidden_state
        logits = self.model.logits(hidden[:, -1:], self.adapters)[:, 0]
        return logits.masked_fill(~self.grammar.allowed(), -torch.inf).log_softmax(dim=-1)

    def push(self, tokens: Tensor) -> None:
        """Write one token [N] to each row."""
        position = self._next_position()
        self.grammar.push(tokens)
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self.positions = self.model.lm.positions(self.ids, self.mask) if self.cache is None else position

    def select(self, rows: Tensor) -> None:
        """Go on with these rows [n]; a row may be taken more than once."""
        for name in ("ids", "mask", "positions"):
            setattr(self, name, getattr(self, name)[rows])
        self.slots = [self.slots[row] for row in rows.tolist()]
        self.adapters = self.model.rows(self.slots)
        self.grammar.keep(rows)
        if self.cache is not None:
            self.cache.batch_select_indices(rows)

    def answer(self, row: int, last: int, logprob: float) -> Generated:
        """What stands in a row, and a `last` token behind it."""
        said, finished = self.ids[row, self.start :].tolist(), last == self.model.lm.prompt_form.end
        return Generated(said if finished else [*said, last], logprob, finished)

    def cut(self, row: int, logprob: float) -> Generated:
        """What stands in a row that is written no further."""
        return Generated(self.ids[row, self.start :].tolist(), logprob, False)

    def _next_position(self) -> Tensor:
        """Position ids [N, 1(, 3)] of the tokens to be written: nothing before them need be looked at again."""
        last = self.positions[:, -1:]
        if last.dim() == 2:
            return last + 1
        return self.model.lm.model.next_position(self.ids[:, -1:], last)


def settled(parents: Sequence[int]) -> list[int]:
    """An order of branches, given the row that each continues, in which most stand where that row stood.

    A batch's order means nothing, and a row that stays need not be copied.
    """
    places: list[int | None] = [None] * len(parents)
    movers = []
    for branch, row in enumerate(parents):
        if row < len(places) and places[row] is None:
            places[row] = branch
        else:
            movers.append(branch)
    return [movers.pop() if branch is None else branch for branch in places]


def left_pad(prompts: Sequence[np.ndarray], pad: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as ids [N, T], padded on the left, and their padding mask [N, T]."""
    width = max(map(len, prompts), default=0)
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)

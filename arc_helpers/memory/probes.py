"""Memory tests: is an answer known, and known from what was told? The same questions, and five kinds of memory.

    true         the facts, as told
    swapped      the same people and kinds of fact with other values: a memory must now make the true value less likely
    irrelevant   facts about other people: helps only by adapting to the form of a dialogue, not by remembering
    shuffled     the tokens of the true memory in random order
    off          the true memory, read with test-time training off

All questions lie beyond the reach of attention (`check_reach`), so with learning off their answers cannot be known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.memory.persona import ME, Encoded, PersonaDialogs, Turn, pad

CONDITIONS = ("true", "off", "swapped", "irrelevant", "shuffled")


@dataclass(frozen=True)
class Scores:
    """Per text, float [n]: mean loss of the answers, of their first tokens and of all tokens, in nats, and the share
    of answers recalled exactly (every token the most likely one).

    answers [n]: how many were asked for; cut: texts that lost their beginning to max_len; skipped: inner steps refused.
    """

    answer: np.ndarray
    first: np.ndarray
    everything: np.ndarray
    recall: np.ndarray
    answers: np.ndarray
    cut: int = 0
    skipped: int = 0

    @property
    def recalled(self) -> int:
        """Answers recalled exactly."""
        return round(float((self.recall * self.answers).sum()))


@dataclass(frozen=True)
class Text:
    """A memory, then small talk or prose, then questions."""

    memory: Encoded
    filler: Encoded
    questions: Encoded

    @property
    def encoded(self) -> Encoded:
        return self.memory + self.filler + self.questions

    @property
    def gap(self) -> int:
        """Tokens from the memory's end to the first question."""
        return len(self.filler)


def probe_texts(
    dialogs: PersonaDialogs, n: int, condition: str = "true", first: int = 0, prose: Sequence[int] = ()
) -> list[Text]:
    """n texts, from number `first` on; those of two conditions differ in the memory alone.

    prose: ids to fill the gap with, instead of small talk, from a place of its own for each text: a needle in a
    haystack. Raises ValueError for an unknown condition or too little prose.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition = {condition}: must be one of {', '.join(CONDITIONS)}")
    if 0 < len(prose) <= dialogs.style.gap:
        raise ValueError(f"prose of {len(prose)} tokens: must be longer than the gap of {dialogs.style.gap}")
    return [_text(dialogs, index, condition, prose) for index in range(first, first + n)]


def _text(dialogs: PersonaDialogs, index: int, condition: str, prose: Sequence[int]) -> Text:
    drawn, rng = dialogs.draw(index), dialogs.rng(index, condition)
    told: Sequence[Turn] = drawn.told
    if condition == "swapped":
        told = dialogs.tell(dialogs.other_values(drawn.facts, rng), rng)
    elif condition == "irrelevant":
        told = dialogs.tell(dialogs.facts(rng, avoid={ME, *(fact.name for fact in drawn.facts)}), rng)
    memory = dialogs.encode(told)
    if condition == "shuffled":
        order = rng.permutation(len(memory))
        memory = Encoded([memory.ids[i] for i in order], memory.answer, memory.first, memory.said)
    return Text(memory, _gap(dialogs, index, prose), dialogs.encode(drawn.asked))


def _gap(dialogs: PersonaDialogs, index: int, prose: Sequence[int]) -> Encoded:
    """At least `gap` tokens that say nothing about the facts."""
    rng, gap = dialogs.rng(index, "filler"), dialogs.style.gap
    if len(prose):
        start = int(rng.integers(len(prose) - gap))
        ids = [dialogs.tokens.user, *prose[start : start + gap], dialogs.tokens.end]
        nothing = [False] * len(ids)
        return Encoded(ids, nothing, nothing, nothing)
    filler = dialogs.filler(rng, gap + 20)
    while len(filler) < gap:
        filler += dialogs.encode(dialogs.small_talk(rng))
    return filler


def check_reach(model: TTTForCausalLM, texts: Sequence[Text]) -> int:
    """The shortest gap of the texts, in tokens. Raises ValueError where attention could still see a fact."""
    gap = min(text.gap for text in texts)
    if model.config.reach is not None and gap <= model.config.reach:
        raise ValueError(f"gap = {gap} tokens: must be more than the reach of attention, {model.config.reach}")
    return gap


def answer_scores(
    model: TTTForCausalLM,
    texts: Sequence[Text],
    *,
    learn: bool = True,
    lr_scale: float = 1.0,
    max_len: int | None = None,
    rows: int = 16,
) -> Scores:
    """Read the texts, `rows` at a time, and score what is said about remembered values.

    max_len: a longer text loses its beginning, which is where the facts are; `cut` says how many did.
    """
    parts, skipped, longest = [], 0, max_len or max(len(text.encoded) for text in texts)
    for i in range(0, len(texts), rows):
        encoded = [text.encoded.last(longest) for text in texts[i : i + rows]]
        batch = pad([e.ids for e in encoded], 0)
        reading = read(model, batch.ids, valid=batch.valid, learn=learn, lr_scale=lr_scale)
        skipped += int(reading.state.skipped.sum())
        for e, nll, hit in zip(encoded, reading.nll.cpu(), reading.hit.cpu(), strict=True):
            parts.append(_score_one(e, nll[: len(e) - 1].numpy(), hit[: len(e) - 1].numpy()))
    cut = sum(len(text.encoded) > longest for text in texts)
    answer, first, everything, recall, answers = map(np.array, zip(*parts, strict=True))
    return Scores(answer, first, everything, recall, answers, cut, skipped)


def _score_one(text: Encoded, nll: np.ndarray, hit: np.ndarray) -> tuple[float, float, float, float, int]:
    answer, first = np.array(text.answer[1:]), np.array(text.first[1:])
    number = np.cumsum(first)  # the answer that a token belongs to
    right = [hit[answer & (number == k)].all() for k in range(1, number.max() + 1)]
    return nll[answer].mean(), nll[first].mean(), nll.mean(), float(np.mean(right)), len(right)


@torch.no_grad()
def perturbation(model: TTTForCausalLM, ids: torch.Tensor, at: int, query: int) -> float:
    """Largest change of the loss at token `query` when the token at `at` is another one, learning off.

    ids [1, T]. Exactly 0 where `at` is out of attention's reach, on every device: the two are read one after the
    other, so that each number is added up in the same order.
    """
    changed = ids.clone()
    changed[0, at] = (changed[0, at] + 1) % model.config.vocab_size
    before, after = (read(model, text, learn=False).nll[0, query - 1] for text in (ids, changed))
    return (before - after).abs().item()

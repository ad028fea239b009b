"""Persona dialogues without end: facts are told, small talk goes on, questions come when attention cannot help.

Which value belongs to which name is drawn anew for each dialogue, so the answer is in the dialogue and nowhere else.
Dialogue i depends on the settings, the seed and i alone.
"""

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from arc_helpers.memory.lexicon import ACKS, NAMES, SLOTS, SMALL_TALK, UNSEEN_NAMES, UNSEEN_VALUES
from arc_helpers.memory.meta import Batch
from arc_helpers.memory.tokens import CONSONANTS, VOWELS, DialogTokens

ME = ""  # the user, as the name of a fact
ONSET, CODA = 0.9, 0.2  # shares of a pseudo-word's syllables that begin and end with a consonant
HELD_OUT = 5  # one pseudo-word in so many is never trained on


@dataclass(frozen=True)
class Fact:
    """name (ME: the user), kind of fact, value."""

    name: str
    slot: str
    value: str


@dataclass(frozen=True)
class Turn:
    """One message; answer: the words of it that only somebody who remembers can know."""

    role: str
    text: str
    answer: str = ""


@dataclass(frozen=True)
class Encoded:
    """ids [T]; answer bool [T]: tokens of remembered values; first bool [T]: the first of each; said: assistant's."""

    ids: list[int]
    answer: list[bool]
    first: list[bool]
    said: list[bool]

    def __add__(self, other: "Encoded") -> "Encoded":
        names = ("ids", "answer", "first", "said")
        return Encoded(*(getattr(self, name) + getattr(other, name) for name in names))

    def __len__(self) -> int:
        return len(self.ids)

    def last(self, n: int) -> "Encoded":
        """Its last n tokens."""
        return Encoded(self.ids[-n:], self.answer[-n:], self.first[-n:], self.said[-n:])


EMPTY = Encoded([], [], [], [])


@dataclass(frozen=True)
class Style:
    """How dialogues are drawn.

    facts: how many are told, or (least, most). words: "known" (one token each), "mixed" (known ones and pseudo-words,
    in a proportion that is drawn for each dialogue), "new" (pseudo-words that are never trained on), "unseen" (real
    words in no list).
    kinds: kinds of fact in a dialogue, or (least, most); the fewer, the more only a name tells facts apart.
    wording: "trained" phrasings, or the "held_out" ones. repeats: how often a fact is told. gap: least number of
    tokens between the last fact and the first question. length: of a dialogue in a batch, in tokens.
    """

    facts: int | tuple[int, int] = (4, 6)
    words: str = "mixed"
    wording: str = "trained"
    repeats: int = 1
    gap: int = 62
    length: int = 289
    kinds: int | tuple[int, int] = len(SLOTS)

    def __post_init__(self):
        for name, allowed in (("words", ("known", "mixed", "new", "unseen")), ("wording", ("trained", "held_out"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)}: must be one of {', '.join(allowed)}")


@dataclass(frozen=True)
class Dialog:
    """One drawn dialogue, in parts, so that a test can change what was told and nothing else."""

    facts: tuple[Fact, ...]
    told: tuple[Turn, ...]
    asked: tuple[Turn, ...]


class PersonaDialogs:
    """Draws and encodes dialogues of one style."""

    def __init__(self, tokens: DialogTokens, style: Style | None = None, seed: int = 0):
        self.tokens, self.style, self.seed = tokens, style or Style(), seed

    def rng(self, index: int, what: str = "dialog") -> np.random.Generator:
        """The random numbers of one dialogue."""
        return np.random.default_rng(zlib.crc32(f"persona/{self.seed}/{what}/{index}".encode()))

    def draw(self, index: int) -> Dialog:
        """Dialogue number index."""
        rng = self.rng(index)
        facts = self.facts(rng)
        return Dialog(tuple(facts), tuple(self.tell(facts, rng)), tuple(self.ask(facts, rng)))

    def facts(self, rng: np.random.Generator, avoid: Iterable[str] = ()) -> list[Fact]:
        """Facts about different people. Kinds of fact repeat, so only the name tells which value is asked for;
        the user may have several facts, of different kinds."""
        kinds = rng.permutation(list(SLOTS))[: _between(self.style.kinds, rng)]
        taken, found, share = set(avoid), [], self._share(rng)
        for _ in range(_between(self.style.facts, rng)):
            slot = str(rng.choice(kinds))
            own = ME not in avoid and rng.random() < 0.2 and (ME, slot) not in {(f.name, f.slot) for f in found}
            name = ME if own else self._name(rng, taken, share)
            taken.add(name)
            found.append(Fact(name, slot, self._value(slot, rng, share)))
        return found

    def other_values(self, facts: Sequence[Fact], rng: np.random.Generator) -> list[Fact]:
        """The same people and kinds of fact with other values."""
        changed, share = [], self._share(rng)
        for fact in facts:
            value = fact.value
            while value == fact.value:
                value = self._value(fact.slot, rng, share)
            changed.append(replace(fact, value=value))
        return changed

    def tell(self, facts: Sequence[Fact], rng: np.random.Generator) -> list[Turn]:
        """The user tells the facts, each `repeats` times."""
        order = [fact for _ in range(self.style.repeats) for fact in (facts[i] for i in rng.permutation(len(facts)))]
        turns = []
        for fact in order:
            slot = SLOTS[fact.slot]
            text = self._phrase(slot.says, rng) if fact.name else slot.me[0]
            turns += [Turn("user", _fill(text, fact)), Turn("assistant", str(rng.choice(ACKS)))]
        return turns

    def ask(self, facts: Sequence[Fact], rng: np.random.Generator) -> list[Turn]:
        """The user asks for each fact once, and is answered."""
        turns = []
        for fact in (facts[i] for i in rng.permutation(len(facts))):
            slot = SLOTS[fact.slot]
            question = self._phrase(slot.asks, rng) if fact.name else slot.me[1]
            answer = slot.answer if fact.name else slot.me[2]
            turns += [Turn("user", _fill(question, fact)), Turn("assistant", _fill(answer, fact), fact.value)]
        return turns

    def small_talk(self, rng: np.random.Generator) -> list[Turn]:
        """One pair of turns about nothing."""
        said, reply = SMALL_TALK[rng.integers(len(SMALL_TALK))]
        return [Turn("user", said), Turn("assistant", reply)]

    def encode(self, turns: Iterable[Turn]) -> Encoded:
        """Token ids of turns, and which of them are answers."""
        whole = EMPTY
        for turn in turns:
            ids = self.tokens.turn(turn.role, turn.text)
            answer, first = [False] * len(ids), [False] * len(ids)
            if turn.answer:
                value = self.tokens.ids(turn.answer)
                at = max(i for i in range(len(ids)) if ids[i : i + len(value)] == value)
                answer[at : at + len(value)], first[at] = [True] * len(value), True
            said = [turn.role == "assistant" and i > 0 for i in range(len(ids))]
            whole += Encoded(ids, answer, first, said)
        return whole

    def filler(self, rng: np.random.Generator, most: int) -> Encoded:
        """Small talk of at most so many tokens."""
        whole = EMPTY
        while len(more := whole + self.encode(self.small_talk(rng))) <= most:
            whole = more
        return whole

    def text(self, index: int) -> Encoded:
        """One training text: facts, small talk for at least `gap` tokens, questions."""
        dialog, rng = self.draw(index), self.rng(index, "filler")
        memory, questions = self.encode(dialog.told), self.encode(dialog.asked)
        room = self.style.length - len(memory) - len(questions)
        return memory + self.filler(rng, max(room, self.style.gap + 20)) + questions

    def batch(self, step: int, size: int) -> Batch:
        """Texts number step · size … as ids [size, length], cropped or padded at the end."""
        texts = [self.text(step * size + i) for i in range(size)]
        return pad([text.ids for text in texts], self.tokens.pad, self.style.length)

    def _phrase(self, phrasings: Sequence[str], rng: np.random.Generator) -> str:
        return phrasings[-1] if self.style.wording == "held_out" else str(rng.choice(phrasings[:-1]))

    def _share(self, rng: np.random.Generator) -> float:
        """How many of a dialogue's names and values are pseudo-words."""
        mixed = max(rng.random(), rng.random())  # two in three: words in pieces are the harder ones
        return {"known": 0.0, "mixed": mixed}.get(self.style.words, 1.0)

    def _name(self, rng: np.random.Generator, taken: set[str], share: float) -> str:
        while True:
            name = self._word(NAMES, UNSEEN_NAMES, rng, share)
            if name not in taken:
                return name

    def _value(self, slot: str, rng: np.random.Generator, share: float) -> str:
        return self._word(SLOTS[slot].values, UNSEEN_VALUES, rng, share)

    def _word(self, known: Sequence[str], unseen: Sequence[str], rng: np.random.Generator, share: float) -> str:
        if self.style.words == "unseen":
            return str(rng.choice(unseen))
        if rng.random() < share:
            return pseudo_word(rng, held_out=self.style.words == "new")
        return str(rng.choice(known))


def chance(style: Style) -> float:
    """Answer loss in nats a token of somebody who knows everything but the dialogue: the words, their lengths."""
    if style.words == "known":
        return math.log(len(next(iter(SLOTS.values())).values))
    vowel, consonant = math.log(len(VOWELS)), math.log(len(CONSONANTS))
    return (vowel + (ONSET + CODA) * consonant) / (1 + CODA)  # a syllable's nats, and its tokens


def pseudo_word(rng: np.random.Generator, held_out: bool) -> str:
    """Two or three syllables, mostly open ones; the held-out words and the others have none in common."""
    while True:
        parts = ((CONSONANTS, ONSET), (VOWELS, 1.0), (CONSONANTS, CODA)) * int(rng.integers(2, 4))
        word = "".join(letters[rng.integers(len(letters))] for letters, share in parts if rng.random() < share)
        if (zlib.crc32(word.encode()) % HELD_OUT == 0) == held_out:
            return word


def pad(rows: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> Batch:
    """Rows of ids as one batch [rows, length], cropped or padded at the end; length None: that of the longest."""
    length = length or max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id)
    valid = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        n = min(len(row), length)
        ids[i, :n], valid[i, :n] = torch.tensor(row[:n]), True
    return Batch(ids, valid)


def _between(bounds: int | tuple[int, int], rng: np.random.Generator) -> int:
    low, high = (bounds, bounds) if isinstance(bounds, int) else bounds
    return int(rng.integers(low, high + 1))


def _fill(text: str, fact: Fact) -> str:
    return text.replace("{n}", fact.name).replace("{v}", fact.value)

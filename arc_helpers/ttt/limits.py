"""What a run may take, and what it has learned of the memory it has: the ladder it goes down, one rung at a time, and
never up again.

Activation checkpointing, fewer slots at once, fewer rows, shorter sequences: none of them changes what is computed but
for the last digits, except that a shorter sequence has lost demonstrations.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TypeVar

import torch

from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.memory import Base, free_bytes, is_out_of_memory
from arc_helpers.runs import Deadline
from arc_helpers.ttt.grouping import filled
from arc_helpers.ttt.memory import SHARE, Footprint, choose
from arc_helpers.ttt.multilora import adapter_shapes, decoder_layers
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.store import GPU_SHARE

T = TypeVar("T")
R = TypeVar("R")
CHECKPOINTING = ("auto", "on", "off")
SPREAD = {"greedy": 1, "beam": 4, "dfs": 2}  # rows a prompt, about
CPU_TOKENS = 1024  # of a step that go through the model at once on a CPU, whose caches hold no more


@dataclass
class Limits:
    """How much goes through the model at once. What runs out of memory is halved here, for the rest of the run.

    activation_checkpointing: "auto" switches it on where it is needed. tokens_at_once: padded tokens of a training
    step's turn; slots beyond that take turns. rows_at_once: padded prompt tokens of the answers that are written side
    by side. slots: adapters that are trained side by side. longest: tokens of a training sequence. None: no limit is
    known. deadline: of the group that is at work, looked at before every step of training and of writing; training is
    over by `training`, so that what has been learned can answer. Raises ValueError, one line.
    """

    activation_checkpointing: str = "auto"
    tokens_at_once: int | None = None
    rows_at_once: int | None = None
    slots: int | None = None
    longest: int | None = None
    notes: list[str] = field(default_factory=list)  # what was given up since somebody asked
    deadline: Deadline = field(default_factory=lambda: Deadline(None))
    training: Deadline = field(default_factory=lambda: Deadline(None))

    def __post_init__(self):
        if self.activation_checkpointing not in CHECKPOINTING:
            allowed = ", ".join(CHECKPOINTING)
            raise ValueError(f"activation_checkpointing = {self.activation_checkpointing!r}: must be one of {allowed}")
        for name in ("tokens_at_once", "rows_at_once", "slots", "longest"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: must be >= 1")

    @classmethod
    def of(cls, settings: TTTSettings) -> "Limits":
        """What the settings ask for."""
        return cls(settings.activation_checkpointing, settings.tokens_at_once)

    def fewer_slots(self, slots: int) -> None:
        """So many adapters are trained side by side from now on."""
        self.slots = slots
        self.say("one adapter is trained at a time" if slots == 1 else f"{slots} adapters are trained side by side")

    def say(self, what: str) -> None:
        """Keep a note that memory ran out and what is done about it."""
        note = f"out of memory: {what}"
        if note not in self.notes:
            self.notes.append(note)

    def taken(self) -> list[str]:
        """The notes so far; from now on they are new ones."""
        notes, self.notes = self.notes, []
        return notes

    def in_pieces(
        self,
        items: Sequence[T],
        lengths: Sequence[int],
        work: Callable[[Sequence[T]], Sequence[R]],
        most: int | None = None,
    ) -> list[R | None]:
        """The results of work(piece), one an item, over pieces of at most `rows_at_once` padded tokens (and at most
        `most`); halved where memory runs out. None for an item that does not fit by itself."""
        found: list[R | None] = []
        while len(found) < len(items):
            left = slice(len(found), None)
            tokens = min((limit for limit in (self.rows_at_once, most) if limit), default=None)
            piece = filled(items[left], lengths[left], len(items), tokens)[0]
            done = fitting(partial(work, piece))
            if done is None and len(piece) > 1:
                longest = max(lengths[len(found) : len(found) + len(piece)])
                self.rows_at_once = max(1, len(piece) // 2 * longest)
                self.say(f"at most {self.rows_at_once} prompt tokens are read at once")
                continue
            found += [None] if done is None else done
        return found


def fitting(work: Callable[[], R]) -> R | None:
    """What work() returns; None where it ran out of memory, and all that it had is free again."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    release()  # from here on, since `error` held on to all that was computed
    return None


def release() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    torch.cuda.empty_cache()


def footprint_of(lm: LoadedLM, settings: TTTSettings) -> Footprint | None:
    """The memory that training and answering as asked will take; None for a base whose config tells no widths."""
    shapes = adapter_shapes(lm, mode=settings.mode, r=settings.r, target_modules=settings.targets, top_m=settings.top_m)
    numbers = sum(map(prod, shapes.values()))
    config = {**lm.model.config.get_text_config().to_dict(), "vocab_size": lm.head.weight.shape[0]}
    try:
        base = Base.of(config, lm.name)
    except KeyError:
        return None
    layers = len(decoder_layers(lm))
    trained = {"head": 0, "full": layers}.get(settings.mode, settings.top_m or max(1, layers // 4))
    four_bit = bool(getattr(lm.model, "is_loaded_in_4bit", False))
    return Footprint(base, numbers, trained, settings.r, lm.dtype.itemsize, four_bit)


def way_to_train(lm: LoadedLM, settings: TTTSettings, slots: int, tokens: int, limits: Limits) -> tuple[int, bool]:
    """How many slots to train side by side on sequences of so many tokens, and whether with activation checkpointing,
    by what is free now."""
    slots = min(slots, limits.slots or slots)
    wanted = {"auto": None, "on": True, "off": False}[limits.activation_checkpointing]
    footprint = footprint_of(lm, settings) if settings.steps else None
    if footprint is None:
        return slots, bool(wanted)
    most = limits.tokens_at_once or (CPU_TOKENS if lm.device.type == "cpu" else None)
    at_once = None if most is None else max(1, most // tokens)
    # the store keeps some of the states that the frozen layers give on the card
    share = SHARE - GPU_SHARE if lm.device.type == "cuda" and settings.mode != "full" else SHARE
    choice = choose(footprint, share * free_bytes(lm.device), slots, tokens, checkpointing=wanted, most=at_once)
    if choice is None:  # the forecast may be wrong: the least is tried
        return 1, wanted is not False
    return choice.slots, choice.checkpointing


def rows_that_fit(lm: LoadedLM, settings: TTTSettings, tokens: int, room: int) -> int | None:
    """Padded prompt tokens, of prompts of `tokens`, whose answers of at most `room` tokens can be written side by side
    in what is free now, adapters being there; None where nothing is known of the base."""
    footprint = footprint_of(lm, settings)
    if footprint is None:
        return None
    # a search writes several answers to a prompt: how many, nobody knows before
    rows = footprint.rows_at_once(SHARE * free_bytes(lm.device), 0, tokens, room) // SPREAD.get(settings.strategy, 1)
    return max(1, rows) * tokens

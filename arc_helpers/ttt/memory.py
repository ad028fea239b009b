"""One model of memory for test-time training: what a group of adapters takes beside the frozen weights, and what fits.

By it the trainer chooses how many slots go through the model at once, the decoder how many rows, and the planner what
to promise for a card. The coefficients are what autograd keeps of a Llama-like decoder layer, counted tensor by tensor;
`benchmarks/gpu_memory.py` counts them with the real code at the real widths, and prints how far off this is.
"""

from dataclasses import dataclass

from arc_helpers.lm.memory import Base

SHARE = 0.9  # of what is free that is planned with: an allocator leaves gaps
MASTER = 16  # bytes a trained number: float32 weight, gradient and two moments
ROOM = 64  # tokens that a cache grows by


@dataclass(frozen=True)
class Footprint:
    """Bytes that training and answering take beside the weights of a base.

    numbers: trained ones of an adapter. layers: decoder layers that run while training. r: rank of the adapters.
    width: bytes of an activation. four_bit: linear maps are 4-bit and are unpacked one at a time.
    """

    base: Base
    numbers: int
    layers: int
    r: int
    width: int = 2
    four_bit: bool = False

    def bank(self, slots: int, training: bool = True) -> int:
        """Of the adapters: with gradients and moments in training, the weights alone while answering."""
        return self.numbers * slots * (MASTER if training else MASTER // 4)

    @property
    def layer(self) -> int:
        """What backward needs of one decoder layer, bytes a token."""
        b, w = self.base, self.width
        norms = 2 * (4 + w) * b.hidden  # a norm computes in float32 and is scaled by its slot's own weights
        if b.qk_norm:
            norms += (4 + w) * (b.queries + b.keys)
        states = 2 * w * b.hidden + 4 * w * b.queries  # into the linear maps; query, key, value, and what they give
        return norms + states + 4 * w * b.intermediate + 7 * w * self.r

    def activations(self, tokens: int, checkpointing: bool, slots: int = 1) -> int:
        """At the peak of a step in which so many padded tokens of so many slots go through the model at once."""
        b, w = self.base, self.width
        ends = tokens * (5 * w * b.hidden + 12 * b.vocabulary)  # embedding, final norm, logits
        unpacked = w * b.hidden * b.intermediate if self.four_bit else 0
        casts = 0 if w == 4 else w * self.numbers * slots  # adapters in the base's dtype
        if checkpointing:  # the input of each layer, and all of the one that is run again
            kept = tokens * (self.layers * w * b.hidden + self.layer) + casts // max(1, self.layers)
        else:
            kept = tokens * (self.layers * self.layer + w * b.intermediate) + casts
        return ends + unpacked + kept

    def training(self, slots: int, tokens: int, checkpointing: bool, at_once: int | None = None) -> int:
        """Of `slots` adapters with sequences of `tokens`, `at_once` of which (None: all) go through the model."""
        n = slots if at_once is None else min(slots, at_once)
        return self.bank(slots) + self.activations(n * tokens, checkpointing, n)

    def row(self, tokens: int, room: int) -> int:
        """Of one answer being written: its prompt of `tokens` is read once, its keys and values are kept."""
        b, w = self.base, self.width
        cache = 2 * w * b.keys * b.layers * (tokens + room + ROOM)
        reading = tokens * w * (4 * b.hidden + max(3 * b.intermediate, 5 * b.queries))
        return cache + reading + (1 + w) * tokens * tokens  # the mask, and the same as a bias

    def answering(self, slots: int, rows: int, tokens: int, room: int) -> int:
        """Of `rows` answers with the adapters of `slots`."""
        unpacked = self.width * self.base.hidden * self.base.intermediate if self.four_bit else 0
        return self.bank(slots, training=False) + unpacked + rows * self.row(tokens, room)

    def rows_at_once(self, free: float, slots: int, tokens: int, room: int) -> int:
        """How many answers can be written at once in `free` bytes; 0 where not one can."""
        return max(0, int((free - self.answering(slots, 0, tokens, room)) // self.row(tokens, room)))

    def longest(self, free: float, most: int, room: int = 0) -> int:
        """The longest sequence, in tokens up to `most`, that one adapter can be trained on with checkpointing and one
        answer of `room` tokens be written to; 0 for none."""
        low, high = 0, most
        while low < high:
            tokens = (low + high + 1) // 2
            fits = max(self.training(1, tokens, True), self.answering(1, 1, tokens, room)) <= free
            low, high = (tokens, high) if fits else (low, tokens - 1)
        return low


@dataclass(frozen=True)
class Choice:
    """How a group is trained in the memory there is. `at_once` slots take turns in a step where it is below `slots`."""

    slots: int
    at_once: int
    checkpointing: bool
    bytes: int  # that it takes beside the weights

    @property
    def rung(self) -> str:
        """How far down the ladder this is, in words."""
        said = ["activation checkpointing"] if self.checkpointing else []
        said += [f"{self.slots} slots"] if self.slots > 1 else []
        said += [f"{self.at_once} at once"] if self.at_once < self.slots else []
        return ", ".join(said) or "one slot"


def choose(
    footprint: Footprint,
    free: float,
    slots: int,
    tokens: int,
    *,
    checkpointing: bool | None = None,
    most: int | None = None,
) -> Choice | None:
    """The fastest way to train `slots` adapters on sequences of `tokens` in `free` bytes: all of them at once (or
    `most`, where more would gain nothing); with activation checkpointing (None: where it is needed); then fewer, for
    slots that only wait for their turn take memory and gain nothing. None where not one fits."""
    ways = [again for again in (False, True) if checkpointing in (None, again)]
    for n in range(slots, 0, -1):
        at_once = min(n, most or n)
        for again in ways:
            taken = footprint.training(n, tokens, again, at_once)
            if taken <= free:
                return Choice(n, at_once, again, taken)
    return None


def adapter_numbers(base: Base, r: int, layers: int) -> int:
    """Trained numbers of an adapter of rank r in every linear map of `layers` layers, with the norms and a vocabulary
    of sixteen rows in full."""
    sides = 2 * (base.hidden + base.queries) + 2 * (base.hidden + base.keys) + 3 * (base.hidden + base.intermediate)
    return layers * (r * sides + 2 * base.hidden) + 33 * base.hidden

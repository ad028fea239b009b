"""What a frozen base computes is constant: each depth keeps as much of it as its adapters leave alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from arc_helpers.lm.decoder import entering, stopping_before
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.ttt.limits import fitting
from arc_helpers.ttt.multilora import MultiLoRAModel, per_slot_cross_entropy
from arc_helpers.ttt.store import StateStore, Stored


@dataclass(frozen=True)
class AnswerFeatures:
    """What head adapters learn from: hidden[i] is the final state that predicts token targets[i]."""

    hidden: Tensor  # [n, H], the base's dtype
    targets: Tensor  # int64 [n]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class LayerStates:
    """What adapters of the last layers learn from: the states that enter the first of those layers."""

    hidden: Tensor  # [T, H], the base's dtype
    example: Encoded

    def __len__(self) -> int:
        return len(self.example)


States = AnswerFeatures | LayerStates
Example = States | Stored | Encoded


def prepare(
    model: MultiLoRAModel, pools: Sequence[Sequence[Encoded]], store: StateStore | None = None
) -> list[list[Example]]:
    """Each slot's sequences in the form its training reads: computed once here, not once a step.

    store: where it is kept; None keeps all of it in memory. What does not fit there is computed at every step.
    """
    flat: list = [example for pool in pools for example in pool]
    if model.mode != "full":
        flat = _kept(model, flat, store or StateStore(float("inf")))
    return [flat[a:b] for a, b in pairwise(np.cumsum([0, *map(len, pools)]))]


def slot_losses(model: MultiLoRAModel, examples: Sequence[Example], slots: Tensor) -> Tensor:
    """The mean loss of each of `slots` [S] over the counted tokens of its examples, [S].

    There are equally many examples a slot, the first slot's first.
    """
    logits, labels = answer_logits(model, examples, slots)
    return per_slot_cross_entropy(logits.view(len(slots), -1, logits.shape[-1]), labels.view(len(slots), -1))


def answer_logits(model: MultiLoRAModel, examples: Sequence[Example], slots: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [N, n, V] at the positions that predict counted tokens, and those tokens, int64 [N, n], −100 behind the
    last; examples and slots as in `slot_losses`."""
    loaded: list[Any] = [e.load() if isinstance(e, Stored) else e for e in examples]
    if isinstance(loaded[0], AnswerFeatures):
        hidden, labels = _on(model.lm, [e.hidden for e in loaded]), [e.targets for e in loaded]
    else:
        states = _states(model, loaded, slots)
        answers = [_answer_positions(_encoded(e)) for e in loaded]
        hidden = pad_sequence([s[at.to(s.device)] for s, (at, _) in zip(states, answers, strict=True)], True)
        labels = [targets for _, targets in answers]
    return model.logits(hidden, slots), pad_sequence(labels, True, IGNORE).to(hidden.device)


def answer_features(lm: LoadedLM, examples: Sequence[Encoded], batch_tokens: int | None = None) -> list[AnswerFeatures]:
    """One forward of the base over all examples, in batches of at most `batch_tokens` padded tokens.

    None: 2048 on a CPU, else 8192. A batch that runs out of memory is done in halves; torch.OutOfMemoryError where one
    example by itself does.
    """
    return _in_order(_answer_features(lm, examples, batch_tokens))


def _in_order(found: Iterator[tuple[int, Any]]) -> list:
    return [states for _, states in sorted(found, key=lambda pair: pair[0])]


def _answer_features(lm: LoadedLM, examples: Sequence[Encoded], batch_tokens: int | None = None):
    """(index, AnswerFeatures) of every example, batch by batch."""

    def compute(batch: list[Encoded]) -> list[AnswerFeatures]:
        with torch.no_grad():
            hidden = lm.hidden(_padded(lm, batch), use_cache=False).last_hidden_state
        answers = [tuple(t.to(hidden.device) for t in _answer_positions(example)) for example in batch]
        # indexing copies, so the big batch can be freed
        return [AnswerFeatures(hidden[row, at], targets) for row, (at, targets) in enumerate(answers)]

    yield from _over_batches(lm, examples, batch_tokens, compute)


def _layer_states(lm: LoadedLM, examples: Sequence[Encoded], first_layer: int, batch_tokens: int | None = None):
    """(index, LayerStates) of every example, batch by batch."""

    def compute(batch: list[Encoded]) -> list[LayerStates]:
        with torch.no_grad(), stopping_before(lm.model, first_layer) as entered:
            lm.hidden(_padded(lm, batch), use_cache=False)
        (hidden,) = entered
        return [LayerStates(hidden[row, : len(example)].clone(), example) for row, example in enumerate(batch)]

    yield from _over_batches(lm, examples, batch_tokens, compute)


def _kept(model: MultiLoRAModel, examples: Sequence[Encoded], store: StateStore) -> list[Example]:
    """The states of all examples as far as the store takes them, the longest first."""
    if model.mode == "head":
        compute = partial(_answer_features, model.lm)
    else:
        compute = partial(_layer_states, model.lm, first_layer=model.first_layer)

    def anew(example: Encoded) -> Callable[[], States]:
        return lambda: next(compute([example]))[1]

    kept: list[Example] = list(examples)
    for i, states in compute(examples):
        kept[i] = store.keep(states, anew(examples[i]))
    return kept


def _states(model: MultiLoRAModel, examples: Sequence[Any], slots: Tensor) -> Tensor:
    """Final hidden states [N, T, H] of examples padded on the right, each with its slot's adapter."""
    lm = model.lm
    ids = _padded(lm, [_encoded(e) for e in examples])
    if not isinstance(examples[0], LayerStates):
        return model.hidden(ids, slots, use_cache=False).last_hidden_state
    states = _on(lm, [e.hidden for e in examples])
    with entering(lm.model, model.first_layer, states):
        return model.hidden(ids, slots, use_cache=False).last_hidden_state


def _on(lm: LoadedLM, states: Sequence[Tensor]) -> Tensor:
    """States [n, H] each, padded on the right to [N, n, H], on the base's device."""
    return pad_sequence([s.to(lm.device, non_blocking=True) for s in states], True)


def _encoded(example: Any) -> Encoded:
    return example.example if isinstance(example, LayerStates) else example


def _answer_positions(example: Encoded) -> tuple[Tensor, Tensor]:
    """Positions whose state predicts a counted token, int64 [n], and those tokens, int64 [n]."""
    labels = torch.from_numpy(example.labels)[1:]
    at = (labels != IGNORE).nonzero().squeeze(1)
    return at, labels[at]


def _padded(lm: LoadedLM, examples: Sequence[Encoded]) -> Tensor:
    # padded on the right under a causal mask: no real token sees the padding, so no mask is needed
    rows = [torch.from_numpy(e.input_ids) for e in examples]
    return pad_sequence(rows, True, lm.prompt_form.pad).to(lm.device)


def _over_batches(
    lm: LoadedLM, examples: Sequence[Encoded], batch_tokens: int | None, compute: Callable[[list[Encoded]], list]
) -> Iterator[tuple[int, Any]]:
    """(index, what compute(batch) finds for it) over batches of like length, longest first."""
    # beyond a CPU's caches a token costs a quarter more
    batch_tokens = batch_tokens or (2048 if lm.device.type == "cpu" else 8192)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]))
    while order:
        longest = len(examples[order[-1]])
        chosen = order[-max(1, batch_tokens // longest) :][::-1]
        found = fitting(partial(compute, [examples[i] for i in chosen]))
        if found is not None:
            del order[-len(chosen) :]
            yield from zip(chosen, found, strict=True)
        elif len(chosen) == 1:
            raise torch.OutOfMemoryError(f"the states of a sequence of {longest} tokens: out of memory")
        else:
            batch_tokens = len(chosen) // 2 * longest

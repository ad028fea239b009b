"""Does the suite compute a model as the model computes itself? Asked at every load, on some 40 tokens.

The suite runs a decoder and its head apart, in two halves (`top_m`), on a KV cache with padding, and often with a cut
vocabulary. Each of these ways has to end in the logits of the model's own forward.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from arc_helpers.arc import Pair
from arc_helpers.lm.decoder import UnknownModel, blocks_of, entering, stopping_before
from arc_helpers.lm.prompt import encode_pairs
from arc_helpers.lm.prompt_form import PromptForm

if TYPE_CHECKING:
    from arc_helpers.lm.loading import LoadedLM

#: largest relative distance of logits, ‖ours − its own‖ / ‖its own‖, by the coarsest number format on the way
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.06}
PADDING = 2  # pad tokens before the prompt, in the way of answering
SINGLE = 2  # tokens that are read one by one


@dataclass(frozen=True)
class Reference:
    """What a model itself makes of a prompt."""

    ids: Tensor  # int64 [1, T], as the prompt form's symbols stood when it was asked
    logits: Tensor  # float32 [1, T, V]
    form: PromptForm


@torch.no_grad()
def reference(model: PreTrainedModel, form: PromptForm, max_len: int | None = None) -> Reference:
    """The logits of the model's own forward. ValueError, one line, where they are not finite."""
    grid = np.arange(9).reshape(3, 3)
    prompt = encode_pairs([Pair(grid, grid[::-1])], Pair((grid + 1) % 10), form, max_len=max_len).input_ids
    ids = torch.from_numpy(prompt)[None].to(model.device)
    logits = model(input_ids=ids, use_cache=False).logits.float()
    if not logits.isfinite().all():
        raise ValueError("its own logits are not finite: load it with compute_dtype = float32, or bfloat16 on a GPU")
    return Reference(ids, logits, form)


def differences(lm: "LoadedLM", expected: Reference) -> dict[str, float]:
    """The ways that do not end in the model's own logits, and how far off they are: {} where all is well.

    "decoder": decoder and head apart; "split": in two halves; "cache": on a KV cache behind padding. A way that raises
    is infinitely far off.
    """
    same = {old: new for old, new in zip(expected.form.token_ids, lm.prompt_form.token_ids, strict=True)}
    ids = torch.tensor([[same[int(i)] for i in expected.ids[0]]], device=lm.device)
    logits = expected.logits
    if is_cut(lm, expected):
        logits = logits[..., expected.form.token_ids]
    tolerance = TOLERANCE.get(lm.dtype, 1e-4)
    ways = {"split": _split, "cache": _cached}
    found = {name: _distance(lm, way, ids, logits) for name, way in ways.items()}
    wrong = {name: distance for name, distance in found.items() if not distance <= tolerance}
    if "split" in wrong:  # is it the cut between the halves, or all of it?
        whole = _distance(lm, _whole, ids, logits)
        if not whole <= tolerance:
            return {"decoder": whole}
    return wrong


def is_cut(lm: "LoadedLM", expected: Reference) -> bool:
    """Whether the vocabulary has been cut since the model was asked."""
    return lm.prompt_form.token_ids != expected.form.token_ids or lm.head.weight.shape[0] < expected.logits.shape[-1]


@torch.no_grad()
def _distance(lm: "LoadedLM", way, ids: Tensor, logits: Tensor) -> float:
    try:
        ours = way(lm, ids).float().to(logits.device)
        own = logits[:, -ours.shape[1] :]
        return ((ours - own).norm() / own.norm()).item()
    except (UnknownModel, AttributeError, TypeError, RuntimeError, ValueError, IndexError, KeyError):
        return float("inf")  # an architecture that is built in another way raises whatever its code meets first


def _whole(lm: "LoadedLM", ids: Tensor) -> Tensor:
    return lm.logits(lm.hidden(ids, use_cache=False).last_hidden_state)


def _split(lm: "LoadedLM", ids: Tensor) -> Tensor:
    depth = len(blocks_of(lm.model)[1])
    first = depth - max(1, depth // 4)
    with stopping_before(lm.model, first) as entered:
        lm.hidden(ids, use_cache=False)
    with entering(lm.model, first, entered[0]):
        return _whole(lm, ids)


def _cached(lm: "LoadedLM", ids: Tensor) -> Tensor:
    """As answers are written: left-padded, then token by token."""
    pad = torch.full((1, PADDING), lm.prompt_form.pad, device=ids.device)
    padded = torch.cat([pad, ids], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :PADDING] = 0
    cache, end = DynamicCache(), padded.shape[1]
    places, logits = lm.positions(padded, mask), []
    cuts = [0, *range(end - SINGLE, end + 1)]
    for a, b in pairwise(cuts):
        inputs = {"attention_mask": mask[:, :b], "position_ids": places[:, a:b], "past_key_values": cache}
        logits.append(lm.logits(lm.hidden(padded[:, a:b], use_cache=True, **inputs).last_hidden_state))
    return torch.cat(logits, dim=1)[:, PADDING:]

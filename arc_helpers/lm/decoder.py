"""The parts of a causal LM that adapters and caches work on, whatever its architecture: blocks, norms, logits.

A model's own forward is embedding → blocks → final norm → head, and some do more on the way: they scale embeddings,
choose masks by the number of a block, cap or scale logits. Nothing here repeats what a model does; its own forward
runs, with some blocks passed over or their input replaced. `lm/selfcheck.py` compares both at load.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")


class UnknownModel(ValueError):
    """A model whose parts cannot be told; one line."""


def decoder_of(model: nn.Module) -> nn.Module:
    """What makes hidden states of ids, without the head."""
    return getattr(model, model.base_model_prefix)


def blocks_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """(name in the model, the decoder's blocks). UnknownModel where there is no list of as many as its config says."""
    count = model.config.get_text_config().num_hidden_layers
    prefix = f"{model.base_model_prefix}."
    for name, module in model.named_modules():
        if name.startswith(prefix) and isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise UnknownModel(f"{type(model).__name__}: no list of {count} blocks is found in it")


def final_norm_of(model: nn.Module) -> tuple[str, nn.Module]:
    """(name in the model, the norm behind the last block). UnknownModel where it has another name than is known."""
    place = blocks_of(model)[0].rpartition(".")[0]
    inner = model.get_submodule(place)
    for name in FINAL_NORMS:
        if isinstance(getattr(inner, name, None), nn.Module):
            return f"{place}.{name}", getattr(inner, name)
    raise UnknownModel(f"{type(model).__name__}: its final norm has none of the names {', '.join(FINAL_NORMS)}")


def finished(config: Any, logits: Tensor) -> Tensor:
    """What a model makes of its head's output: soft caps (Gemma), scales (Granite, Cohere, Falcon-H1)."""
    config = config.get_text_config()
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    for factor in ("logit_scale", "lm_head_multiplier"):
        if getattr(config, factor, None):
            logits = logits * getattr(config, factor)
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def embedding_scale(embedding: nn.Module) -> Tensor | float:
    """What an embedding multiplies its rows by (Gemma: √H)."""
    scale = getattr(embedding, "embed_scale", None)
    return 1.0 if scale is None else scale


@torch.no_grad()
def gain_of(norm: nn.Module) -> Tensor:
    """What a norm multiplies the normalised state by, of its weight's shape: its weight, or 1 + weight (Gemma).

    Which of them is found by trying; UnknownModel where it is neither.
    """
    weight = norm.weight.to(torch.promote_types(norm.weight.dtype, torch.float32))
    x = torch.ones(weight.shape[-1], device=weight.device)
    x[1::2] = -1  # mean 0 and variance 1: RMS norms and layer norms leave it as it is
    given = x.expand(weight.shape).to(norm.weight.dtype)[None, None]
    found = (norm(given) - norm(-given))[0, 0].float() / 2 * x  # a bias falls out
    for gain in (weight, 1 + weight):
        if torch.allclose(gain.float(), found, rtol=0.02, atol=0.02):
            return gain
    raise UnknownModel(f"{type(norm).__name__}: its gain is neither its weight nor 1 + its weight")


def _passed_over(hidden_states: Tensor, *args, **kwargs) -> Tensor:
    """The forward of a block that is left out."""
    return hidden_states


@contextmanager
def _only(blocks: nn.ModuleList, first: int, end: int) -> Iterator[None]:
    """Blocks outside first … end − 1 pass their input on. All keep their places: masks go by a block's number."""
    with ExitStack() as stack:
        for block in (*blocks[:first], *blocks[end:]):
            own = vars(block).get("forward")  # of accelerate, where layers are spread over devices
            block.forward = _passed_over
            stack.callback(_restore, block, own)
        yield


def _restore(block: nn.Module, own: Any) -> None:
    if own is None:
        del block.forward
    else:
        block.forward = own


@contextmanager
def entering(model: nn.Module, first: int, states: Tensor) -> Iterator[None]:
    """The model's forward with `states` [N, T, H] as the input of block `first`; the blocks before it are not run."""

    def replace(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (states, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": states}

    blocks = blocks_of(model)[1]
    with _only(blocks, first, len(blocks)):
        handle = blocks[first].register_forward_pre_hook(replace, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def stopping_before(model: nn.Module, first: int) -> Iterator[list[Tensor]]:
    """The model's forward without block `first` and those behind it; the list gets what enters it, [N, T, H]."""
    found: list[Tensor] = []

    def keep(block: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    blocks = blocks_of(model)[1]
    with _only(blocks, 0, first):
        handle = blocks[first].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            yield found
        finally:
            handle.remove()

"""Is LiZA on? Each check is one number, asked of the library's own operator and of the repaired one alike."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from arc_helpers.liza.cache import LizaLayer
from arc_helpers.liza.delta import chunked_delta_rule, delta_rule_recurrence
from arc_helpers.liza.repair import liza_layers
from arc_helpers.liza.schedule import mag_weight, set_mag_weight
from arc_helpers.liza.titanize import TARGETS, inner_model


def operator_error(order: int, library: bool = False, length: int = 128, seed: int = 0) -> float:
    """Largest error of the operator against the literal recurrence in float64, relative to the largest output.

    order: virtual tokens a token. library: tptt's operator instead of ours. length: tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    q, k, v, beta = torch.randn(4, 2, 3, length * order, 16, generator=generator, dtype=torch.float64)
    q, k, beta = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1), beta.sigmoid()
    expected = delta_rule_recurrence(q, k, v, beta)[0][:, :, order - 1 :: order]
    if library:
        from tptt import LinearAttentionOp

        q, k, v, beta = (x.unflatten(2, (length, order)) for x in (q, k, v, beta))
        operator = LinearAttentionOp(linear_precision=torch.float64)
        found = operator(q, k, v, torch.ones_like(beta), beta, linear_activation=True)[0]
    else:
        found = chunked_delta_rule(q, k, v, beta)[0][:, :, order - 1 :: order]
    return ((found - expected).abs().max() / expected.abs().max()).item()


def memory_reach(operator_mode: str, length: int = 64, seed: int = 0) -> float:
    """Of what the last token reads from a mode's exact memory, the share that stands more than one token back.

    By squared gradients of the read-out with respect to the values, random tokens, virtual tokens as tptt makes them.
    """
    from tptt import TpttConfig, VirtualTokenExpander

    mode = TpttConfig.RECURRENT_MODES[operator_mode]
    generator = torch.Generator().manual_seed(seed)
    q, k, v, beta = torch.randn(4, 8, 8, length, 32, generator=generator)
    q, k = (nn.functional.normalize(nn.functional.silu(x), dim=-1) for x in (q, k))
    v.requires_grad_()
    streams = [q, k, v, (beta / 3).sigmoid()]
    if mode["order"] > 1:
        expand = VirtualTokenExpander(8, 32, mode["order"], mode["trick"])
        streams = [expand(x).flatten(2, 3) for x in streams]
    out = chunked_delta_rule(*streams)[0][:, :, -1]
    (gradient,) = torch.autograd.grad((out * torch.randn(out.shape, generator=generator)).sum(), v)
    squares = gradient.square().sum(dim=(0, 1, 3))  # [length]
    return (squares[:-2].sum() / squares.sum()).item()


@torch.no_grad()
def decode_gap(model: nn.Module, ids: Tensor, prompt: int) -> float:
    """Largest difference of a logit [B, L, V] between one pass over ids [B, L] and token by token from `prompt` on."""
    whole = _logits(model, ids)
    cache = fresh_cache(model)
    steps = [_logits(model, ids[:, :prompt], cache)]
    steps += [_logits(model, ids[:, i : i + 1], cache) for i in range(prompt, ids.shape[1])]
    return _distance(torch.cat(steps, dim=1), whole)


@torch.no_grad()
def length_effect(model: nn.Module, ids: Tensor) -> float:
    """How much the logits of the first L − 1 tokens change when token L is appended."""
    return _distance(_logits(model, ids[:, :-1]), _logits(model, ids)[:, :-1])


@torch.no_grad()
def future_leak(model: nn.Module, ids: Tensor, padded: bool = False) -> float:
    """How much logits change before a token that is edited; padded: with pads behind a shorter second row."""
    mask = torch.ones_like(ids)
    if padded:
        mask[1:, -(ids.shape[1] // 4) :] = 0
    at = ids.shape[1] // 2
    edited = ids.clone()
    edited[:, at] = (edited[:, at] + 1) % inner_model(model).config.vocab_size
    before, after = (_logits(model, x, attention_mask=mask)[:, :at] for x in (ids, edited))
    return _distance(before, after)


@torch.no_grad()
def left_padding_effect(model: nn.Module, ids: Tensor, pads: int = 7) -> float:
    """How much the logits of ids [B, L] change when `pads` pads stand in front."""
    padded = torch.cat([ids.new_zeros(len(ids), pads), ids], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :pads] = 0
    return _distance(_logits(model, padded, attention_mask=mask)[:, pads:], _logits(model, ids))


@torch.no_grad()
def wiping_effect(model: nn.Module, ids: Tensor) -> float:
    """How much the next logits change when LiZA's state is set to zero between prompt and decoding."""
    kept, wiped = fresh_cache(model), fresh_cache(model)
    outputs = []
    for cache, wipe in ((kept, False), (wiped, True)):
        _reset_library(model)
        _logits(model, ids[:, :-1], cache)
        if wipe:
            _reset_library(model)
            for layer in cache.layers:
                if isinstance(layer, LizaLayer):
                    layer.memory["state"] = torch.zeros_like(layer.memory["state"])
        outputs.append(_logits(model, ids[:, -1:], cache))
    return _distance(*outputs)


@torch.no_grad()
def mag_effect(model: nn.Module, ids: Tensor) -> float:
    """How much logits change between MaG 0 and 1. The weight is put back."""
    low, high = (_at_weight(model, weight, lambda: _logits(model, ids)) for weight in (0.0, 1.0))
    return _distance(low, high)


def lora_gradients(model: nn.Module, ids: Tensor) -> dict[str, float]:
    """At MaG 1: the smallest gradient norm over layers of LoRA B of q, k, v and o. The weight is put back."""

    def backward() -> dict[str, float]:
        model.zero_grad()
        inner_model(model)(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        norms: dict[str, list[float]] = {name: [] for name in TARGETS}
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                norms[next(t for t in TARGETS if t in name)].append(parameter.grad.norm().item())
        model.zero_grad()
        return {name: min(values) for name, values in norms.items()}

    return _at_weight(model, 1.0, backward)


@torch.no_grad()
def base_difference(model: nn.Module, base: nn.Module, ids: Tensor) -> float:
    """At MaG 0 with the adapters off: how far logits are from those of `base`, loaded as it is (eager)."""
    with inner_model(model).disable_adapter():
        mixed = _at_weight(model, 0.0, lambda: _logits(model, ids))
    return _distance(mixed, base(input_ids=ids).logits)


@torch.no_grad()
def greedy_agreement(model: nn.Module, ids: Tensor, count: int = 16) -> float:
    """Share of `count` greedy tokens that are the same with the cache and without."""
    inner, made = inner_model(model), []
    for use_cache in (True, False):
        _reset_library(model)
        options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "use_cache": use_cache}
        made.append(inner.generate(ids[:1], attention_mask=torch.ones_like(ids[:1]), pad_token_id=0, **options))
    return (made[0] == made[1])[:, -count:].float().mean().item()


@torch.no_grad()
def branch_ratios(model: nn.Module, ids: Tensor) -> list[float]:
    """For each layer: the RMS of LiZA's output over that of the softmax branch, before MaG mixes them."""
    sizes: list[float] = []

    def note(module, args, output) -> None:
        sizes.append((output[0] if isinstance(output, tuple) else output).float().square().mean().sqrt().item())

    hooks = [
        part.register_forward_hook(note)
        for layer in liza_layers(model)
        for part in (layer.linear_attn, layer.base_attn)
    ]
    _logits(model, ids)
    for hook in hooks:
        hook.remove()
    return [liza / softmax for liza, softmax in zip(sizes[::2], sizes[1::2], strict=True)]


def is_liza_on(model: nn.Module, ids: Tensor) -> dict[str, float]:
    """The checks that a working memory passes, on ids [B ≥ 2, L ≥ 32]; lengths 127 and 128 where ids are so long."""
    half = ids.shape[1] // 2
    return {
        "decode_gap": decode_gap(model, ids, half),
        "greedy_agreement": greedy_agreement(model, ids[:, :half]),
        "length_effect": length_effect(model, ids),
        "wiping_effect": wiping_effect(model, ids),
        "left_padding_effect": left_padding_effect(model, ids[:, :half]),
        "future_leak": future_leak(model, ids),
        "future_leak_padded": future_leak(model, ids, padded=True),
        "mag_effect": mag_effect(model, ids),
        "lora_gradient": min(lora_gradients(model, ids).values()),
    }


def fresh_cache(model: nn.Module) -> DynamicCache:
    """An empty cache for this model, and for an unrepaired one a clean slate."""
    _reset_library(model)
    return DynamicCache(config=inner_model(model).config)


def _logits(model: nn.Module, ids: Tensor, cache=None, attention_mask: Tensor | None = None) -> Tensor:
    inner = inner_model(model)
    return inner(
        input_ids=ids, attention_mask=attention_mask, past_key_values=cache, use_cache=cache is not None
    ).logits


def _at_weight(model: nn.Module, weight: float, ask: Callable):
    before = mag_weight(model)
    set_mag_weight(model, weight)
    try:
        return ask()
    finally:
        set_mag_weight(model, before)


def _reset_library(model: nn.Module) -> None:
    if hasattr(model, "linear_cache"):
        model.linear_cache.reset()


def _distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()

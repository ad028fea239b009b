"""Windowed attention against a literal one, its cache, and how little it holds."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

from arc_helpers import liza
from arc_helpers.liza import checks
from arc_helpers.liza.measure import decode_cost


@pytest.fixture(params=["llama", "qwen2"])
def base(request, folders):
    return AutoModelForCausalLM.from_pretrained(folders[request.param], attn_implementation="eager").eval()


def literal(attention, rotary, x, window, sinks):
    """One query after another; a sink is seen from at most position sinks + window − 1."""
    heads = (*x.shape[:-1], -1, attention.head_dim)
    q, k, v = (p(x).view(heads).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    k, v = (repeat_kv(y, q.shape[1] // k.shape[1]) for y in (k, v))
    turned = lambda y, at: apply_rotary_pos_emb(y, y, *rotary(y, torch.tensor([at])))[0]  # noqa: E731
    rows = []
    for i in range(x.shape[1]):
        near = list(range(max(0, i - window + 1), i + 1))
        seen = [j for j in range(sinks) if j < near[0]] + near
        scores = []
        for j in seen:
            place = i if j in near else min(i, sinks + window - 1)
            query, key = turned(q[:, :, i : i + 1], [place]), turned(k[:, :, j : j + 1], [j])
            scores.append((query * key).sum(-1) * attention.scaling)
        weights = torch.cat(scores, dim=-1).softmax(-1)  # [B, H, seen]
        rows.append((weights[..., None] * v[:, :, seen]).sum(2))
    return attention.o_proj(torch.stack(rows, dim=1).flatten(2))


@pytest.mark.parametrize(("window", "sinks"), [(5, 2), (4, 0), (1, 3)])
@torch.no_grad()
def test_the_attention_is_the_literal_one(base, window, sinks):
    full = base.model.layers[0].self_attn
    x = torch.randn(2, 23, 64)
    liza.set_window(base, window, sinks)
    position_embeddings = base.model.rotary_emb(x, torch.arange(23)[None])
    found, _ = base.model.layers[0].self_attn(x, position_embeddings)
    assert torch.allclose(found, literal(full, base.model.rotary_emb, x, window, sinks), atol=1e-5)


@torch.no_grad()
def test_a_wide_window_is_full_attention_and_back_again(base, make, ids):
    for model in (base, make(), make("delta_product", "qwen2")):
        inner = liza.inner_model(model)
        full = inner(ids).logits
        liza.set_window(model, 128, 4)
        assert (inner(ids).logits - full).abs().max() <= 1e-5
        liza.set_window(model, 32, 4)
        assert (inner(ids).logits - full).abs().max() > 1e-3
        assert torch.equal(inner(ids).logits[:, :32], inner(ids[:, :32]).logits)
        liza.set_window(model, None)
        assert torch.equal(inner(ids).logits, full)


@pytest.mark.parametrize("sinks", [0, 4])
def test_decoding_is_reading(base, make, ids, sinks):
    for model in (base, make(), make("delta_product")):
        liza.set_window(model, 16, sinks)
        assert checks.decode_gap(model, ids[:, :48], 28) <= 1e-5
        assert checks.future_leak(model, ids[:, :48]) == 0


def test_the_cache_does_not_grow(make, ids):
    model = liza.set_window(make(), 16, 4)
    costs = decode_cost(model, ids[:1], (32, 64, 100), new=2, block=24)
    assert len({cost.bytes for cost in costs}) == 1
    full = decode_cost(liza.set_window(model, None), ids[:1], (32, 64, 100), new=2, block=24)
    assert full[0].bytes < full[1].bytes < full[2].bytes and costs[0].bytes < full[0].bytes


def test_the_windowed_memory_carries_what_the_window_lost(make, ids):
    """Beyond its window a base has forgotten an edited token; LiZA has not."""
    edited = ids.clone()
    edited[:, 8] += 1
    model = liza.set_window(make(), 8, 0)
    with torch.no_grad():
        moved = {w: None for w in (0.0, 0.5)}
        for weight in moved:
            liza.set_mag_weight(model, weight)
            a, b = (liza.inner_model(model)(x).logits[:, 60:] for x in (ids, edited))
            moved[weight] = (a - b).abs().max().item()
    assert moved[0.0] == 0 < moved[0.5]


def test_gradients_flow_through_the_window(make, ids):
    model = liza.set_window(make(), 8, 2)
    liza.inner_model(model)(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


def test_padding(make, ids):
    model = liza.set_window(make(), 16, 4)
    mask = torch.ones_like(ids)
    mask[1, 100:] = 0
    with torch.no_grad():
        assert (model(ids, attention_mask=mask).logits[1, :100] - model(ids[1:, :100]).logits).abs().max() <= 1e-5
    with pytest.raises(liza.LizaError, match="windowed attention takes no left padding"):
        model(ids, attention_mask=mask.flip(1))
    with pytest.raises(liza.LizaError, match="none at all with a cache"):
        model(ids, attention_mask=mask, use_cache=True)


def test_a_cache_of_another_attention(make, ids):
    model = make()
    inner, cache = liza.inner_model(model), checks.fresh_cache(model)
    inner(ids[:, :8], past_key_values=cache, use_cache=True)
    liza.set_window(model, 4)
    with pytest.raises(ValueError, match="was filled by another kind of attention: start a new cache"):
        inner(ids[:, 8:9], past_key_values=cache, use_cache=True)
    cache = checks.fresh_cache(model)
    inner(ids[:, :8], past_key_values=cache, use_cache=True)
    liza.set_window(model, None)
    with pytest.raises(TypeError, match="call set_window on the model first"):
        inner(ids[:, 8:9], past_key_values=cache, use_cache=True)


@pytest.mark.parametrize(("window", "sinks"), [(0, 4), (8, -1)])
def test_bad_windows(make, window, sinks):
    with pytest.raises(liza.LizaError, match=rf"^window = {window}, sinks = {sinks}: must be >= 1 and >= 0$"):
        liza.set_window(make(), window, sinks)

"""The chunked delta rule against the recurrence that it is defined by."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.liza.checks import memory_reach, operator_error
from arc_helpers.liza.delta import chunked_delta_rule, delta_rule_recurrence


def streams(length, seed, batch=2, heads=2, dim=4):
    generator = torch.Generator().manual_seed(seed)
    q, k, v, beta = torch.randn(4, batch, heads, length, dim, generator=generator, dtype=torch.float64)
    return q, torch.nn.functional.normalize(k, dim=-1), v, beta.sigmoid()


def state(seed, batch=2, heads=2, dim=4):
    return torch.randn(batch, heads, dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_recurrence_by_hand():
    """One channel, two tokens: write 3 under 1, then move halfway to 5."""
    one = torch.ones(1, 1, 2, 1, dtype=torch.float64)
    v = torch.tensor([3.0, 5.0], dtype=torch.float64).view(1, 1, 2, 1)
    beta = torch.tensor([1.0, 0.5], dtype=torch.float64).view(1, 1, 2, 1)
    out, last = delta_rule_recurrence(one, one, v, beta)
    assert out.flatten().tolist() == [3.0, 4.0] and last.item() == 4.0


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 70), chunk=st.integers(1, 33), seed=st.integers(0, 99), begun=st.booleans())
def test_chunks_are_the_recurrence(length, chunk, seed, begun):
    start = state(seed) if begun else None
    expected = delta_rule_recurrence(*streams(length, seed), start)
    found = chunked_delta_rule(*streams(length, seed), start, chunk)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max().clamp(min=1)


@settings(max_examples=20, deadline=None)
@given(length=st.integers(2, 40), cut=st.integers(1, 39), seed=st.integers(0, 99))
def test_two_parts_are_one(length, cut, seed):
    cut = min(cut, length - 1)
    x = streams(length, seed)
    first, between = chunked_delta_rule(*(s[:, :, :cut] for s in x), chunk=8)
    second, _ = chunked_delta_rule(*(s[:, :, cut:] for s in x), between, chunk=8)
    assert torch.allclose(torch.cat([first, second], 2), chunked_delta_rule(*x, chunk=16)[0], atol=1e-12)


def test_gradients_are_exact():
    x = [s.requires_grad_() for s in streams(11, 0, batch=1, dim=3)]
    start = state(1, batch=1, dim=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: chunked_delta_rule(*a, chunk=4), (*x, start))


@pytest.mark.parametrize("order", [1, 2])
def test_ours_is_exact_and_the_librarys_is_not(order):
    assert operator_error(order) <= 1e-14
    assert operator_error(order, library=True) > 0.5


def test_the_derivative_trick_forgets_and_the_rotation_does_not():
    """tptt's virtual tokens, under the exact rule: share of the read-out that is more than one token old."""
    assert memory_reach("delta_rule") > 0.8 and memory_reach("delta_product_r") > 0.8
    assert memory_reach("delta_product") < 0.4


def test_the_rule_is_float32_under_autocast_and_in_16_bits():
    """No device solves a triangular system in bfloat16; the state of a long text is a long sum."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, beta = torch.randn(4, 1, 2, 100, 8, generator=generator)
    q, k, beta = torch.nn.functional.normalize(q, dim=-1), torch.nn.functional.normalize(k, dim=-1), beta.sigmoid()
    expected, state = chunked_delta_rule(q, k, v, beta)
    with torch.autocast("cpu", torch.bfloat16):
        found, kept = chunked_delta_rule(q, k, v, beta)
    assert found.equal(expected) and kept.equal(state)
    half = [x.bfloat16() for x in (q, k, v, beta)]
    found, kept = chunked_delta_rule(*half)
    assert found.dtype == kept.dtype == torch.float32
    assert found.equal(chunked_delta_rule(*(x.float() for x in half))[0])

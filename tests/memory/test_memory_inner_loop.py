"""The inner loop against independent oracles: full forward, vmap over functional_call, loops, finite differences."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import random_ids, small_model
from torch.func import functional_call, grad, vmap

from arc_helpers.memory.inner_loop import FastState, inner_step, read
from arc_helpers.memory.meta import forward_ttt_meta


def full_nll(model, ids):
    logits = model(ids[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)


@pytest.mark.parametrize("layers", [1, 2])
def test_learning_off_is_the_full_forward(layers):
    model, ids = small_model(ttt_layers=layers), random_ids(3, 60)
    with torch.no_grad():
        expected = full_nll(model, ids)
    assert torch.allclose(read(model, ids, learn=False).nll, expected, atol=2e-6)
    assert torch.allclose(read(model, ids, lr_scale=0.0).nll, expected, atol=2e-6)
    assert not torch.allclose(read(model, ids).nll, expected, atol=1e-2), "learning changes something"


def test_a_million_tokens_on_nothing_has_drifted():
    """What is read there is what would be read at the beginning: attention goes by distances alone."""
    model, ids = small_model(), random_ids(2, 40)
    with torch.no_grad():
        here, there = (model.model.prefix(ids, model.new_cache(), position) for position in (0, 10**6))
        assert torch.allclose(here, there, atol=2e-5)
        places = torch.arange(10**6, 10**6 + 40)[None]
        model.model._rotation = lambda hidden, position: model.model.rotary_emb(
            hidden, places
        )  # as transformers has it
        assert not torch.allclose(here, model.model.prefix(ids, model.new_cache(), 10**6), atol=1e-2)


def test_lr_zero_is_the_base_exactly_in_float64(exact):
    model, ids = exact(), random_ids(2, 40)
    assert (read(model, ids, lr_scale=0.0).nll - read(model, ids, learn=False).nll).abs().max() < 1e-12


@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(1, 45), max_size=5, unique=True))
def test_prefill_in_any_pieces_is_the_full_forward(cuts):
    model, ids = small_model(), random_ids(2, 46)
    edges, cache, parts = [0, *sorted(cuts), 46], model.new_cache(), []
    with torch.no_grad():
        for i, j in pairwise(edges):
            hidden = model.model.prefix(ids[:, i:j], cache, i)
            parts.append(model.lm_head(model.model.suffix(hidden, None, cache, i)))
        assert torch.allclose(torch.cat(parts, dim=1), model(ids).logits, atol=1e-5)


def test_a_segment_boundary_changes_nothing(monkeypatch):
    model, ids = small_model(), random_ids(2, 90)
    whole = read(model, ids)
    monkeypatch.setattr("arc_helpers.memory.inner_loop.SEGMENT", 16)
    cut = read(model, ids)
    assert torch.allclose(whole.nll, cut.nll, atol=1e-5)


def test_batched_copies_equal_vmap_of_functional_call():
    """The oracle knows nothing of batched weights: it runs the plain Hugging Face forward, vmapped over sequences."""
    model, b = small_model(), 8
    ids = random_ids(4, b + 1)
    names = [f"model.layers.{i}.mlp_ttt.{t}" for i in (2, 3) for t in ("gate", "up", "down")]
    fast = {name: model.get_parameter(name).detach() for name in names}

    def loss(weights, row):
        logits = functional_call(model, weights, (row[None, :-1],)).logits[0]
        return F.cross_entropy(logits, row[1:])

    expected = vmap(grad(loss), in_dims=(None, 0))(fast, ids)
    state = read(model, ids).state
    for name, w, w0, lr in zip(names, state.weights, model.fast_weights(), model.inner_lrs(), strict=True):
        step = (w0 - w) / lr
        assert torch.allclose(step, expected[name], atol=1e-6), name
        alone = torch.stack([grad(loss)(fast, row)[name] for row in ids])
        assert torch.allclose(step, alone, atol=1e-6), name


def test_one_sequence_alone_equals_the_batch():
    model, ids = small_model(), random_ids(4, 50)
    together = read(model, ids)
    for i in range(4):
        alone = read(model, ids[i : i + 1])
        assert torch.allclose(alone.nll[0], together.nll[i], atol=1e-5)
        for w, all_w in zip(alone.state.weights, together.state.weights, strict=True):
            assert torch.allclose(w[0], all_w[i], atol=1e-5)


def test_no_leak_between_sequences():
    """Another sequence's text changes nothing of mine, to the last bit."""
    model, ids = small_model(), random_ids(3, 60)
    changed = ids.clone()
    changed[2] = random_ids(1, 60, seed=9)
    one, two = read(model, ids), read(model, changed)
    assert torch.equal(one.nll[:2], two.nll[:2]) and not torch.equal(one.nll[2], two.nll[2])
    for w, v in zip(one.state.weights, two.state.weights, strict=True):
        assert torch.equal(w[:2], v[:2]) and not torch.equal(w[2], v[2])


@settings(deadline=None, max_examples=10)
@given(at=st.integers(0, 55))
def test_causality(at):
    """Changing token t changes no loss of tokens before t, with learning on."""
    model, ids = small_model(), random_ids(1, 56)
    changed = ids.clone()
    changed[0, at] = (changed[0, at] + 1) % 50
    one, two = read(model, ids).nll[0], read(model, changed).nll[0]
    assert torch.equal(one[: max(0, at - 1)], two[: max(0, at - 1)])
    assert not torch.equal(one[max(0, at - 1) :], two[max(0, at - 1) :])


def test_reach_of_attention():
    """With learning off a token L·(k − 1) + 1 back changes nothing at all; with learning on it does."""
    model, reach = small_model(), small_model().config.reach
    ids = random_ids(1, reach + 20)
    query = reach + 15
    for back, seen in ((reach + 1, False), (reach, True)):
        changed = ids.clone()
        changed[0, query - 1 - back] = (changed[0, query - 1 - back] + 1) % 50
        pair = [read(model, x, learn=False).nll[0, query - 1] for x in (ids, changed)]
        assert (not torch.equal(*pair)) == seen, back
    far = ids.clone()
    far[0, 3] = (far[0, 3] + 1) % 50
    assert not torch.equal(read(model, ids).nll[0, query - 1], read(model, far).nll[0, query - 1])


def test_one_batch_as_long_as_the_text_is_no_learning(model):
    ids = random_ids(2, 41)
    whole = read(model, ids, ttt_batch=40)
    assert torch.allclose(whole.nll, read(model, ids, learn=False).nll, atol=2e-6)
    assert whole.state.updates.tolist() == [1, 1], "it learns, after the last loss is taken"


def test_only_fast_weights_move_and_a_new_text_starts_afresh(model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    ids = random_ids(2, 60)
    first = read(model, ids)
    assert (first.state.moved(model) > 0).all()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(read(model, ids).nll, first.nll)


def test_padding_takes_no_part(model):
    """A shorter text in a padded batch is read as if it were alone; its last batch, not full, takes no step."""
    ids = random_ids(2, 60)
    valid = torch.ones(2, 60, dtype=torch.bool)
    valid[1, 37:] = False
    together, alone = read(model, ids, valid=valid), read(model, ids[1:, :37])
    assert torch.allclose(together.nll[1, :36], alone.nll[0], atol=1e-5)
    assert together.state.updates.tolist() == [7, 4] and alone.state.updates.tolist() == [4]
    for w, v in zip(together.state.weights, alone.state.weights, strict=True):
        assert torch.allclose(w[1], v[0], atol=1e-5)


def test_clip_bounds_a_sequences_step():
    model = small_model(inner_clip=0.05, inner_lr=1.0)
    ids = random_ids(3, 9)
    assert torch.allclose(read(model, ids).state.moved(model), torch.full((3,), 0.05), atol=1e-6)
    loose = small_model(inner_clip=1e6, inner_lr=1.0)
    free = small_model(inner_lr=1.0)
    assert torch.allclose(read(loose, ids).state.moved(loose), read(free, ids).state.moved(free), rtol=1e-5)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_meta_gradient_against_finite_differences(exact, clip):
    """Directional derivative of the outer loss, inner learning rates included, float64, central differences."""
    model, ids = exact(inner_clip=clip), random_ids(2, 33)
    forward_ttt_meta(model, ids).loss.backward()
    generator = torch.Generator().manual_seed(3)
    ways = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in model.named_parameters()}
    slope = sum((p.grad * ways[n]).sum() for n, p in model.named_parameters()).item()
    assert all(model.get_parameter(f"model.layers.{i}.mlp_ttt.log_lr").grad.abs().min() > 0 for i in (2, 3))

    def loss_at(eps):
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.add_(eps * ways[n])
        value = forward_ttt_meta(model, ids).loss.item()
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.sub_(eps * ways[n])
        return value

    eps = 1e-6
    measured = (loss_at(eps) - loss_at(-eps)) / (2 * eps)
    assert abs(measured - slope) <= 1e-6 * abs(slope)


def test_first_order_is_another_gradient_of_the_same_loss():
    ids = random_ids(2, 33)
    grads = []
    for order in (1, 2):
        model = small_model()
        out = forward_ttt_meta(model, ids, order=order)
        out.loss.backward()
        grads.append((out.loss.item(), model.model.embed_tokens.weight.grad))
    assert grads[0][0] == pytest.approx(grads[1][0], abs=1e-6)
    assert not torch.allclose(grads[0][1], grads[1][1], rtol=1e-2)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("group", [1, 3])
def test_checkpointing_changes_nothing(layers, group):
    ids, results = random_ids(2, 50), []
    for batches in (0, group):
        model = small_model(ttt_layers=layers)
        out = forward_ttt_meta(model, ids, checkpoint_batches=batches)
        out.loss.backward()
        results.append((out, {n: p.grad for n, p in model.named_parameters()}))
    (kept, grads), (again, grads_again) = results
    assert torch.equal(kept.nll, again.nll) and torch.equal(kept.state.updates, again.state.updates)
    for name, gradient in grads.items():
        assert torch.allclose(gradient, grads_again[name], atol=1e-7), name


def test_a_step_that_is_not_finite_is_refused_and_reported(model):
    """That sequence keeps its last finite weights; the other one learns on."""
    ids = random_ids(2, 9)
    hidden = model.model.prefix(ids[:, :-1], model.new_cache(), 0).detach()
    hidden[1, 2] = float("nan")
    start = FastState.start(model, 2)
    arguments = (hidden, ids[:, 1:], torch.ones(2, 8), start, model.new_cache(), 0)
    _, state = inner_step(model, *arguments)
    assert state.updates.tolist() == [1, 0] and state.skipped.tolist() == [0, 1]
    assert all(torch.equal(w[1], w0[1]) for w, w0 in zip(state.weights, start.weights, strict=True))
    assert all(w.isfinite().all() for w in state.weights)


@pytest.mark.parametrize("shape", [(2, 1), (5,)])
def test_too_short_a_text_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"ids of shape .*at least 2 tokens"):
        read(model, torch.zeros(shape, dtype=torch.long))


def test_learn_weights_choose_what_is_learned_from(model):
    """Only targets with a weight count: no weight, no step; all ones, the plain step."""
    ids = random_ids(2, 33)
    half = torch.ones(2, 33)
    half[:, 17:] = 0
    state = read(model, ids, learn=half).state
    assert state.updates.tolist() == [2, 2]
    assert torch.equal(state.weights[0], read(model, ids[:, :17]).state.weights[0])

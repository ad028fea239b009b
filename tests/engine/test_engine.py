"""The engine computes what the module's own forward computes."""

import pytest
import torch

from arc_helpers.engine import Engine, shared_weights
from arc_helpers.engine.attention import CHUNK, causal_attention
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM


@pytest.fixture
def model() -> GridLMForCausalLM:
    torch.manual_seed(0)
    return GridLMForCausalLM(GridLMConfig.preset("tiny", initializer_range=0.2)).train()


def batch(rows: int = 3, length: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of grids, padded on the right; labels count the last third."""
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 11, (rows, length), generator=rng)
    ids[:, 0], ids[:, 1], ids[:, length // 2] = 14, 11, 12
    ids[0, -7:] = 13
    labels = ids.clone()
    labels[:, : length // 3], labels[0, -7:] = -100, -100
    return ids, labels


def engine_loss(model, engine, ids, labels, weights=None) -> torch.Tensor:
    positions = model.grid_positions(ids)
    total, count = engine.losses(
        weights or shared_weights(model), ids, labels, positions, model.model.rotary(positions), training=True
    )
    return total.sum() / count.sum()


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("length", [1, CHUNK, CHUNK + 1, 3 * CHUNK - 5])
def test_attention_is_that_of_torch(length):
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, length, 3, 8, requires_grad=True) for _ in range(3))
    own = causal_attention(8**-0.5 * q, k, v)
    reference = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), is_causal=True
    ).transpose(1, 2)
    torch.testing.assert_close(own, reference, atol=3e-6, rtol=0)
    wanted = torch.randn_like(own)
    for mine, theirs in zip(
        torch.autograd.grad(own, (q, k, v), wanted), torch.autograd.grad(reference, (q, k, v), wanted), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=5e-6, rtol=0)


def test_loss_and_gradients_are_those_of_the_module(model):
    ids, labels = batch()
    reference = model(ids, labels=labels).loss
    reference.backward()
    wanted = gradients(model)
    loss = engine_loss(model, Engine(model.config, "cpu", products=torch.float32), ids, labels)
    loss.backward()
    torch.testing.assert_close(loss, reference, atol=1e-6, rtol=0)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=0, msg=name)


def test_gradients_of_parts_add_up_before_they_flow_back(model):
    ids, labels = batch()
    engine = Engine(model.config, "cpu", products=torch.float32)
    engine_loss(model, engine, ids, labels).backward()
    engine_loss(model, engine, ids[:1], labels[:1]).backward()
    wanted = gradients(model)
    weights = shared_weights(model)
    leaves = weights.detached()
    for some in (slice(None), slice(1)):
        engine_loss(model, engine, ids[some], labels[some], leaves).backward()
    assert all(p.grad is None for p in model.parameters())
    weights.flow_back(leaves)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-6, rtol=0, msg=name)


def test_bfloat16_is_near(model):
    ids, labels = batch()
    near = engine_loss(model, Engine(model.config, "cpu", products=torch.bfloat16), ids, labels)
    assert near.item() == pytest.approx(model(ids, labels=labels).loss.item(), rel=0.02)


def test_without_native_bfloat16_the_note_says_so(model, monkeypatch):
    monkeypatch.setattr("arc_helpers.engine.engine.has_bfloat16", lambda device: False)
    engine = Engine(model.config, "cpu")
    assert engine.products == torch.float32
    assert engine.note == "float32 products (bfloat16 is not native here)"


def test_without_a_compiler_it_goes_on(model, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler here\nand much more")

    monkeypatch.setattr("arc_helpers.engine.engine.compiled", lambda function: broken)
    engine = Engine(model.config, "cpu", products=torch.float32, compile=True)
    assert engine.note.endswith(", not compiled: no C++ compiler here")
    ids, labels = batch()
    assert torch.allclose(engine_loss(model, engine, ids, labels), model(ids, labels=labels).loss, atol=1e-5)


def test_compiled_it_computes_the_same_for_rows_of_any_length(model):
    engine = Engine(model.config, "cpu", products=torch.float32, compile=True)
    assert "compiled" in engine.note, "or why it is not"
    for rows, length in ((3, 40), (2, 61)):
        ids, labels = batch(rows, length)
        model(ids, labels=labels).loss.backward()
        wanted = gradients(model)
        engine_loss(model, engine, ids, labels).backward()
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=0, msg=name)


def with_vectors(model: GridLMForCausalLM) -> tuple[torch.Tensor, torch.Tensor]:
    """Makes tasks' vectors part of a model; a batch whose rows begin with a task and a view."""
    model.config.task_names, model.config.task_vectors = ["a", "b"], True
    model.set_input_embeddings(torch.nn.Embedding(16 + 8 + 2, model.config.hidden_size))
    ids, labels = batch(3)
    ids[:, 1:3] = torch.tensor([[24, 16], [25, 23], [24, 17]])
    ids[:, 3] = 11
    return ids, labels


def test_vectors_of_task_and_view_are_added_as_in_the_module(model):
    ids, labels = with_vectors(model)
    model(ids, labels=labels).loss.backward()
    wanted = gradients(model)
    engine_loss(model, Engine(model.config, "cpu", products=torch.float32), ids, labels).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=0, msg=name)


def test_dropout_is_for_training_alone_and_leaves_the_mean(model):
    ids, labels = batch()
    model.config.dropout = 0.5
    engine, weights = Engine(model.config, "cpu", products=torch.float32), shared_weights(model)
    positions = model.grid_positions(ids)
    rotary = model.model.rotary(positions)
    with torch.no_grad():
        torch.manual_seed(0)
        dropped = [engine.losses(weights, ids, labels, positions, rotary, training=True)[0].item() for _ in range(2)]
        kept = engine.losses(weights, ids, labels, positions, rotary)[0]
        logits = model.eval()(ids, labels=labels).loss * (labels[:, 1:] != -100).sum()
    assert dropped[0] != dropped[1] and kept.item() not in dropped
    torch.testing.assert_close(kept, logits[None], atol=1e-4, rtol=0)
    model.train()
    with torch.no_grad():
        assert model(ids, labels=labels).loss != model(ids, labels=labels).loss

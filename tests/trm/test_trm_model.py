"""The model agrees with an independent forward in numpy, and its gradients go where they should."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from trm_models import small_config, small_model

from arc_helpers.trm.batch import Batch
from arc_helpers.trm.model import TRM, TRMConfig, count_parameters, decide_halts, segment_flops

CELLS, WIDTH = 9, 4  # the last row of the canvas is cut: one cell


def some_batch(rows: int = 3, cells: int = CELLS, width: int | None = None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 12, (rows, cells), generator=generator)
    return Batch.of(
        tokens,
        torch.tensor([3, 4, 9][:rows]) if width is None else width,
        labels=torch.randint(1, 12, (rows, cells), generator=generator),
        identifier=torch.tensor([1, 2, 3][:rows]),
        task=torch.tensor([3, 1, 2][:rows]),
        symmetry=torch.tensor([0, 5, 7][:rows]),
        colors=torch.stack([torch.randperm(10, generator=generator) for _ in range(rows)]),
    )


def filled(model: TRM) -> TRM:
    """In float64, with every table and head away from its zero start."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("conditioner", "halt_head")):
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return model.double()


# --- an independent forward: loops and einsum over numpy arrays, nothing of the package -------------------------------
def norm(x, axis=-1):
    return x / np.sqrt((x * x).mean(axis=axis, keepdims=True) + 1e-5)


def swiglu(x, gate_up, down):
    both = x @ gate_up.T
    half = both.shape[-1] // 2
    gate, up = both[..., :half], both[..., half:]
    return (gate / (1 + np.exp(-gate)) * up) @ down.T


def attention(x, qkv, out, heads, positions, theta):
    """positions: [S, axes]; pairs (i, i + d/2) of a head turn by position · theta^(-j/n), axis after axis."""
    length, width = x.shape
    d = width // heads
    n = d // 2 // positions.shape[1]
    result = np.zeros((length, width))
    projected = x @ qkv.T
    for h in range(heads):
        q, k, v = (projected[:, part * width + h * d : part * width + (h + 1) * d].copy() for part in range(3))
        for vector in (q, k):
            for s in range(length):
                for axis in range(positions.shape[1]):
                    for j in range(n):
                        angle = positions[s, axis] * theta ** (-j / n)
                        i = axis * n + j
                        a, b = vector[s, i], vector[s, i + d // 2]
                        vector[s, i] = a * np.cos(angle) - b * np.sin(angle)
                        vector[s, i + d // 2] = b * np.cos(angle) + a * np.sin(angle)
        scores = q @ k.T / np.sqrt(d)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        result[:, h * d : (h + 1) * d] = weights / weights.sum(axis=1, keepdims=True) @ v
    return result @ out.T


def reference(model: TRM, batch: Batch, row: int, segments: int):
    """(logits, halting logit) of one row after so many segments."""
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    c, D = model.config, model.config.hidden_size
    if c.conditioning == "shared":
        task = w["conditioner.task.weight"][batch.task[row]].reshape(c.prefix_len - 2, D)
        colors = sum(w["conditioner.color.weight"][10 * i + int(batch.colors[row, i])] for i in range(10))
        prefix = np.vstack([task, w["conditioner.symmetry.weight"][batch.symmetry[row]], colors])
    else:
        prefix = np.zeros((c.prefix_len, D))
        prefix[0] = w["conditioner.task.weight"][batch.identifier[row]]
    cells = w["embed.weight"][batch.cells[row].numpy()]
    if c.condition_cells:
        cells = cells + prefix.sum(axis=0)
    x = np.sqrt(D) * np.vstack([prefix, cells])
    n, P, width = len(cells), c.prefix_len, int(batch.width[row])
    if c.rope == "1d":
        positions = np.arange(P + n)[:, None]
    else:
        positions = np.array([(j - P, j - P) for j in range(P)] + [(i // width, i % width) for i in range(n)])

    def net(h):
        for b in range(c.num_layers):
            block = f"blocks.{b}."
            if c.mixer == "mlp":
                mixed = swiglu(h.T, w[block + "mixer.gate_up.weight"], w[block + "mixer.down.weight"]).T
                h = norm(h + mixed, axis=0)
            else:
                qkv, out = w[block + "attention.qkv.weight"], w[block + "attention.out.weight"]
                h = norm(h + attention(h, qkv, out, c.num_heads, positions, c.rope_theta))
            h = norm(h + swiglu(h, w[block + "mlp.gate_up.weight"], w[block + "mlp.down.weight"]))
        return h

    z_H, z_L = (np.tile(w[name], (P + n, 1)) for name in ("z_H_start", "z_L_start"))
    for _ in range(segments * c.H_cycles):
        for _ in range(c.L_cycles):
            z_L = net(z_L + z_H + x)
        z_H = net(z_H + z_L)
    halt = z_H[0] @ w["halt_head.weight"][0] + w["halt_head.bias"][0]
    return z_H[P:] @ w["head.weight"].T, halt


@pytest.mark.parametrize(
    "fields",
    [
        {"rope": "1d", "conditioning": "identifier", "H_cycles": 2, "rope_theta": 10000.0},
        {"rope": "2d", "condition_cells": True},
        {"mixer": "mlp", "rope": "none", "L_cycles": 3},
    ],
    ids=["official", "compact", "mixer"],
)
def test_agrees_with_numpy_in_float64(fields):
    model, batch = filled(small_model(**fields)), some_batch()
    carry = model.start(len(batch), CELLS)
    for segments in (1, 2):
        carry, logits, halt = model(carry, batch)
        for row in range(len(batch)):
            expected, expected_halt = reference(model, batch, row, segments)
            np.testing.assert_allclose(logits[row].detach().numpy(), expected, atol=1e-9, rtol=0)
            assert halt[row].item() == pytest.approx(expected_halt, abs=1e-9)
    assert carry.steps.tolist() == [2, 2, 2]


def test_the_defaults_are_the_published_model():
    """6,829,058 trainable numbers, of which 513 are the row of the halting head that nothing reads."""
    assert count_parameters(TRM(TRMConfig())) == {"network": 6_829_058 - 513, "conditioning": 512}
    assert TRMConfig().inner(512) == 1536


@pytest.mark.parametrize("fields", [{"full_gradient": True, "H_cycles": 2}, {"H_cycles": 1}])
def test_a_given_start_gets_the_gradient_of_finite_differences(fields):
    model, batch = filled(small_model(**fields)), some_batch(1)
    torch.manual_seed(3)
    shape = (1, model.config.prefix_len + CELLS, model.config.hidden_size)
    start = {name: torch.randn(shape, dtype=torch.float64).requires_grad_() for name in ("z_H", "z_L")}

    def output(**latents):
        return model(model.start(1, CELLS, **latents), batch).logits.square().sum()

    output(**start).backward()
    for name, latent in start.items():
        direction = torch.randn_like(latent)
        ends = [output(**{**start, name: latent + sign * 1e-5 * direction}).item() for sign in (1, -1)]
        assert (latent.grad * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
        assert latent.grad.norm() > 0.1


def test_a_start_that_could_not_learn_is_refused():
    """Published: the first H_cycles - 1 cycles run without gradient, so text put there would never be heard."""
    model = small_model(H_cycles=2)
    latent = torch.zeros(1, model.config.prefix_len + CELLS, model.config.hidden_size)
    with pytest.raises(ValueError, match="no gradient reaches a given start with H_cycles = 2"):
        model.start(1, CELLS, z_H=latent)
    with pytest.raises(ValueError, match=r"z_L: shape \(1, 12, 16\), the canvas needs \(1, 13, 16\)"):
        small_model().start(1, CELLS + 1, z_L=latent)


def test_only_the_last_cycle_learns_unless_all_do():
    """The gradient of the embedding: of H_cycles = 2 it is that of the last cycle alone."""

    def gradient(**fields):
        model = filled(small_model(**fields))
        batch = some_batch()
        model(model.start(3, CELLS), batch).logits.square().sum().backward()
        return model.embed.weight.grad

    last, every = gradient(H_cycles=2), gradient(H_cycles=2, full_gradient=True)
    assert not torch.allclose(last, every)
    model = filled(small_model(H_cycles=2))
    batch, carry = some_batch(), model.start(3, CELLS)
    one = filled(small_model(H_cycles=1))
    with torch.no_grad():
        carry = one(carry, batch).carry
    one(carry, batch).logits.square().sum().backward()
    assert torch.allclose(last, one.embed.weight.grad, atol=1e-12)


def test_a_prefix_can_come_from_elsewhere():
    model, batch = filled(small_model()), some_batch()
    own = model(model.start(3, CELLS), batch)
    given = model(model.start(3, CELLS), batch, prefix=model.conditioner(batch).detach())
    other = model(model.start(3, CELLS), batch, prefix=torch.zeros_like(model.conditioner(batch)))
    assert torch.equal(own.logits, given.logits) and not torch.allclose(own.logits, other.logits)


def test_rows_do_not_see_each_other():
    model, batch = filled(small_model()), some_batch()
    together = model(model.start(3, CELLS), batch).logits
    alone = model(model.start(1, CELLS), batch.rows(torch.tensor([1]))).logits
    assert torch.allclose(together[1], alone[0], atol=1e-12)


def test_a_mixer_has_one_size():
    model = small_model(mixer="mlp", canvas_cells=16, rope="none")
    with pytest.raises(ValueError, match="a canvas of 9 cells: the mlp mixer has a fixed one of 16; use attention"):
        model(model.start(3, CELLS), some_batch())


def test_restart_touches_its_rows_only():
    model, batch = small_model(), some_batch()
    carry = model(model.start(3, CELLS), batch).carry
    carry.halted = torch.tensor([True, False, True])
    again = model.restart(carry, carry.halted)
    fresh = model.start(3, CELLS)
    assert again.steps.tolist() == [0, 1, 0] and not again.halted.any()
    assert torch.equal(again.z_H[0], fresh.z_H[0]) and torch.equal(again.z_L[2], fresh.z_L[2])
    assert torch.equal(again.z_H[1], carry.z_H[1])


def test_blank_rows_stay_blank():
    model, batch = small_model(), some_batch()
    batch.task[0] = 0
    model(model.start(3, CELLS), batch).logits.sum().backward()
    assert not model.conditioner.task.weight.grad[0].any() and model.conditioner.task.weight.grad[1].any()


def test_halting():
    config = small_config(halt_max_steps=4, halt_exploration=0.0)
    carry = small_model().start(4, CELLS)
    carry.steps = torch.tensor([1, 1, 4, 3])
    halt = torch.tensor([0.1, -0.1, -3.0, 5.0])
    generator = torch.Generator().manual_seed(0)
    assert decide_halts(carry, halt, config, generator).halted.tolist() == [True, False, True, True]
    # every row explores: at least two segments, and the limit holds all the same
    bold = dataclasses.replace(config, halt_exploration=1.0)
    drawn = torch.stack([decide_halts(carry, halt, bold, generator).halted for _ in range(200)])
    assert not drawn[:, 0].any() and drawn[:, 2].all()
    assert 0.3 < drawn[:, 3].float().mean() < 0.9  # at 3 segments, a drawn least of 2 or 3 lets it go, 4 does not


@pytest.mark.parametrize("fields", [{}, {"mixer": "mlp"}, {"H_cycles": 2}, {"H_cycles": 2, "full_gradient": True}])
def test_flops_are_those_that_torch_counts(fields):
    model, batch = small_model(rope="none", **fields), some_batch()
    with sdpa_kernel(SDPBackend.MATH):  # torch does not count the fused kernel of CPUs
        with torch.no_grad(), FlopCounterMode(display=False) as forward:
            model(model.start(3, CELLS), batch)
        with FlopCounterMode(display=False) as training:
            model(model.start(3, CELLS), batch).logits.sum().backward()
    head = 3 * 2 * model.config.hidden_size  # of the halting head, which the estimate leaves out
    assert forward.get_total_flops() - head == 3 * segment_flops(model.config, CELLS, training=False)
    assert training.get_total_flops() - head == 3 * segment_flops(model.config, CELLS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"H_cycles": 0}, "H_cycles = 0: must be >= 1"),
        ({"mixer": "conv"}, "mixer = 'conv': must be one of attention, mlp"),
        ({"loss": "hinge"}, "loss = 'hinge': must be one of stablemax, softmax"),
        ({"rope": "3d"}, "rope = '3d': must be one of none, 1d, 2d"),
        ({"hidden_size": 20}, "hidden_size = 20: must be a multiple of 4 · num_heads = 2"),
        ({"prefix_len": 2}, "prefix_len = 2: shared conditioning needs >= 3"),
    ],
)
def test_a_config_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        small_config(**fields)


def test_presets():
    assert TRMConfig.preset("published") == TRMConfig()
    assert TRMConfig.preset("small", L_cycles=3).L_cycles == 3
    for name in ("sudoku", "tiny", "small", "compact"):
        assert TRMConfig.preset(name).every_cycle_learns
    with pytest.raises(ValueError, match="preset = 'huge': must be one of published, sudoku, tiny, small, compact"):
        TRMConfig.preset("huge")


def test_unknown_fields_of_a_saved_config_are_named():
    with pytest.raises(ValueError, match="unknown field depth"):
        TRMConfig.from_dict({"depth": 3})


def test_the_control_has_the_same_parameters():
    config = small_config(H_cycles=2, L_cycles=3, halt_max_steps=6)
    one, other = TRM(config), TRM(config.single_pass())
    assert count_parameters(one) == count_parameters(other)
    assert segment_flops(other.config, CELLS) < segment_flops(config, CELLS)

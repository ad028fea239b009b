"""AdamATan2 against its formula in plain floats; every parameter has one optimizer."""

import math

import pytest
import torch
from trm_models import small_model

from arc_helpers.trm.optim import AdamATan2, TableSignSGD, build_optimizers

RATES = {"lr": 1e-3, "lr_matrices": 0.02, "lr_tasks": 1e-2, "weight_decay": 0.1}


def test_adam_atan2_by_hand():
    weight, m, v = 0.7, 0.0, 0.0
    parameter = torch.nn.Parameter(torch.tensor([weight], dtype=torch.float64))
    optimizer = AdamATan2([parameter], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    for step, gradient in enumerate([0.3, -2.0, 0.0, 1e-30], start=1):
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
        weight *= 1 - 0.1 * 0.5
        weight -= 0.1 / (1 - 0.9**step) * math.atan2(m, math.sqrt(v / (1 - 0.95**step)))
        assert parameter.item() == pytest.approx(weight, abs=1e-12)


@pytest.mark.parametrize("kind", ["muon", "adamw", "adam_atan2"])
def test_every_parameter_has_one_optimizer(kind):
    model = small_model()
    optimizers = build_optimizers(model, kind, **RATES)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in model.parameters()}
    rate = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert rate[id(model.conditioner.task.weight)] == (1e-2, 0.0)
    assert rate[id(model.embed.weight)] == (1e-3, 0.1)
    assert rate[id(model.blocks[0].mlp.down.weight)] == ((0.02 if kind == "muon" else 1e-3), 0.1)


def test_sign_sgd_moves_the_rows_that_were_touched():
    table = torch.nn.Embedding(5, 2)
    torch.nn.init.constant_(table.weight, 2.0)
    optimizer = TableSignSGD(table.parameters(), lr=0.1, weight_decay=0.5)
    (table(torch.tensor([1, 3, 3])) * torch.tensor([[0.5, -9.0], [1e-9, 2.0], [1e-9, -1.0]])).sum().backward()
    optimizer.step()
    decayed = 2.0 * 0.95
    rows = {1: [decayed - 0.1, decayed + 0.1], 3: [decayed - 0.1, decayed - 0.1]}
    for row in range(5):
        assert table.weight[row].tolist() == pytest.approx(rows.get(row, [2.0, 2.0]))
    assert not optimizer.state


def test_tables_by_sign_sgd_have_an_optimizer_of_their_own():
    model = small_model()
    made = build_optimizers(model, "adam_atan2", **RATES, tables_by="signsgd", weight_decay_tasks=0.2)
    assert [type(optimizer).__name__ for optimizer in made] == ["TableSignSGD", "AdamATan2"]
    [group] = made[0].param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-2, 0.2)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.conditioner.parameters()}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="optimizer = 'lion': must be one of muon, adamw, adam_atan2"):
        build_optimizers(small_model(), "lion", **RATES)
    with pytest.raises(ValueError, match="tables_by = 'sgd': must be one of adam, signsgd"):
        build_optimizers(small_model(), "adamw", **RATES, tables_by="sgd")

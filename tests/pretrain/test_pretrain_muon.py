"""Stacked Muon is torch's Muon."""

import copy

import pytest
import torch
from torch import nn

from arc_helpers.pretrain.muon import Muon, NorMuon, orthogonalize


def matrices() -> nn.ParameterList:
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 16), (16, 16), (16, 24), (24, 16), (16, 16), (8, 40)]
    return nn.ParameterList(nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes)


def train(optimizer, parameters, steps: int) -> None:
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for p in parameters[:-1]:  # the last never gets a gradient
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("nesterov", [True, False])
def test_it_makes_the_steps_of_torch(nesterov):
    options = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.01, "nesterov": nesterov}
    theirs, ours = matrices(), matrices()
    train(torch.optim.Muon(theirs, **options), theirs, 5)
    train(Muon(ours, **options), ours, 5)
    for one, other, first in zip(theirs, ours, matrices(), strict=True):
        moved = (one - first).norm()
        assert (one - other).norm() <= 0.01 * moved  # both orthogonalise in bfloat16
    assert torch.equal(ours[-1], matrices()[-1])


def test_either_loads_the_others_state():
    theirs, ours = matrices(), matrices()
    first, second = torch.optim.Muon(theirs, lr=0.02), Muon(ours, lr=0.02)
    train(first, theirs, 3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    ours.load_state_dict(theirs.state_dict())
    train(first, theirs, 1)
    train(second, ours, 1)
    assert all((a - b).norm() <= 0.01 * 0.02 * a.norm() for a, b in zip(theirs, ours, strict=True))


def test_rows_become_orthogonal():
    wide = torch.randn(3, 8, 64, generator=torch.Generator().manual_seed(0))
    spread = torch.linalg.svdvals(orthogonalize(wide, (3.4445, -4.7750, 2.0315), 5, 1e-7).float())
    assert (spread > 0.6).all() and (spread < 1.3).all()


def test_normuon_moves_all_neurons_alike_and_as_far_as_muon():
    own = {"muon": matrices(), "normuon": matrices()}
    steps = {}
    for kind, name in ((Muon, "muon"), (NorMuon, "normuon")):
        optimizer = kind(own[name], lr=0.02, weight_decay=0.0)
        train(optimizer, own[name], 5)
        before = [p.detach().clone() for p in own[name]]
        train(optimizer, own[name], 1)
        steps[name] = [p.detach() - old for p, old in zip(own[name], before, strict=True)][:-1]
    for plain, even in zip(steps["muon"], steps["normuon"], strict=True):
        assert even.norm() == pytest.approx(plain.norm().item(), rel=0.05)
    lengths = [step[0].norm(dim=1) for step in steps.values()]  # 24 × 16: its rows cannot all be of length 1
    assert lengths[1].std() < 0.8 * lengths[0].std()


def test_normuon_goes_on_from_its_state():
    straight, resumed = matrices(), matrices()
    first, second = NorMuon(straight, lr=0.02), NorMuon(resumed, lr=0.02)
    train(first, straight, 3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed.load_state_dict(straight.state_dict())
    train(first, straight, 1)
    train(second, resumed, 1)
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))

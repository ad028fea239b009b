"""The arms that `trm_small_arc` and `trm_arms` compare: each differs from the plain one in what it says."""

import dataclasses

import pytest
import torch
from trm_models import small_config

from arc_helpers.trm import ArcSource, Carry, TrainConfig, predict
from arc_helpers.trm.canvas import PAD
from benchmarks.trm_arms import ARMS, TRAINERS, ask, build, on_the_way, shaken, shallower, table

CONFIG = TrainConfig(steps=3, batch_tokens=60, warmup_steps=1, log_every=3)


def trained(arm: str, dataset, **fields):
    torch.manual_seed(0)
    model = build(arm, small_config(conditioned_rows=1 + len(dataset.task_ids)))
    trainer = TRAINERS[arm](model, ArcSource(dataset), dataclasses.replace(CONFIG, **fields))
    trainer.run()  # checks that every parameter has a gradient
    return trainer


def test_every_arm_learns_and_answers(dataset):
    plain = torch.cat([p.flatten() for p in trained("recursive", dataset).model.parameters()])
    for arm in ARMS:
        model = trained(arm, dataset).model
        assert len(ask(arm, model, dataset, views=2)) == (5 if arm == "noise" else 1) * len(dataset.queries) * 2
        weights = torch.cat([p.flatten() for p in model.parameters()])
        same = len(weights) == len(plain) and torch.equal(weights, plain)
        assert same == (arm in ("recursive", "noise")), arm
        assert (len(weights) == len(plain)) == (arm != "convolution")


def test_the_convolution_is_nothing_at_first(dataset):
    models = []
    for arm in ("recursive", "convolution"):
        torch.manual_seed(0)
        models.append(build(arm, small_config(conditioned_rows=1 + len(dataset.task_ids))))
    one, other = ([p.q for p in predict(model, dataset, views=2)] for model in models)
    assert one == pytest.approx(other, abs=1e-6)


def test_a_target_on_the_way_begins_at_the_question_and_ends_at_the_answer():
    cells, labels = torch.tensor([[2, 3, PAD, 5]]), torch.tensor([[4, 4, 4, PAD]])
    made = [on_the_way(cells, labels, torch.tensor([done]), torch.Generator()) for done in (0.0, 1.0)]
    assert made[0].tolist() == [[2, 3, 4, PAD]] and made[1].tolist() == labels.tolist()


def test_depth_grows_by_thirds_and_is_whole_at_the_end(dataset):
    config = small_config(H_cycles=3, L_cycles=6, halt_max_steps=6)
    assert [shallower(config, share / 3).L_cycles for share in (1, 2, 3)] == [2, 4, 6]
    trainer = trained("deepening", dataset)
    assert trainer.model.config == trainer.averaged.config == small_config(conditioned_rows=1 + len(dataset.task_ids))


def test_noise_begins_behind_the_first_segment():
    carry = Carry(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    noisy = shaken(carry, torch.Generator())
    assert not noisy.z_H[0].any() and noisy.z_H[1].std() > 0.1 and not torch.equal(noisy.z_H, noisy.z_L)


def test_arms_are_compared_task_by_task():
    row = table([{"recursive": [1.0, 0.0], "noise": [1.0, 1.0]}])
    assert (row["n"], row["recursive"], row["noise"], row["noise_minus_recursive"]) == (2, 1.0, 2.0, 1.0)
    assert row["noise_minus_recursive_low"] == 0.0 and row["noise_minus_recursive_high"] == 2.0

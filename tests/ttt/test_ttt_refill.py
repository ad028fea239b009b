"""Jobs of different lengths through few slots: each ends as if it had been alone."""

import numpy as np
import pytest
import torch

from arc_helpers.lm.prompt import encode
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.jobs import Job, SlotState, Trained
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel
from arc_helpers.ttt.trainer import MultiLoraTrainer, train_slots

STEPS, LR = [6, 3, 9, 1, 4], [1e-3, 3e-3, 1e-3, 5e-4, 2e-3]


@pytest.fixture
def pools(gridlm, tasks) -> list:
    """Five of one to three sequences of many lengths."""
    one, two, three = ([encode(t, gridlm.prompt_form, all_outputs=True)] for t in tasks)
    return [one, [*two, *one], three, [*one, *three, *two], two]


def solve(gridlm, pools, slots: int, chosen=range(5), mode="full", **options) -> dict[str, Trained]:
    """Those jobs, by name, through so many slots."""
    model = MultiLoRAModel(gridlm, [f"slot{k}" for k in range(slots)], r=4, mode=mode)
    prepared = prepare(model, pools)
    jobs = [Job(f"task{i}", prepared[i], STEPS[i], LR[i]) for i in chosen]
    trained = MultiLoraTrainer(model, **options).run(jobs)
    assert [t.name for t in trained] == [job.name for job in jobs]
    return {t.name: t for t in trained}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slots", [2, 3])
def test_a_job_in_a_refilled_slot_ends_as_if_alone(gridlm, pools, mode, slots):
    """With a learning rate and a number of steps of its own."""
    together = solve(gridlm, pools, slots, mode=mode)
    for i, (name, trained) in enumerate(together.items()):
        alone = solve(gridlm, pools, 1, [i], mode=mode)[name]
        torch.testing.assert_close(trained.weights, alone.weights, atol=2e-5, rtol=0)
        np.testing.assert_allclose(trained.losses, alone.losses, atol=1e-4, rtol=0)
        assert trained.steps == STEPS[i] and trained.state is SlotState.FINISHED


@pytest.mark.parametrize("mode", MODES)
def test_in_turn_through_one_slot_is_bit_for_bit_alone(gridlm, pools, mode):
    """Without neighbours there is no padding: nothing of the job before is left in the slot."""
    for i, (name, trained) in enumerate(solve(gridlm, pools, 1, mode=mode).items()):
        alone = solve(gridlm, pools, 1, [i], mode=mode)[name]
        assert torch.equal(trained.weights, alone.weights)
        np.testing.assert_array_equal(trained.losses, alone.losses)


def test_jobs_that_fail_stop_early_or_have_nothing_to_do(gridlm, pools):
    def hidden(value: float):
        return [type(features)(torch.full_like(features.hidden, value), features.targets)]

    model = MultiLoRAModel(gridlm, ["x", "y"], r=4)
    features = prepare(model, pools)[0][0]
    jobs = [
        Job("broken", hidden(torch.inf), 30),
        Job("idle", [], 30),
        Job("hopeless", hidden(0.0), 30),  # no adapter changes its loss
        Job("untrained", [features], 0),
        Job("sound", [features], 30),
    ]
    trained = MultiLoraTrainer(model, patience=4, max_skips=2).run(jobs)
    fresh = MultiLoRAModel(gridlm, [job.name for job in jobs], r=4)
    states = [SlotState.FAILED, SlotState.PENDING, SlotState.FINISHED, SlotState.FINISHED, SlotState.FINISHED]
    assert [t.state for t in trained] == states
    assert [len(t.losses) for t in trained] == [2, 0, 5, 0, 30] and [t.steps for t in trained] == [0, 0, 4, 0, 30]
    for k in (0, 1, 3):
        assert torch.equal(trained[k].weights, fresh.bank.flat[k])
    assert set(model.names) < {job.name for job in jobs}, "a slot is called after its last job"


def test_a_job_may_start_from_given_weights(gridlm, pools):
    first = solve(gridlm, pools, 2, [0])["task0"].weights
    model = MultiLoRAModel(gridlm, ["a", "b"], r=4, mode="full")
    jobs = [Job(name, pools[0], 0, start=first) for name in ("a", "b", "c")]
    assert all(torch.equal(t.weights, first) for t in MultiLoraTrainer(model).run(jobs))


def test_steps_and_rates_of_their_own(gridlm, pools):
    """`train_slots` with one of each a slot."""
    model = MultiLoRAModel(gridlm, ["task0", "task1"], r=4, mode="full")
    training = train_slots(model, pools[:2], steps=STEPS[:2], lr=LR[:2])
    assert training.steps.tolist() == STEPS[:2] and training.losses.shape == (6, 2)
    assert np.isnan(training.losses[3:, 1]).all() and np.isfinite(training.losses[:3]).all()
    queued = solve(gridlm, pools, 2, [0, 1])
    for k, trained in enumerate(queued.values()):
        assert torch.equal(trained.weights, model.bank.flat[k])
    with pytest.raises(ValueError, match=r"^train_slots: 3 steps for 2 slots$"):
        train_slots(model, pools[:2], steps=STEPS[:3])


@pytest.mark.parametrize("name", ["batch", "patience"])
def test_options_below_one(gridlm, name):
    with pytest.raises(ValueError, match=f"^{name} = 0: must be >= 1$"):
        MultiLoraTrainer(MultiLoRAModel(gridlm, ["a"], r=4), **{name: 0})

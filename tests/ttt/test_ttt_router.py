"""Crops that keep the rule, a router that finds what there is to find, and a family in the base's own weights."""

import numpy as np
import pytest
import torch

from arc_helpers.arc import Pair, Task
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.router import Router, cropped, merged

GRID = np.arange(9 * 7).reshape(9, 7) % 10


def local_task() -> Task:
    """Every cell plus one: a rule that any window shows."""
    pairs = [Pair(np.roll(GRID, n, axis=0), (np.roll(GRID, n, axis=0) + 1) % 10) for n in range(3)]
    return Task("plus", tuple(pairs[:2]), (pairs[2],))


def test_a_crop_shows_the_same_place_of_input_and_output():
    task, rng = local_task(), np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        crop = cropped(task, 4, rng)
        for pair in (*crop.train, *crop.test):
            assert pair.input.shape == (4, 4) and np.array_equal(pair.output, (pair.input + 1) % 10)
            seen.add(pair.input.tobytes())
    assert len(seen) > 10, "windows of many places"
    assert cropped(task, 30, rng) == task and cropped(task, 8, rng).test[0].input.shape == (8, 7)


def test_what_cannot_be_cropped(tasks):
    assert cropped(tasks[2], 3, np.random.default_rng(0)) is None, "its outputs have another size"
    with pytest.raises(ValueError, match=r"^task plus: crops need every test output$"):
        cropped(local_task().without_answers(), 3, np.random.default_rng(0))


def test_the_router_finds_a_linear_rule_and_no_other():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 12)).astype(np.float32)
    gain = features[:, 3] - 0.5 * features[:, 7]
    losses = np.stack([np.ones(400), 1 + gain], axis=1)
    router = Router.fitted(features[:200], losses[:200])
    unseen, chosen = losses[200:], router.pick(features[200:])
    routed = unseen[np.arange(200), chosen].mean()
    assert routed < unseen.mean(axis=0).min() - 0.2
    assert routed < unseen.min(axis=1).mean() + 0.05
    noise = Router.fitted(features[:200], rng.normal(size=(200, 2))).pick(features[200:])
    assert unseen[np.arange(200), noise].mean() > routed + 0.2, "from noise it learns nothing"


def test_tasks_without_a_difference_do_not_count():
    features = np.array([[1.0], [-1.0], [3.0], [4.0]], dtype=np.float32)
    losses = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [2.0, 2.0]])
    assert Router.fitted(features, losses, l2=0.01).pick(features[:2]).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"^router: 0 features and 0 losses: must be as many, and some$"):
        Router.fitted(features[:0], losses[:0])


@torch.no_grad()
@pytest.mark.parametrize("mode", ["top_m", "full"])
def test_a_merged_slot_gives_the_same_logits_and_leaves_the_base(lm, mode):
    base = {name: value.clone() for name, value in lm.model.state_dict().items()}
    model = MultiLoRAModel(lm, ["a", "b"], r=4, mode=mode)
    torch.manual_seed(5)
    model.bank.flat.add_(0.05 * torch.randn_like(model.bank.flat))
    ids = torch.randint(0, 13, (2, 20))
    one = merged(model, 1)
    torch.testing.assert_close(one.model(ids).logits, model(ids, torch.tensor([1])), atol=1e-4, rtol=1e-4)
    assert (one.model(ids).logits - lm.model(ids).logits).abs().max() > 0.01
    assert all(torch.equal(value, base[name]) for name, value in lm.model.state_dict().items())


def test_a_head_adapter_is_not_merged(gridlm):
    with pytest.raises(ValueError, match=r"^merged: mode = 'head' is not supported; allowed are top_m, full$"):
        merged(MultiLoRAModel(gridlm, ["a"], r=4), 0)

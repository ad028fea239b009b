"""K trainings in one are K trainings."""

import numpy as np
import pytest
import torch

from arc_helpers.ttt.cache import AnswerFeatures
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.trainer import train_multi_lora

NAMES = ["a", "b", "c"]


def pool(seed: int, sizes: list[int], width: int = 64) -> list[AnswerFeatures]:
    """Random states with targets that a linear map can tell apart."""
    rng = torch.Generator().manual_seed(seed)
    rule = torch.randn(width, 16, generator=rng)
    made = [torch.randn(n, width, generator=rng) for n in sizes]
    return [AnswerFeatures(hidden, (hidden @ rule).argmax(dim=1)) for hidden in made]


@pytest.fixture
def pools() -> list[list[AnswerFeatures]]:
    """Of different sizes, with examples of different lengths."""
    return [pool(0, [5, 9, 3]), pool(1, [12]), pool(2, [4, 4, 4, 4, 7])]


def train(lm, names, pools, steps=20, **options) -> tuple[MultiLoRAModel, np.ndarray]:
    model = MultiLoRAModel(lm, names, r=4)
    return model, train_multi_lora(model, pools, steps=steps, **options)


def test_losses_fall_on_what_can_be_learnt(gridlm, pools):
    _, losses = train(gridlm, NAMES, pools, steps=60, lr=3e-2)
    assert losses.shape == (60, 3) and np.isfinite(losses).all()
    assert (losses[-5:].mean(axis=0) < 0.3 * losses[:5].mean(axis=0)).all()


@pytest.mark.parametrize("max_grad_norm", [1.0, 1e-2, 1e6])
def test_three_together_equal_three_alone(gridlm, pools, max_grad_norm):
    together, losses = train(gridlm, NAMES, pools, max_grad_norm=max_grad_norm)
    for k, name in enumerate(NAMES):
        alone, own_losses = train(gridlm, [name], [pools[k]], max_grad_norm=max_grad_norm)
        torch.testing.assert_close(alone.A[0], together.A[k], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.B[0], together.B[k], atol=1e-6, rtol=0)
        np.testing.assert_allclose(own_losses[:, 0], losses[:, k], atol=1e-6, rtol=1e-6)


def test_slots_may_change_places(gridlm, pools):
    one, _ = train(gridlm, NAMES, pools)
    other, _ = train(gridlm, NAMES[::-1], pools[::-1])
    torch.testing.assert_close(other.A.flip(0), one.A, atol=1e-6, rtol=0)


def test_training_one_leaves_the_other_and_the_base_as_they_were(gridlm, pools):
    base = {name: value.clone() for name, value in gridlm.model.state_dict().items()}
    model = MultiLoRAModel(gridlm, NAMES[:2], r=4)
    with torch.no_grad():
        model.B.normal_()
    before = model.A.detach().clone(), model.B.detach().clone()
    losses = train_multi_lora(model, [pools[0], []], steps=10)
    for now, then in zip((model.A, model.B), before, strict=True):
        assert not torch.equal(now[0], then[0])
        assert torch.equal(now[1], then[1])
    assert np.isfinite(losses[:, 0]).all() and np.isnan(losses[:, 1]).all()
    assert all(torch.equal(value, base[name]) for name, value in gridlm.model.state_dict().items())


def test_one_broken_slot_poisons_no_other(gridlm, pools):
    """A base in float16 can overflow on one task."""
    broken = [AnswerFeatures(torch.full((3, 64), torch.inf), torch.zeros(3, dtype=torch.long))]
    model, losses = train(gridlm, NAMES, [pools[0], broken, pools[2]])
    sound, _ = train(gridlm, NAMES, pools)
    assert np.isnan(losses[:, 1]).all() and np.isfinite(losses[:, [0, 2]]).all()
    for k in (0, 2):
        torch.testing.assert_close(model.A[k], sound.A[k], atol=1e-6, rtol=0)
        torch.testing.assert_close(model.B[k], sound.B[k], atol=1e-6, rtol=0)


@pytest.mark.parametrize("pools_given", ["none", "empty"])
def test_nothing_to_do(gridlm, pools, pools_given):
    model = MultiLoRAModel(gridlm, NAMES, r=4)
    before = model.A.detach().clone()
    steps, given = (0, pools) if pools_given == "none" else (4, [[], [], []])
    losses = train_multi_lora(model, given, steps=steps)
    assert losses.shape == (steps, 3) and np.isnan(losses).all()
    assert torch.equal(model.A, before) and not model.B.any()


def test_every_slot_needs_a_pool(gridlm, pools):
    with pytest.raises(ValueError, match="2 pools for 3 slots"):
        train(gridlm, NAMES, pools[:2])


def test_each_step_is_reported(gridlm, pools):
    seen = []
    _, losses = train(gridlm, NAMES, pools, steps=3, on_step=lambda step, row: seen.append((step, row.copy())))
    assert [step for step, _ in seen] == [0, 1, 2]
    np.testing.assert_array_equal(np.stack([row for _, row in seen]), losses)


def test_a_pool_is_gone_through_before_any_example_comes_again(gridlm):
    """The first losses of a frozen adapter tell which example was drawn."""
    examples = pool(0, [3, 4, 5, 6])
    _, losses = train(gridlm, ["a"], [examples], steps=12, lr=0.0)
    rounds = losses[:, 0].reshape(3, 4)
    assert len(set(rounds[0])) == 4
    assert all(sorted(r) == pytest.approx(sorted(rounds[0])) for r in rounds)
    _, again = train(gridlm, ["a"], [examples], steps=12, lr=0.0)
    np.testing.assert_array_equal(again, losses)
    _, other = train(gridlm, ["a"], [examples], steps=12, lr=0.0, seed=1)
    assert not np.array_equal(other, losses)


def test_clipping_is_each_slots_own(gridlm, pools):
    """Beside a wild neighbour: one norm over all slots would shrink the calm ones' gradients nearly to nothing."""
    wild = [AnswerFeatures(1e3 * example.hidden, example.targets) for example in pools[0]]
    options = {"max_grad_norm": 1e-3, "lr": 1e-5}
    beside, _ = train(gridlm, NAMES[:2], [wild, pools[1]], **options)
    alone, _ = train(gridlm, NAMES[1:2], [pools[1]], **options)
    torch.testing.assert_close(beside.A[1], alone.A[0], atol=1e-7, rtol=0)
    torch.testing.assert_close(beside.B[1], alone.B[0], atol=1e-7, rtol=0)
    assert alone.B.abs().max() > 1e-5

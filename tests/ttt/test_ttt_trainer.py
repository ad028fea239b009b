"""K trainings in one are K trainings."""

import numpy as np
import pytest
import torch

from arc_helpers.lm.prompt import Encoded, encode
from arc_helpers.ttt.cache import AnswerFeatures, prepare, slot_losses
from arc_helpers.ttt.jobs import Job, JobRun, SlotState
from arc_helpers.ttt.limits import Limits
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel
from arc_helpers.ttt.trainer import train_multi_lora, train_slots

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


@pytest.fixture
def encoded(lms, tasks) -> list[list[Encoded]]:
    """Pools of one, two and two sequences, of many lengths, for any of the models."""
    voc = lms["gridlm"].prompt_form
    mirror, fill, first = (encode(task, voc, all_outputs=True) for task in tasks)
    return [[mirror], [fill, encode(tasks[1], voc, max_len=30)], [first, encode(tasks[2], voc, test_index=1)]]


def train_depth(lm, mode, names, encoded, steps=6, cached=True, lr=1e-3, **options):
    """In float32, where Adam makes much of the rounding of tiny gradients: test_ttt_peft.py has the exact ones."""
    model = MultiLoRAModel(lm, names, r=4, mode=mode, top_m=1 if mode == "top_m" else None)
    return model, train_slots(model, prepare(model, encoded) if cached else encoded, steps=steps, lr=lr, **options)


@pytest.mark.parametrize("mode", MODES)
def test_in_every_depth_three_together_equal_three_alone(lm, encoded, mode):
    together, training = train_depth(lm, mode, NAMES, encoded)
    for k, name in enumerate(NAMES):
        alone, own = train_depth(lm, mode, [name], [encoded[k]])
        torch.testing.assert_close(alone.bank.flat[0], together.bank.flat[k], atol=2e-5, rtol=0)
        np.testing.assert_allclose(own.losses[:, 0], training.losses[:, k], atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["top_m", "head"])
def test_cached_equals_uncached(lm, encoded, mode):
    """Uncached, the whole base runs in every step, with hooks in its last layers (or behind it) only."""
    cached, training = train_depth(lm, mode, NAMES, encoded)
    plain, own = train_depth(lm, mode, NAMES, encoded, cached=False)
    torch.testing.assert_close(plain.bank.flat, cached.bank.flat, atol=2e-5, rtol=0)
    np.testing.assert_allclose(own.losses, training.losses, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_in_every_depth_a_broken_slot_leaves_the_others_bit_for_bit(gridlm, encoded, mode):
    """NaN in one slot's weights, as a step gone wrong leaves them."""

    def run(poison: bool):
        model = MultiLoRAModel(gridlm, NAMES, r=4, mode=mode)
        if poison:
            model.bank.flat[1, 3] = torch.nan
        return model, train_slots(model, prepare(model, encoded), steps=8, max_skips=20)

    (poisoned, training), (sound, expected) = run(True), run(False)
    assert np.isnan(training.losses[:, 1]).all() and training.steps.tolist() == [8, 0, 8]
    assert torch.equal(poisoned.bank.flat[[0, 2]], sound.bank.flat[[0, 2]])
    np.testing.assert_array_equal(training.losses[:, [0, 2]], expected.losses[:, [0, 2]])


@pytest.mark.parametrize("mode", MODES)
def test_in_every_depth_an_idle_slot_stays_as_it_is(gridlm, encoded, mode):
    model, training = train_depth(gridlm, mode, NAMES, [encoded[0], [], encoded[2]])
    fresh = MultiLoRAModel(gridlm, NAMES, r=4, mode=mode, top_m=1 if mode == "top_m" else None)
    assert torch.equal(model.bank.flat[1], fresh.bank.flat[1])
    assert not torch.isclose(model.bank.flat, fresh.bank.flat).all(dim=1)[[0, 2]].any()
    assert training.states == [SlotState.FINISHED, SlotState.PENDING, SlotState.FINISHED]
    assert training.steps.tolist() == [6, 0, 6]


def test_several_sequences_a_step_count_as_one_of_all_their_tokens(gridlm, encoded):
    model = MultiLoRAModel(gridlm, ["a", "b"], r=4, mode="full")
    pairs = [encoded[1], encoded[2]]
    losses = slot_losses(model, [e for pair in pairs for e in pair], torch.arange(2))
    for k, pair in enumerate(pairs):
        each = [slot_losses(model, [e], torch.tensor([k])).item() for e in pair]
        expected = np.average(each, weights=[e.answer_tokens for e in pair])
        assert losses[k].item() == pytest.approx(expected, abs=1e-5)
    _, training = train_depth(gridlm, "full", ["a", "b"], pairs, steps=2, batch=2)
    assert training.cost.tokens == 2 * sum(len(e) for pair in pairs for e in pair)
    with pytest.raises(ValueError, match="batch = 0: must be >= 1"):
        train_depth(gridlm, "full", ["a", "b"], pairs, batch=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [1, 2])
def test_slots_may_take_turns_within_a_step(gridlm, encoded, mode, batch):
    together, expected = train_depth(gridlm, mode, NAMES, encoded, batch=batch)
    for tokens in (1, 100):
        turns, training = train_depth(gridlm, mode, NAMES, encoded, batch=batch, limits=Limits(tokens_at_once=tokens))
        torch.testing.assert_close(turns.bank.flat, together.bank.flat, atol=2e-5, rtol=0)
        np.testing.assert_allclose(training.losses, expected.losses, atol=1e-5, rtol=0)


def test_what_a_training_says_of_itself(gridlm, encoded):
    _, training = train_depth(gridlm, "full", NAMES[:2], [encoded[0], encoded[1][:1]], steps=4)
    lengths = [len(encoded[0][0]), len(encoded[1][0])]
    assert training.cost.tokens == 4 * sum(lengths)
    assert training.cost.padding_ratio == pytest.approx(2 * max(lengths) / sum(lengths))
    assert training.cost.seconds > 0 and training.cost.tokens_per_second == training.cost.tokens / training.cost.seconds
    _, nothing = train_depth(gridlm, "full", NAMES[:2], [[], []], steps=4)
    assert nothing.cost.tokens == nothing.cost.tokens_per_second == 0 and nothing.cost.padding_ratio == 1.0


def hopeless() -> list[AnswerFeatures]:
    """States of zero: no adapter changes the loss."""
    return [AnswerFeatures(torch.zeros(3, 64), torch.tensor([1, 2, 3]))]


def contradictory() -> list[AnswerFeatures]:
    """Two examples that want different answers: the loss has a floor, and large steps overshoot it."""
    hidden = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    return [AnswerFeatures(hidden, torch.full((6,), token)) for token in (1, 2)]


def test_a_slot_stops_by_itself_with_its_best_weights(gridlm, pools):
    given, options = [hopeless(), pools[1], contradictory()], {"steps": 120, "lr": 3e-2, "warmup": 0.0}
    model, every_step = (MultiLoRAModel(gridlm, NAMES, r=4) for _ in range(2))
    training = train_slots(model, given, patience=20, **options)
    weights = [every_step.bank.flat.clone()]  # before each step
    train_slots(every_step, given, on_step=lambda *_: weights.append(every_step.bank.flat.clone()), **options)
    ran = np.isfinite(training.losses).sum(axis=0)
    assert training.states == [SlotState.FINISHED] * 3 and ran[0] == 21 < ran[1]
    for k in range(3):
        size = len(given[k])
        rounds = training.losses[: ran[k] // size * size, k].reshape(-1, size).mean(axis=1)
        lowest, best = np.inf, 0
        for i, mean in enumerate(rounds):
            if mean < 0.999 * lowest:
                lowest, best = mean, size * (i + 1) - 1  # the step that ended the round
        assert ran[k] == min(120, best + 1 + -(-20 // size) * size)
        assert np.isnan(training.losses[ran[k] :, k]).all(), "a finished slot is not run"
        torch.testing.assert_close(model.bank.flat[k], weights[best][k], atol=1e-4, rtol=0)


def test_an_easy_example_first_does_not_end_a_training_that_learns():
    """Losses fall with every step, but the first example is easier than the others ever become."""
    run = JobRun(0, Job("a", [None] * 16, steps=200), iter(()))
    for step in range(96):
        run.losses.append(0.01 if step % 16 == 0 else 2.0 * 0.99**step)
        run.look(10, 1, torch.tensor([float(step)]))
    assert run.state is SlotState.ACTIVE
    assert run.best.item() == 95


def test_stopping_of_one_does_not_touch_another(gridlm, pools):
    options = {"steps": 80, "lr": 3e-2, "patience": 10}
    model = MultiLoRAModel(gridlm, NAMES, r=4)
    train_slots(model, [hopeless(), pools[1], contradictory()], **options)
    alone = MultiLoRAModel(gridlm, NAMES[1:2], r=4)
    train_slots(alone, [pools[1]], **options)
    torch.testing.assert_close(alone.bank.flat[0], model.bank.flat[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="patience = 0: must be >= 1"):
        train_slots(model, pools, steps=1, patience=0)


def test_a_slot_that_keeps_failing_is_given_up(gridlm, pools):
    broken = [AnswerFeatures(torch.full((3, 64), torch.inf), torch.zeros(3, dtype=torch.long))]
    model = MultiLoRAModel(gridlm, NAMES, r=4)
    before = model.bank.flat.clone()
    training = train_slots(model, [pools[0], broken, pools[2]], steps=10, max_skips=3, loss_scale=1024.0)
    assert training.states == [SlotState.FINISHED, SlotState.FAILED, SlotState.FINISHED]
    assert torch.equal(model.bank.flat[1], before[1]) and training.steps.tolist() == [10, 0, 10]
    alone, _ = train(gridlm, ["a"], pools[:1], steps=10)
    torch.testing.assert_close(model.bank.flat[0], alone.bank.flat[0], atol=1e-6, rtol=0)


def test_a_loss_scale_changes_nothing_and_halves_where_gradients_overflow(gridlm, pools):
    plain, losses = train(gridlm, NAMES, pools)
    scaled, same = train(gridlm, NAMES, pools, loss_scale=1024.0)
    assert torch.equal(scaled.bank.flat, plain.bank.flat)
    np.testing.assert_array_equal(same, losses)
    # one slot's gradients leave float32 until its scale has come down; that is no failure of the slot
    loud = [AnswerFeatures(e.hidden * 2**8, e.targets) for e in pools[0]]
    model = MultiLoRAModel(gridlm, NAMES[:2], r=4)
    training = train_slots(model, [loud, pools[1]], steps=30, loss_scale=2.0**124, max_skips=1)
    assert training.states == [SlotState.FINISHED] * 2
    assert 5 < training.steps[0] < 30 and training.steps[1] > training.steps[0]

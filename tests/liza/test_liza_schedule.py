"""The MaG weight at every step, in every mode."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState

from arc_helpers import liza


class Args:
    load_best_model_at_end = False


@pytest.fixture(scope="module")
def model(llama):
    return liza.titanize_model(llama, operator_mode="delta_rule", mag_weight=0.3)


def run(callback, steps, start=0):
    """Step as the Trainer does: global_step counts what is finished."""
    state, control = TrainerState(global_step=start), TrainerControl()
    callback.on_train_begin(Args, state, control)
    for _ in range(steps):
        callback.on_step_begin(Args, state, control)
        state.global_step += 1
        state.log_history.append({"step": state.global_step})
        callback.on_log(Args, state, control, logs={})
    return state


def test_the_original_schedule_is_exact_from_step_1(model):
    # the original's lines end in commas: tuples
    callback = liza.AdjustMaGWeightCallback(model, initial_weight=(0.01,), final_weight=(0.5,), transition_step=(100,))
    state = run(callback, 120)
    for step, requested, used in callback.trace:
        expected = 0.01 + 0.49 * (step - 1) / 99 if step <= 100 else 0.5
        assert requested == used == pytest.approx(expected, abs=1e-15)
    assert callback.trace[0][2] == 0.01 and callback.trace[99][2] == callback.trace[119][2] == 0.5
    assert [record["mag_weight"] for record in state.log_history] == [used for _, _, used in callback.trace]
    assert liza.mag_weight(model) == model.config.mag_weight == 0.5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "constant"}, [0.5] * 6),
        ({"mode": "cyclic"}, [0.01, 0.5] * 3),
        ({"mode": "cyclic", "weight_list": [0, 0.2, 1]}, [0, 0.2, 1] * 2),
        ({"mode": "switch", "switch_period": 2}, [0, 0, 0.5, 0.5, 0, 0]),
        ({"transition_step": 1}, [0.5] * 6),
        ({"transition_step": 3, "initial_weight": 0.5, "final_weight": 0.1}, [0.5, 0.3, 0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_modes(model, options, expected):
    callback = liza.AdjustMaGWeightCallback(model, **options)
    run(callback, 6)
    assert [used for _, _, used in callback.trace] == pytest.approx(expected)


def test_a_resumed_run_goes_on_at_its_step(model):
    whole, part = (liza.AdjustMaGWeightCallback(model, transition_step=10) for _ in range(2))
    run(whole, 8)
    run(part, 3, start=5)
    assert part.trace == whole.trace[5:]


@settings(deadline=None)
@given(step=st.integers(1, 10**6), end=st.integers(1, 1000), a=st.floats(0, 1), b=st.floats(0, 1))
def test_never_outside_its_ends(model, step, end, a, b):
    weight = liza.AdjustMaGWeightCallback(model, a, b, end).requested(step)
    assert min(a, b) - 1e-12 <= weight <= max(a, b) + 1e-12 and (step < end or weight == b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "ramp"}, r"^mode = 'ramp': must be one of gradual, constant, cyclic, switch$"),
        ({"final_weight": 1.5}, r"^weights \[0\.01, 1\.5, 0\.01, 1\.5\]: must be between 0 and 1$"),
        ({"transition_step": 0}, r"^transition_step = 0, switch_period = 1: must be >= 1$"),
    ],
)
def test_bad_schedules(model, options, message):
    with pytest.raises(liza.LizaError, match=message):
        liza.AdjustMaGWeightCallback(model, **options)


def test_bad_weights(model):
    with pytest.raises(liza.LizaError, match=r"^mag_weight = -0\.1: must be between 0 and 1$"):
        liza.set_mag_weight(model, -0.1)

"""What groups cost, which settings fit, and that a run gives every task its share."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt_form import FORMS
from arc_helpers.runs import Deadline
from arc_helpers.ttt.budget import (
    UNITS,
    Budget,
    Costs,
    Size,
    best_fit,
    difference,
    fit_costs,
    forecast,
    lesser,
    size_of,
    work,
)
from arc_helpers.ttt.settings import TTTSettings

ASKED = TTTSettings(k=2, steps=64, views=8)
COSTS = Costs(train_step=0.01, train_token=1e-4, read_token=2e-5, write_step=0.01, write_token=1e-4)
QUICK = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
sizes = st.builds(Size, st.integers(20, 4000), st.lists(st.integers(2, 900), min_size=1, max_size=3).map(tuple))
groups = st.lists(st.lists(sizes, min_size=1, max_size=4), min_size=1, max_size=12)


def task(name: str, side: int = 2, tests: int = 1) -> Task:
    grid = np.zeros((side, side), dtype=int)
    return Task(name, (Pair(grid, grid), Pair(grid, grid)), tuple(Pair(grid) for _ in range(tests)))


def test_a_size_counts_tokens_row_ends_and_marks():
    # a 2 x 2 grid is 4 cells and 2 row ends; a pair has two marks and an end, and a document a start
    assert size_of(task("a", tests=2), FORMS["suite"], max_len=1000) == Size(1 + 2 * (2 * 6 + 3), (7, 7))
    assert size_of(task("a", tests=2), FORMS["suite"], max_len=20).tokens == 20


def test_work_by_hand():
    group = [Size(100, (10,)), Size(60, (10, 30))]
    assert work(group, ASKED).tolist() == [64, 64 * 2 * 100, 8 * 3 * 100, 30, 8 * 50]


def test_a_search_that_goes_deeper_costs_more():
    group = [Size(100, (10,))]
    costs = [
        forecast([group], dataclasses.replace(ASKED, strategy="dfs", min_prob=p), COSTS) for p in (0.1, 0.13, 0.2, 0.4)
    ]
    assert costs == sorted(costs, reverse=True) and costs[-1] == forecast([group], ASKED, COSTS)


@QUICK
@given(groups)
def test_costs_are_found_again(many):
    """Seconds made from known costs: the fit forecasts other settings, even where the parts cannot be told apart."""
    asked = [ASKED, dataclasses.replace(ASKED, steps=16, views=4)]
    works = [work(group, rung) for group in many for rung in asked]
    fitted = fit_costs(works, [float(w @ np.array(dataclasses.astuple(COSTS))) for w in works])
    assert min(dataclasses.astuple(fitted)) >= 0
    for rung in asked:
        assert forecast(many, rung, fitted) == pytest.approx(forecast(many, rung, COSTS), rel=0.1)


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing was measured"):
        fit_costs([], [])


@QUICK
@given(st.integers(0, 300), st.integers(1, 16), st.sampled_from(["greedy", "dfs"]))
def test_the_ladder_goes_down_to_the_least(steps, views, strategy):
    ladder = lesser(TTTSettings(steps=steps, views=views, strategy=strategy, min_prob=0.1))
    group = [Size(500, (100,))]
    costs = [forecast([group], rung, COSTS) for rung in ladder]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == len(costs)
    assert ladder[-1].steps == min(steps, 4) and ladder[-1].views == 1 and ladder[0].steps == steps


@QUICK
@given(groups, st.floats(0.01, 1e4), st.integers(1, 4))
def test_what_is_chosen_fits_and_what_is_dearer_does_not(many, seconds, devices):
    def fits(rung):
        each = [forecast([group], rung, COSTS) for group in many]
        return max(sum(each) / devices, *each) <= seconds

    chosen, ladder = best_fit(many, ASKED, COSTS, seconds, devices), lesser(ASKED)
    assert fits(chosen) or chosen == ladder[-1]
    assert not any(fits(rung) for rung in ladder[: ladder.index(chosen)])


# --- a run, on a clock of its own


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(seconds: float | None, tasks: int = 12, slower: float = 1.0, costs: Costs | None = None, k: int = 2):
    """Every group in turn takes what COSTS say, times `slower`: [(settings or None)] and the clock at the end."""
    clock = Clock()
    deadline = Deadline(seconds, clock)
    made = [task(f"t{i}", side=2 + i) for i in range(tasks)]
    grouped = [made[i : i + k] for i in range(0, tasks, k)]
    known = {t.id: size_of(t, FORMS["suite"], 4000) for t in made}
    budget = Budget(deadline, [[t.id for t in g] for g in grouped], known, ASKED, costs=costs)
    given_out = []
    for group in grouped:
        if not budget.fits(group):
            given_out.append(None)
            continue
        given_out.append(budget.settings_for(group))
        took = slower * forecast([[known[t.id] for t in group]], given_out[-1], COSTS)
        clock.now += took
        budget.took(group, took)
    return given_out, clock.now


def test_without_a_deadline_the_settings_are_the_very_same():
    given_out, _ = run(None)
    assert all(each is ASKED for each in given_out)


def test_with_time_enough_nothing_is_reduced():
    _, needed = run(None)
    assert run(2 * needed)[0] == [ASKED] * 6


def test_with_half_the_time_everybody_gets_a_share():
    _, needed = run(None)
    given_out, took = run(needed / 2, costs=COSTS)
    assert None not in given_out and took <= needed / 2
    assert given_out[0].steps * given_out[0].views < ASKED.steps * ASKED.views


def test_a_device_that_is_slower_than_thought_is_noticed():
    _, needed = run(None)
    given_out, took = run(needed, slower=3.0, costs=COSTS)
    assert given_out[0] == ASKED and None not in given_out[:-1] and took <= needed
    assert given_out[-1] is None or given_out[-1].steps < ASKED.steps


def test_a_run_that_knows_no_costs_learns_them_from_its_first_group():
    _, needed = run(None)
    given_out, took = run(needed / 2)
    assert given_out[0] is ASKED and took <= needed / 2 and given_out.count(None) <= 1


def test_no_time_at_all_starts_nothing():
    assert run(0.0)[0] == [None] * 6


def test_a_group_that_is_tried_again_gets_the_same():
    clock = Clock()
    tasks = [task("a"), task("b")]
    known = {t.id: size_of(t, FORMS["suite"], 100) for t in tasks}
    budget = Budget(Deadline(100, clock), [["a"], ["b"]], known, ASKED, costs=COSTS)
    first = budget.settings_for(tasks[:1])
    clock.now = 99.99
    assert budget.settings_for(tasks[:1]) is first
    budget.took(tasks[:1], 0.0)  # a worker that was lost tells nothing
    budget.took(tasks[:1], 1.0)


def test_the_units_are_positive_and_the_difference_is_a_note():
    assert min(dataclasses.astuple(UNITS)) > 0
    assert difference(ASKED, ASKED) is None
    less = dataclasses.replace(ASKED, steps=16)
    assert difference(ASKED, less) == "reduced to fit the deadline: steps 64 → 16"

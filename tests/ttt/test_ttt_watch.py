"""One task watched while it is learned."""

import dataclasses

import numpy as np
import pytest

from arc_helpers.arc import Pair
from arc_helpers.lm import load_causal_lm
from arc_helpers.runs import resolve
from arc_helpers.ttt import Shot, settings_from, solve_group, watch_task


@pytest.fixture(scope="module")
def micro():
    return load_causal_lm("models/arc-micro", trim_vocab=True)


@pytest.fixture
def settings():
    config = resolve("02_multilora_ttt", "tiny", {})
    return dataclasses.replace(settings_from(config, 0), steps=8, num_pseudo=6, views=2, mode="full", form="in_context")


def test_it_ends_with_what_a_run_ends_with(micro, tasks, settings):
    """The watching changes nothing, and the answers are no part of it."""
    seen = []
    shots, losses = watch_task(micro, tasks[0], settings, shots=3, on_shot=seen.append)
    assert [shot.step for shot in shots] == [0, 1, 4, 8] and seen == shots and len(losses) == 8
    assert shots[0].loss is None and shots[2].loss == pytest.approx(losses[3])
    asked = dataclasses.replace(settings, k=1, select="votes", strategy="greedy")
    (result,) = solve_group(micro, [tasks[0]], asked)
    assert np.array_equal(result.losses, losses)
    best = result.ranked[0][0]
    assert np.array_equal(shots[-1].grid, best.grid) and shots[-1].votes == best.votes
    other = dataclasses.replace(tasks[0], test=(Pair(tasks[0].test[0].input, [[9]]),))
    assert [shot.to_dict() for shot in watch_task(micro, other, settings, shots=3)[0]] == [s.to_dict() for s in shots]


def test_each_cell_has_a_probability(micro, tasks, settings):
    shots, _ = watch_task(micro, tasks[2], dataclasses.replace(settings, steps=0), test_index=1)
    for shot in shots:
        assert shot.sure.shape == shot.grid.shape and ((shot.sure > 0) & (shot.sure <= 1)).all()
        again = Shot.from_dict(shot.to_dict())
        assert np.array_equal(again.grid, shot.grid) and np.allclose(again.sure, shot.sure, atol=1e-3)
    assert [shot.step for shot in shots] == [0]

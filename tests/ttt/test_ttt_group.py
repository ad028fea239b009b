"""A group of tasks: what its slots, its joint first steps and its stopping have to do with the results."""

from dataclasses import replace

import numpy as np
import pytest

from arc_helpers.ttt.group import new_model, solve_group
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import TTTSettings

SETTINGS = TTTSettings(k=3, steps=8, num_pseudo=3, r=4, alpha=8.0, lr=1e-2, views=2, mode="full")


def answers(results) -> list[list[list]]:
    return [[grid.tolist() for attempts in result.attempts for grid in attempts] for result in results]


def test_fewer_slots_than_tasks_change_no_result(gridlm, tasks):
    together = solve_group(gridlm, tasks, SETTINGS)
    for k in (1, 2):
        refilled = solve_group(gridlm, tasks, replace(SETTINGS, k=k))
        assert refilled[0].stats["slots"] == k and [r.task_id for r in refilled] == [t.id for t in tasks]
        assert answers(refilled) == answers(together)
        for one, other in zip(refilled, together, strict=True):
            np.testing.assert_allclose(one.losses, other.losses, atol=1e-3)


def test_what_a_group_says_of_itself(gridlm, tasks):
    results = solve_group(gridlm, tasks, SETTINGS)
    stats = results[0].stats
    assert all(result.stats is stats for result in results), "one record a group"
    assert stats["slots"] == 3 and 1 <= stats["padding_ratio"] < 2 and "gpu_utilisation" not in stats
    assert min(stats[name] for name in ("train_seconds", "answer_seconds", "tokens_per_second", "peak_mib")) > 0


def test_sorted_pools_leave_less_padding(gridlm, tasks, monkeypatch):
    """Sequences that lose a demonstration are shorter: side by side with one another, they cost nothing."""
    mixed = {"mirror": [3, 1, 2], "fill": [1, 2, 3], "first": [2, 3, 1]}  # sequences in three lengths

    def pool(lm, task, settings):
        sequence = encode_pool(lm, task, settings)[0][0]
        return [replace(sequence, input_ids=np.tile(sequence.input_ids, n), labels=np.tile(sequence.labels, n))
                for n in mixed[task.id]], None  # fmt: skip

    monkeypatch.setattr("arc_helpers.ttt.group.encode_pool", pool)
    found = solve_group(gridlm, tasks, replace(SETTINGS, steps=3))[0].stats["padding_ratio"]
    lengths = [sorted(len(s) for s in pool(gridlm, task, SETTINGS)[0]) for task in tasks]
    assert found == pytest.approx(3 * sum(map(max, zip(*lengths, strict=True))) / sum(map(sum, lengths)))


def test_patience_ends_a_training_early(gridlm, tasks):
    settings = replace(SETTINGS, steps=40, lr=1e-9, patience=5)  # nothing is learned
    assert all(len(result.losses) < 40 for result in solve_group(gridlm, tasks, settings))


def test_a_failed_training_is_told_and_answered_without(gridlm, tasks):
    broken = solve_group(gridlm, tasks[:1], replace(SETTINGS, lr=1e30, steps=12))[0]
    untrained = solve_group(gridlm, tasks[:1], replace(SETTINGS, steps=0))[0]
    assert any(note.startswith("training failed: ") for note in broken.notes)
    assert answers([broken]) == answers([untrained])


def test_the_settings_choose_scale_and_layers(gridlm, tasks):
    settings = TTTSettings(mode="full", r=4, use_rslora=True, target_modules="q_proj, lm_head")
    model = new_model(gridlm, ["a"], settings)
    assert model.scaling == settings.alpha / 2  # √4
    assert {name.split(".")[-2] for name in model.bank.names if name.endswith(".A")} == {"q_proj", "head"}
    with pytest.raises(ValueError, match="target_modules: query not in the model"):
        new_model(gridlm, ["a"], replace(settings, target_modules="query"))
    with pytest.raises(ValueError, match="the embedding has an adapter in mode = full alone, not in top_m"):
        new_model(gridlm, ["a"], replace(settings, mode="top_m", target_modules="embed_tokens"))

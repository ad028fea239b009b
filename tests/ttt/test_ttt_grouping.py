"""Groups of like length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.arc import Pair, Task, build_pseudo_tasks
from arc_helpers.lm.prompt import encode
from arc_helpers.lm.prompt_form import FORMS
from arc_helpers.ttt.features import task_features
from arc_helpers.ttt.grouping import (
    STRATEGIES,
    clustered,
    filled,
    group_tasks,
    length_groups,
    padding_ratio,
    training_length,
)


def test_shortest_first_and_ties_in_order():
    lengths = {"a": 5, "b": 2, "c": 5, "d": 1, "e": 5}
    assert length_groups(list(lengths), list(lengths.values()), 2) == [["d", "b"], ["a", "c"], ["e"]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=20), st.integers(1, 6))
def test_every_item_is_in_one_group(lengths, k):
    items = list(range(len(lengths)))
    groups = length_groups(items, lengths, k)
    assert sorted(i for group in groups for i in group) == items
    assert all(len(group) == k for group in groups[:-1]) and all(1 <= len(group) <= k for group in groups)
    ordered = [lengths[i] for group in groups for i in group]
    assert ordered == sorted(ordered)
    if lengths and len(lengths) % k == 0:  # full groups are padded as little as any groups of k can be
        as_given = [lengths[i : i + k] for i in range(0, len(lengths), k)]
        assert padding_ratio([[lengths[i] for i in group] for group in groups]) <= padding_ratio(as_given)


@pytest.mark.parametrize("k", [0, -1])
def test_groups_hold_at_least_one(k):
    with pytest.raises(ValueError, match=f"k = {k}: must be >= 1"):
        length_groups(["a"], [1], k)


def test_padding_ratio():
    assert padding_ratio([[10, 5], [4, 4, 1]]) == pytest.approx((20 + 12) / 24)
    assert padding_ratio([[7]]) == 1.0 == padding_ratio([]) == padding_ratio([[]])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 6), st.integers(1, 120))
def test_a_group_fits_slots_and_tokens(lengths, k, group_tokens):
    """And is closed only when the next one would not."""
    groups = filled(list(enumerate(lengths)), lengths, k, group_tokens)
    assert [item for group in groups for item in group] == list(enumerate(lengths))
    for i, group in enumerate(groups):
        sizes = [length for _, length in group]
        assert len(sizes) <= k and (len(sizes) == 1 or len(sizes) * max(sizes) <= group_tokens)
        if i + 1 < len(groups):
            more = [*sizes, groups[i + 1][0][1]]
            assert len(more) > k or len(more) * max(more) > group_tokens


def made_task(task_id: str, side: int, color: int) -> Task:
    grid = [[color] * side] * side
    return Task(task_id, (Pair(grid, grid),), (Pair(grid),))


@pytest.fixture
def twelve() -> list[Task]:
    """Sides 1 to 6 in two colours each."""
    return [made_task(f"t{i:02}", 1 + i % 6, 3 + 2 * (i % 2 == i // 6)) for i in range(12)]


def grouped(tasks, strategy: str, k: int = 4, **options) -> list[list[Task]]:
    groups = group_tasks(tasks, [t.max_side**2 for t in tasks], k, strategy=strategy, **options)
    assert sorted(t.id for g in groups for t in g) == sorted(t.id for t in tasks)
    assert all(len(g) <= k for g in groups)
    longest = [max(t.max_side for t in g) for g in groups]
    assert longest == sorted(longest), "groups of short tasks first"
    return groups


def colors(tasks) -> set[int]:
    return {int(t.train[0].input[0, 0]) for t in tasks}


def test_strategies(twelve):
    sides = [[t.max_side for t in g] for g in grouped(twelve, "length")]
    assert sides == [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5, 6, 6]]
    assert sides == [[t.max_side for t in g] for g in grouped(twelve, "size")]
    assert sorted(colors(g) for g in grouped(twelve, "palette", k=6)) == [{3}, {5}]
    by_color = lambda tasks: np.array([[t.train[0].input[0, 0] == 3, 1.0] for t in tasks], dtype=np.float32)  # noqa: E731
    assert all(len(colors(g)) == 1 for g in grouped(twelve, "family", k=6, features=by_color))
    drawn = grouped(twelve, "random")
    assert drawn == grouped(twelve[::-1], "random") != grouped(twelve, "random", seed=1)
    assert padding_ratio([[t.max_side for t in g] for g in drawn]) > padding_ratio(sides)
    for strategy in STRATEGIES:
        assert grouped([], strategy, features=by_color) == []


def test_the_length_of_a_task_is_that_of_its_longest_pseudo_task(lms, tasks):
    tall = Task("tall", (Pair([[1], [2], [3]], [[1, 2], [3, 4]]), Pair([[4], [5], [6]], [[7]])), (Pair([[1]]),))
    for task in [*tasks, tall]:
        sequences = [encode(p.task, lms["gridlm"].prompt_form) for p in build_pseudo_tasks(task, 16)]
        assert training_length(task, FORMS["suite"]) == max(map(len, sequences))
    assert training_length(tall, FORMS["suite"], max_len=20) == 20


def test_bad_grouping(twelve):
    with pytest.raises(ValueError, match=r"^grouping = 'best': must be one of length, size, palette, family, random$"):
        grouped(twelve, "best")
    with pytest.raises(ValueError, match=r"^grouping = 'family': needs the features of the tasks$"):
        grouped(twelve, "family")
    with pytest.raises(ValueError, match=r"^group_tokens = 0: must be >= 1$"):
        grouped(twelve, "length", group_tokens=0)


def test_clusters_of_points_that_are_clusters():
    random = np.random.default_rng(0)
    centres = 10 * np.eye(3, 5)
    points = centres[np.arange(30) % 3] + random.normal(size=(30, 5))
    found = clustered(points, 3)
    assert all(len(set(found[first::3])) == 1 for first in range(3)) and len(set(found)) == 3
    assert set(clustered(np.ones((4, 2)), 2)) <= {0, 1} and clustered(points[:1], 5).tolist() == [0]


def test_features_do_not_look_at_answers(lm, tasks):
    features = task_features(lm, tasks)
    assert features.shape == (3, 64) and np.isfinite(features).all() and features.any(axis=1).all()
    np.testing.assert_array_equal(features, task_features(lm, [task.without_answers() for task in tasks]))
    assert len({tuple(row) for row in features}) == 3

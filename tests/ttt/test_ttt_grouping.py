"""Groups of like length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.ttt.grouping import length_groups, padding_ratio


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

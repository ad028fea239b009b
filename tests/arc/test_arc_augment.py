import numpy as np
import pytest
from arc_strategies import QUICK, grids, tasks, transforms
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import (
    DIHEDRAL,
    Pair,
    Task,
    Transform,
    choose_views,
    color_permutation,
    flip_grid,
    permute_colors,
    rotate_grid,
)

ASYMMETRIC = [[1, 2, 3], [4, 5, 6]]
IDENTITY = tuple(range(10))


def test_what_rotating_and_mirroring_mean():
    assert rotate_grid(ASYMMETRIC, 1).tolist() == [[3, 6], [2, 5], [1, 4]]
    assert flip_grid(ASYMMETRIC, "none").tolist() == ASYMMETRIC
    assert flip_grid(ASYMMETRIC, "H").tolist() == [[3, 2, 1], [6, 5, 4]]
    assert flip_grid(ASYMMETRIC, "V").tolist() == [[4, 5, 6], [1, 2, 3]]
    assert flip_grid(ASYMMETRIC, "HV").tolist() == rotate_grid(ASYMMETRIC, 2).tolist() == [[6, 5, 4], [3, 2, 1]]
    assert permute_colors([[0, 1, 9]], (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)).tolist() == [[0, 2, 9]]


def test_a_transform_mirrors_then_rotates_then_recolours():
    colors = color_permutation(1)
    by_hand = permute_colors(rotate_grid(flip_grid(ASYMMETRIC, "H"), 3), colors)
    assert Transform(3, True, colors).grid(ASYMMETRIC).tolist() == by_hand.tolist()


@QUICK
@given(grids(30), transforms())
def test_every_transform_inverts(rows, transform):
    there = transform.grid(rows)
    assert there.dtype == np.int8 and not there.flags.writeable and there.flags.c_contiguous
    assert transform.inverse.grid(there).tolist() == rows
    assert transform.inverse.inverse == transform


@QUICK
@given(st.data(), tasks())
def test_every_transform_inverts_on_tasks(data, task):
    transform = data.draw(transforms(len(task.train)))
    assert transform.inverse.task(transform.task(task)) == task


@QUICK
@given(grids(), transforms(), transforms())
def test_composition_is_one_after_the_other(rows, first, second):
    assert second.compose(first).grid(rows).tolist() == second.grid(first.grid(rows)).tolist()


@QUICK
@given(st.data(), tasks())
def test_composition_on_tasks(data, task):
    first, second = (data.draw(transforms(data.draw(st.sampled_from([None, len(task.train)])))) for _ in range(2))
    assert second.compose(first).task(task) == second.task(first.task(task))


@QUICK
@given(*[transforms(4)] * 3)
def test_group_laws(a, b, c):
    one = Transform()
    assert a.compose(one) == one.compose(a) == a
    assert a.compose(a.inverse) == a.inverse.compose(a) == one
    assert a.compose(b).compose(c) == a.compose(b.compose(c))
    assert a.compose(b).inverse == b.inverse.compose(a.inverse)


def test_the_dihedral_group():
    assert len(set(DIHEDRAL)) == 8 and DIHEDRAL[0] == Transform()
    assert len({d.grid(ASYMMETRIC).tobytes() + bytes(d.grid(ASYMMETRIC).shape) for d in DIHEDRAL}) == 8
    assert {a.compose(b) for a in DIHEDRAL for b in DIHEDRAL} == set(DIHEDRAL)


@QUICK
@given(st.data(), tasks())
def test_train_and_test_never_change_places(data, task):
    transform = data.draw(transforms(len(task.train)))
    result = transform.task(task)
    assert sorted(map(hash, result.train)) == sorted(hash(transform.pair(pair)) for pair in task.train)
    assert result.test == tuple(transform.pair(pair) for pair in task.test)
    assert result.id == task.id and result.source == task.source


def test_order_names_the_old_places():
    a, b, c = (Pair([[i]], [[i]]) for i in (1, 2, 3))
    task = Task("t", (a, b, c), (a,))
    assert Transform(order=(2, 0, 1)).task(task).train == (c, a, b)
    with pytest.raises(ValueError, match=r"^order: is for 2 demonstrations, but task t has 3$"):
        Transform(order=(1, 0)).task(task)
    with pytest.raises(ValueError, match=r"^order: cannot compose 2 with 3 demonstrations$"):
        Transform(order=(1, 0)).compose(Transform(order=(1, 0, 2)))


@QUICK
@given(st.integers(0, 13).flatmap(transforms) | transforms())
def test_names_round_trip(transform):
    assert Transform.from_name(transform.name) == transform
    assert all(character.isalnum() or character in "-." for character in transform.name)


def test_names_are_stable():
    assert Transform().name == "r0f0-c0123456789"
    assert Transform(1, False, IDENTITY, (2, 1, 0)).name == "r1f0-c0123456789-o210"
    assert Transform(order=(0, 1, 2)) == Transform()
    eleven = (10, *range(10))
    assert Transform(order=eleven).name == "r0f0-c0123456789-o10.0.1.2.3.4.5.6.7.8.9"


@pytest.mark.parametrize(
    "name", ["", "r4f0-c0123456789", "r0f0-c0123456788", "r0f0-c0123456789-o3", "r0f0-c0123456789-"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"^(name|colours|order): "):
        Transform.from_name(name)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"k": 4}, "k: 4; allowed are 0, 1, 2, 3 quarter turns"),
        ({"colors": (0,) * 10}, "colours: (0, 0, 0, 0, 0, 0, ...); allowed are permutations of 0 to 9"),
        ({"order": (1, 2)}, "order: (1, 2); allowed are permutations of 0 to n-1"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        Transform(**wrong)
    assert str(error.value) == message


def test_functions_refuse_wrong_values():
    with pytest.raises(ValueError, match=r"^k: -1; allowed"):
        rotate_grid([[1]], -1)
    with pytest.raises(ValueError, match=r"^mode: 'X'; allowed are 'none', 'H', 'V', 'HV'$"):
        flip_grid([[1]], "X")
    with pytest.raises(ValueError, match=r"^colours: "):
        permute_colors([[1]], (0, 1))


@QUICK
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_colour_permutations(seed, keep_zero):
    colors = color_permutation(seed, keep_zero)
    assert sorted(colors) == list(range(10)) and all(type(color) is int for color in colors)
    assert colors[0] == 0 or not keep_zero
    assert colors == color_permutation(seed, keep_zero) == color_permutation(np.random.default_rng(seed), keep_zero)


def test_a_generator_moves_on_and_zero_can_move():
    rng = np.random.default_rng(0)
    assert len({color_permutation(rng) for _ in range(20)}) == 20
    assert len({color_permutation(seed, keep_zero=False)[0] for seed in range(100)}) == 10


def test_views_are_the_task_itself_its_symmetries_then_other_colours():
    views = choose_views("a", 20, seed=1)
    assert len(set(views)) == 20 and views[:8] == list(DIHEDRAL) and all(v.colors[0] == 0 for v in views)
    assert all(view.colors != IDENTITY and view.order is None for view in views[8:])
    assert views == choose_views("a", 20, seed=1) and choose_views("a", 3) == views[:3]
    assert views != choose_views("b", 20, seed=1) and views != choose_views("a", 20, seed=2)
    with pytest.raises(ValueError, match="views = 9: without colour permutations there are 8"):
        choose_views("a", 9, colors=False)
    shown = choose_views("a", 16, demonstrations=4)
    assert shown[0] == Transform() and len({view.order for view in shown}) > 4
    assert all(view.order is None or sorted(view.order) == [0, 1, 2, 3] for view in shown)

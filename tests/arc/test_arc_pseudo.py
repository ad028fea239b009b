import subprocess
import sys
from collections import Counter

import pytest
from arc_strategies import QUICK, tasks
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import Pair, Task, build_pseudo_tasks


def one_color_task(*shapes: tuple[int, int], color: int = 1) -> Task:
    pairs = tuple(Pair([[color] * width] * height, [[color]]) for height, width in shapes)
    return Task("t", pairs, (Pair([[5]], [[7]]),))


@QUICK
@given(tasks(), st.integers(1, 12), st.integers(0, 3), st.booleans(), st.booleans())
def test_they_are_made_of_the_demonstrations_alone(task, m, seed, keep_zero, dihedral):
    result = build_pseudo_tasks(task, m, seed, keep_zero=keep_zero, dihedral=dihedral)
    assert len(result) == m and len({pseudo.name for pseudo in result}) == m
    for i, pseudo in enumerate(result):
        original = pseudo.transform.inverse.task(pseudo.task)
        assert original.test == (task.train[pseudo.held_out],)
        assert original.train == task.train[: pseudo.held_out] + task.train[pseudo.held_out + 1 :]
        assert pseudo.task.has_answers and pseudo.transform.name in pseudo.name and f"-p{i}-" in pseudo.name
        assert pseudo.transform.colors[0] == 0 or not keep_zero
        assert dihedral or (pseudo.transform.k, pseudo.transform.flip) == (0, False)


@QUICK
@given(tasks())
def test_the_test_pairs_make_no_difference(task):
    other = Task(task.id, task.train, (Pair([[9]], [[9]]),))
    assert build_pseudo_tasks(task, 6) == build_pseudo_tasks(other, 6) == build_pseudo_tasks(task.without_answers(), 6)


@QUICK
@given(tasks(), st.integers(1, 6), st.integers(0, 5))
def test_deterministic_and_the_first_do_not_depend_on_m(task, m, seed):
    assert build_pseudo_tasks(task, m, seed) == build_pseudo_tasks(task, m + 4, seed)[:m]


def test_the_same_in_every_process():
    task = one_color_task((2, 3), (4, 1), (3, 3))
    code = (
        "from arc_helpers.arc import *\n"
        f"task = Task.from_dict('t', {task.to_dict()})\n"
        "print(*[p.name for p in build_pseudo_tasks(task, 4, seed=3)])"
    )
    run = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": salt}, capture_output=True, text=True)
        for salt in ("1", "2")
    ]
    names = [pseudo.name for pseudo in build_pseudo_tasks(task, 4, seed=3)]
    assert run[0].stdout.split() == run[1].stdout.split() == names, run[0].stderr
    assert names[0] == "t-p0-h0-r1f0-c0712345689"  # a change here changes every run: say so in the log


def test_seeds_and_ids_make_a_difference():
    task = one_color_task((2, 3), (4, 1))
    other = Task("u", task.train, task.test)
    names = [build_pseudo_tasks(t, 3, seed)[2].transform for t, seed in ((task, 0), (task, 1), (other, 0))]
    assert len(set(names)) == 3


def test_every_demonstration_is_held_out_in_turn():
    task = one_color_task((1, 2), (1, 3), (1, 4))
    held_out = Counter(pseudo.held_out for pseudo in build_pseudo_tasks(task, 9))
    assert held_out == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize(
    "task, options, n_different",
    [
        (one_color_task((1, 1)), {}, 9),  # only the colour can change
        (one_color_task((1, 1), color=0), {}, 1),  # not even that
        (one_color_task((1, 2)), {}, 18),  # lying or standing
        (one_color_task((1, 2)), {"dihedral": False}, 9),
        (one_color_task((1, 2)), {"dihedral": False, "keep_zero": False}, 10),
        (one_color_task((1, 1), (1, 1)), {}, 9),  # the same whichever is held out
        (one_color_task((1, 1), (2, 2), (3, 3)), {"dihedral": False}, 3 * 2 * 9),  # query × order × colour
        (Task("t", (Pair([[1, 2, 3]], [[0]]),), (Pair([[1]]),)), {"dihedral": False}, 9 * 8 * 7),
    ],
)
def test_all_differ_while_different_ones_exist(task, options, n_different):
    result = build_pseudo_tasks(task, n_different + 5, **options)
    found = [pseudo.task for pseudo in result]
    assert len(set(found[:n_different])) == len(set(found)) == n_different
    assert len({(pseudo.held_out, pseudo.transform) for pseudo in result[:n_different]}) == n_different


def test_one_demonstration_leaves_a_query_without_demonstrations():
    pseudo = build_pseudo_tasks(one_color_task((2, 3)), 1)[0]
    assert pseudo.task.train == () and pseudo.held_out == 0 and len(pseudo.task.test) == 1


def test_bad_input():
    task = one_color_task((1, 1))
    with pytest.raises(ValueError, match=r"^m: 0; allowed are whole numbers from 1$"):
        build_pseudo_tasks(task, 0)
    with pytest.raises(ValueError, match=r"^task t: there are no demonstrations to make pseudo-tasks from$"):
        build_pseudo_tasks(Task("t", (), task.test), 1)

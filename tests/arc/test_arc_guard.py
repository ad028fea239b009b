import pytest
from arc_strategies import QUICK, tasks
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import Pair, SplitError, Task, check_split, find_overlap, load_tasks

A, B, C = (Pair([[i]], [[i, i]]) for i in (1, 2, 3))


def error_of(pretrain, scored) -> str:
    with pytest.raises(SplitError) as error:
        check_split(pretrain, scored)
    return str(error.value)


def test_a_shared_id():
    message = "pretraining tasks that are also scored: 1 by id (x); allowed are none"
    assert error_of([Task("x", (A,), (A,))], [Task("x", (B,), (B,))]) == message


@pytest.mark.parametrize(
    "pretrained, scored",
    [
        (Task("x", (A, B), (C,)), Task("y", (A,), (Pair([[9]]),))),
        (Task("x", (A, B), (C,)), Task("y", (Pair([[9]], [[9]]),), (B,))),
        (Task("x", (A, B), (C,)), Task("y", (C,), (Pair([[9]]),))),
    ],
)
def test_a_shared_pair_wherever_it_is(pretrained, scored):
    message = "pretraining tasks that are also scored: 1 by identical pair (x = y); allowed are none"
    assert error_of([pretrained], [scored]) == message


def test_a_shared_input_alone_is_no_shared_pair():
    check_split([Task("x", (Pair([[1]], [[2]]),), (A,))], [Task("y", (Pair([[1]], [[3]]),), (B,))])
    check_split([Task("x", (A,), (Pair([[1]]),))], [Task("y", (B,), (Pair([[1]]),))])


def test_arc_agi_2_training_holds_most_of_arc_agi_1_evaluation():
    pretrain, scored = load_tasks("arcagi2/training"), load_tasks("arcagi1/evaluation")
    assert error_of(pretrain, [task.without_answers() for task in scored]) == (
        "pretraining tasks that are also scored: 376 by id (00576224, 009d5c81, 00dbd492, ...); allowed are none"
    )


def test_arc_agi_1_training_and_evaluation_share_one_puzzle_under_two_ids():
    pretrain, scored = load_tasks("arcagi1/training"), load_tasks("arcagi1/evaluation")
    assert find_overlap(pretrain, scored) == {"40853293": "070dd51e"}
    assert error_of(pretrain, scored) == (
        "pretraining tasks that are also scored: 1 by identical pair (40853293 = 070dd51e); allowed are none"
    )
    check_split([task for task in pretrain if task.id != "40853293"], scored)


def test_arc_agi_2_is_split_cleanly():
    check_split(load_tasks("arcagi2/training"), load_tasks("arcagi2/evaluation"))


@QUICK
@given(*[st.lists(tasks(most_train=2), max_size=3)] * 2)
def test_without_the_overlap_the_check_passes(pretrain, scored):
    overlap = find_overlap(pretrain, scored)
    check_split((task for task in pretrain if task.id not in overlap), (task for task in scored))
    if overlap:
        error_of(pretrain, scored)

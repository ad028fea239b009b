import numpy as np
import pytest

from arc_helpers.arc import DIHEDRAL, Pair, Transform
from arc_helpers.lm.prompt import IGNORE, TaskTooLong, encode_pair
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.task_tokens import TaskTokens
from arc_helpers.lm.tokenizer import arc_tokenizer

TOKENS = TaskTokens(16, ("a", "b"))
PAIR = Pair([[1, 2, 0]], [[2, 1], [0, 0]])


@pytest.fixture(scope="module")
def prompt_form():
    return PromptForm.from_tokenizer(arc_tokenizer())


def test_every_task_and_view_has_a_row_of_its_own():
    rows = {row for name in TOKENS.names for view in DIHEDRAL for row in TOKENS.ids(name, view)}
    assert rows == set(range(16, 16 + TaskTokens.rows(TOKENS.names)))
    assert TaskTokens.rows(()) == 0


@pytest.mark.parametrize("view", DIHEDRAL, ids=lambda view: view.name)
def test_the_tokens_stand_behind_the_start_and_nothing_else_changes(prompt_form, view):
    named, plain = TOKENS.encode("b", PAIR, view, prompt_form), encode_pair(view.pair(PAIR), prompt_form)
    assert named.input_ids[0] == prompt_form.start
    assert named.input_ids[1:3].tolist() == TOKENS.ids("b", view).tolist()
    assert np.array_equal(np.delete(named.input_ids, [1, 2]), plain.input_ids)
    assert np.array_equal(np.delete(named.labels, [1, 2]), plain.labels)
    assert named.labels[1:3].tolist() == [IGNORE] * 2
    assert named.prompt_length == plain.prompt_length + 2


def test_a_test_input_is_a_bare_prompt(prompt_form):
    encoded = TOKENS.encode("a", Pair([[1]]), DIHEDRAL[0], prompt_form)
    assert encoded.prompt_length == len(encoded) and encoded.answer_tokens == 0


def test_the_tokens_count_in_the_length(prompt_form):
    length = len(TOKENS.encode("a", PAIR, DIHEDRAL[0], prompt_form))
    assert len(TOKENS.encode("a", PAIR, DIHEDRAL[0], prompt_form, max_len=length)) == length
    with pytest.raises(TaskTooLong):
        TOKENS.encode("a", PAIR, DIHEDRAL[0], prompt_form, max_len=length - 1)


def test_what_has_no_token_is_refused():
    with pytest.raises(ValueError, match="task c: the model has no token for it; adapt it jointly"):
        TOKENS.ids("c", DIHEDRAL[0])
    with pytest.raises(ValueError, match="only the 8 symmetries"):
        TOKENS.ids("a", Transform(0, False, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)))

"""The prompt form, to the token; what counts in the loss; what happens when it does not fit."""

import numpy as np
import pytest

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt import IGNORE, TaskTooLong, encode, encode_pair

PROMPT = "<start>I12\n34\nO5\n<end>I0\nO00\n<end>I6\nO"


def test_prompt_and_answer_of_a_hand_sized_task(prompt_form, task):
    encoded = encode(task, prompt_form)
    assert prompt_form.decode(encoded.input_ids[: encoded.prompt_length]) == PROMPT
    assert prompt_form.decode(encoded.input_ids[encoded.prompt_length :]) == "78\n<end>"
    assert encoded.input_ids.dtype == np.int64 == encoded.labels.dtype
    assert len(encoded) == len(encoded.labels) == encoded.prompt_length + 4
    assert encoded.dropped == 0


def test_only_the_answer_counts(prompt_form, task):
    encoded = encode(task, prompt_form)
    assert (encoded.labels[: encoded.prompt_length] == IGNORE).all()
    assert (encoded.labels[encoded.prompt_length :] == encoded.input_ids[encoded.prompt_length :]).all()
    assert encoded.answer_tokens == 4 == (encoded.labels != IGNORE).sum()


def test_all_outputs_counts_every_output_after_the_first(prompt_form, task):
    encoded = encode(task, prompt_form, all_outputs=True)
    assert prompt_form.decode(encoded.labels[encoded.labels != IGNORE]) == "00\n<end>78\n<end>"
    counted = encoded.labels != IGNORE
    assert (encoded.labels[counted] == encoded.input_ids[counted]).all()
    assert (encoded.input_ids == encode(task, prompt_form).input_ids).all()


def test_all_outputs_skips_the_first_that_is_left(prompt_form, task):
    """A rule cannot be guessed from the first demonstration, whichever that is after dropping."""
    encoded = encode(task, prompt_form, all_outputs=True, max_len=len(encode(task, prompt_form)) - 1)
    assert encoded.dropped == 1
    assert prompt_form.decode(encoded.labels[encoded.labels != IGNORE]) == "78\n<end>"


def test_a_test_without_output_is_all_prompt(prompt_form, task):
    encoded = encode(task, prompt_form, test_index=1)
    assert prompt_form.decode(encoded.input_ids).endswith("I9\n1\nO")
    assert encoded.prompt_length == len(encoded)
    assert encoded.answer_tokens == 0


def test_the_answer_never_changes_the_prompt(prompt_form, task):
    with_answer, without = encode(task, prompt_form), encode(task.without_answers(), prompt_form)
    assert (with_answer.input_ids[: with_answer.prompt_length] == without.input_ids).all()


def test_the_single_pair_form(prompt_form):
    encoded = encode_pair(Pair([[6]], [[7]]), prompt_form, max_len=8)
    assert prompt_form.decode(encoded.input_ids) == "<start>I6\nO7\n<end>"
    assert prompt_form.decode(encoded.labels[encoded.labels != IGNORE]) == "7\n<end>"
    assert encoded.prompt_length == 5 and (encoded.labels[:5] == IGNORE).all()


def test_a_single_pair_without_output_is_the_prompt_of_one_with(prompt_form):
    whole, bare = encode_pair(Pair([[6]], [[7]]), prompt_form), encode_pair(Pair([[6]]), prompt_form, answer_room=3)
    assert (bare.input_ids == whole.input_ids[: whole.prompt_length]).all()
    assert bare.answer_tokens == 0 and len(bare) == bare.prompt_length


def test_a_single_pair_that_does_not_fit(prompt_form):
    for pair, room in ((Pair([[6]], [[7]]), 0), (Pair([[6]]), 3)):
        with pytest.raises(TaskTooLong, match="the query needs 8 tokens without any demonstration; the context is 7"):
            encode_pair(pair, prompt_form, max_len=7, answer_room=room)


@pytest.mark.parametrize(("less", "dropped"), [(0, 0), (1, 1), (11, 1), (12, 2), (19, 2)])
def test_demonstrations_are_dropped_from_the_front(prompt_form, task, less, dropped):
    """The demonstrations take 11 and 8 tokens, the rest 9."""
    whole = encode(task, prompt_form)
    encoded = encode(task, prompt_form, max_len=len(whole) - less)
    assert encoded.dropped == dropped
    assert len(encoded) <= len(whole) - less
    rest = task.train[dropped:]
    same = encode(Task(task.id, rest, task.test), prompt_form)
    assert (encoded.input_ids == same.input_ids).all() and (encoded.labels == same.labels).all()


def test_room_for_the_answer_is_kept_free(prompt_form, task):
    query = task.without_answers()
    whole = len(encode(query, prompt_form))
    assert encode(query, prompt_form, max_len=whole + 5, answer_room=5).dropped == 0
    assert encode(query, prompt_form, max_len=whole + 4, answer_room=5).dropped == 1


def test_a_query_that_never_fits(prompt_form, task):
    """<start>, I, 6, row end, O, and the answer 7, 8, row end, <end>: nine tokens."""
    message = "the query needs 9 tokens without any demonstration; the context is 8"
    with pytest.raises(TaskTooLong, match=message):
        encode(task, prompt_form, max_len=8)
    assert encode(task, prompt_form, max_len=9).dropped == 2


def test_answer_grid_reads_what_encode_wrote(prompt_form, task):
    encoded = encode(task, prompt_form)
    assert (prompt_form.answer_grid(encoded.input_ids[encoded.prompt_length :]) == [[7, 8]]).all()


def test_answer_grid_ignores_what_follows_the_end(prompt_form):
    assert (prompt_form.answer_grid([1, prompt_form.row_end, prompt_form.end, 5, prompt_form.ids["I"]]) == [[1]]).all()


@pytest.mark.parametrize(
    "text",
    ["12\n3\n$", "$", "12\n", "1I2\n$", "12\n\n34\n$", "\n$", "1<$"],
    ids=["ragged", "empty", "no end", "a mark inside", "an empty row", "only a row end", "padding inside"],
)
def test_what_spells_no_grid_is_none(prompt_form, text):
    ids = dict(zip("0123456789\nI<$", [*range(10), 10, prompt_form.ids["I"], prompt_form.pad, 15], strict=True))
    assert prompt_form.answer_grid([ids[c] for c in text]) is None

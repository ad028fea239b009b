"""The prompt form, to the token; what counts in the loss; what happens when it does not fit."""

import numpy as np
import pytest

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt import IGNORE, TaskTooLong, answer_grid, encode, encode_pair

PROMPT = "<start>I12\n34\nO5\n<end>I0\nO00\n<end>I6\nO"


def test_prompt_and_answer_of_a_hand_sized_task(vocabulary, task):
    encoded = encode(task, vocabulary)
    assert vocabulary.decode(encoded.input_ids[: encoded.prompt_length]) == PROMPT
    assert vocabulary.decode(encoded.input_ids[encoded.prompt_length :]) == "78\n<end>"
    assert encoded.input_ids.dtype == np.int64 == encoded.labels.dtype
    assert len(encoded) == len(encoded.labels) == encoded.prompt_length + 4
    assert encoded.dropped == 0


def test_only_the_answer_counts(vocabulary, task):
    encoded = encode(task, vocabulary)
    assert (encoded.labels[: encoded.prompt_length] == IGNORE).all()
    assert (encoded.labels[encoded.prompt_length :] == encoded.input_ids[encoded.prompt_length :]).all()
    assert encoded.answer_tokens == 4 == (encoded.labels != IGNORE).sum()


def test_all_outputs_counts_every_output_after_the_first(vocabulary, task):
    encoded = encode(task, vocabulary, all_outputs=True)
    assert vocabulary.decode(encoded.labels[encoded.labels != IGNORE]) == "00\n<end>78\n<end>"
    counted = encoded.labels != IGNORE
    assert (encoded.labels[counted] == encoded.input_ids[counted]).all()
    assert (encoded.input_ids == encode(task, vocabulary).input_ids).all()


def test_all_outputs_skips_the_first_that_is_left(vocabulary, task):
    """A rule cannot be guessed from the first demonstration, whichever that is after dropping."""
    encoded = encode(task, vocabulary, all_outputs=True, max_len=len(encode(task, vocabulary)) - 1)
    assert encoded.dropped == 1
    assert vocabulary.decode(encoded.labels[encoded.labels != IGNORE]) == "78\n<end>"


def test_a_test_without_output_is_all_prompt(vocabulary, task):
    encoded = encode(task, vocabulary, test_index=1)
    assert vocabulary.decode(encoded.input_ids).endswith("I9\n1\nO")
    assert encoded.prompt_length == len(encoded)
    assert encoded.answer_tokens == 0


def test_the_answer_never_changes_the_prompt(vocabulary, task):
    with_answer, without = encode(task, vocabulary), encode(task.without_answers(), vocabulary)
    assert (with_answer.input_ids[: with_answer.prompt_length] == without.input_ids).all()


def test_the_single_pair_form(vocabulary):
    encoded = encode_pair(Pair([[6]], [[7]]), vocabulary, max_len=8)
    assert vocabulary.decode(encoded.input_ids) == "<start>I6\nO7\n<end>"
    assert vocabulary.decode(encoded.labels[encoded.labels != IGNORE]) == "7\n<end>"
    assert encoded.prompt_length == 5 and (encoded.labels[:5] == IGNORE).all()


def test_a_single_pair_without_output_is_the_prompt_of_one_with(vocabulary):
    whole, bare = encode_pair(Pair([[6]], [[7]]), vocabulary), encode_pair(Pair([[6]]), vocabulary, answer_room=3)
    assert (bare.input_ids == whole.input_ids[: whole.prompt_length]).all()
    assert bare.answer_tokens == 0 and len(bare) == bare.prompt_length


def test_a_single_pair_that_does_not_fit(vocabulary):
    for pair, room in ((Pair([[6]], [[7]]), 0), (Pair([[6]]), 3)):
        with pytest.raises(TaskTooLong, match="the query needs 8 tokens without any demonstration; the context is 7"):
            encode_pair(pair, vocabulary, max_len=7, answer_room=room)


@pytest.mark.parametrize(("less", "dropped"), [(0, 0), (1, 1), (11, 1), (12, 2), (19, 2)])
def test_demonstrations_are_dropped_from_the_front(vocabulary, task, less, dropped):
    """The demonstrations take 11 and 8 tokens, the rest 9."""
    whole = encode(task, vocabulary)
    encoded = encode(task, vocabulary, max_len=len(whole) - less)
    assert encoded.dropped == dropped
    assert len(encoded) <= len(whole) - less
    rest = task.train[dropped:]
    same = encode(Task(task.id, rest, task.test), vocabulary)
    assert (encoded.input_ids == same.input_ids).all() and (encoded.labels == same.labels).all()


def test_room_for_the_answer_is_kept_free(vocabulary, task):
    query = task.without_answers()
    whole = len(encode(query, vocabulary))
    assert encode(query, vocabulary, max_len=whole + 5, answer_room=5).dropped == 0
    assert encode(query, vocabulary, max_len=whole + 4, answer_room=5).dropped == 1


def test_a_query_that_never_fits(vocabulary, task):
    """<start>, I, 6, row end, O, and the answer 7, 8, row end, <end>: nine tokens."""
    message = "the query needs 9 tokens without any demonstration; the context is 8"
    with pytest.raises(TaskTooLong, match=message):
        encode(task, vocabulary, max_len=8)
    assert encode(task, vocabulary, max_len=9).dropped == 2


def test_answer_grid_reads_what_encode_wrote(vocabulary, task):
    encoded = encode(task, vocabulary)
    assert (answer_grid(encoded.input_ids[encoded.prompt_length :], vocabulary) == [[7, 8]]).all()


def test_answer_grid_ignores_what_follows_the_end(vocabulary):
    assert (answer_grid([1, vocabulary.row_end, vocabulary.end, 5, vocabulary.input_mark], vocabulary) == [[1]]).all()


@pytest.mark.parametrize(
    "text",
    ["12\n3\n$", "$", "12\n", "1I2\n$", "12\n\n34\n$", "\n$", "1<$"],
    ids=["ragged", "empty", "no end", "a mark inside", "an empty row", "only a row end", "padding inside"],
)
def test_what_spells_no_grid_is_none(vocabulary, text):
    ids = dict(zip("0123456789\nI<$", [*range(10), 10, vocabulary.input_mark, vocabulary.pad, 15], strict=True))
    assert answer_grid([ids[c] for c in text], vocabulary) is None

"""Problems and feedback as text and as ids; outputs that are no grid."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.arc import Pair, compare_grids
from arc_helpers.hybrid.feedback import (
    Attempt,
    change_to_feedback,
    demonstration_parts,
    encode_problem,
    format_problem_text,
    grid_to_feedback,
    has_words,
    marked,
    tokens_to_grid,
)
from arc_helpers.hybrid.questions import Question
from arc_helpers.hybrid.tiny import tiny_lm
from arc_helpers.lm.prompt import TaskTooLong, encode_pairs
from arc_helpers.trm import Canvas, place

QUESTION = Question("t", 0, (Pair([[1, 2]], [[2, 1]]), Pair([[3, 4]], [[4, 3]])), np.array([[5, 6]], dtype=np.int8))
WRONG = Attempt(1, np.array([[5, 6]]), 0.25, 0.5, 2, before=np.array([[5, 7]]))
grids = st.integers(1, 4).flatmap(
    lambda w: st.lists(st.lists(st.integers(0, 9), min_size=w, max_size=w), min_size=1, max_size=4)
)


@settings(deadline=None, max_examples=50)
@given(grids, grids)
def test_feedback_names_true_errors_and_at_most_five(grid, truth):
    grid, truth = np.array(grid), np.array(truth)
    said = grid_to_feedback(grid, Pair([[0]], truth))
    diff = compare_grids(grid, truth)
    assert (said == "Right.") == diff.correct and "\n" not in said
    if diff.same_shape and not diff.correct:
        assert said.startswith(f"{diff.n_wrong} of {truth.size} cells wrong")
        assert said.count("row") == min(5, diff.n_wrong)
        y, x = np.argwhere(diff.wrong)[0]
        assert f"row {y + 1} column {x + 1} is {grid[y, x]}, should be {truth[y, x]}" in said
        assert (f"{diff.n_wrong - 5} more" in said) == (diff.n_wrong > 5)


def test_feedback_without_a_grid_or_an_answer():
    assert grid_to_feedback(None, Pair([[0]], [[1, 2]])) == "No grid; 1×2 expected."
    assert grid_to_feedback(np.array([[1]]), Pair([[0]], [[1, 2]])) == "The size is 1×1, should be 1×2."
    with pytest.raises(ValueError, match="feedback on demonstrations only"):
        grid_to_feedback(np.array([[1]]), Pair([[0]]))


def test_what_changed_is_said_and_marked():
    one, other = np.array([[1, 2], [3, 4]]), np.array([[1, 0], [3, 4]])
    assert change_to_feedback(one, other) == "1 of 4 cells changed: row 1 column 2 was 2, is 0."
    assert marked(one, other).tolist() == [[0, 2], [0, 0]]
    assert change_to_feedback(one, one) == "Nothing changed." and not marked(one, one).any()
    assert change_to_feedback(one, np.array([[1]])) == "The size was 2×2, is 1×1." and marked(one, one[:1]) is None
    assert change_to_feedback(one, None) == "No grid." and marked(one, None) is None


@settings(deadline=None, max_examples=30)
@given(grids)
def test_tokens_become_the_grid_they_spell(grid):
    grid, v = np.array(grid, dtype=np.int8), tiny_lm().prompt_form
    assert np.array_equal(tokens_to_grid(place(grid, Canvas(5, 25)), width=5), grid)
    assert np.array_equal(tokens_to_grid([*v.grid_ids(grid), v.end, 3], prompt_form=v), grid)


def test_an_output_that_is_not_a_grid_is_none():
    v = tiny_lm().prompt_form
    for ids in ([], [1, 2, v.row_end, 3, v.row_end, v.end], [1, 2, v.row_end], [v.ids["I"], v.end]):
        assert tokens_to_grid(ids, prompt_form=v) is None
    assert tokens_to_grid(np.ones(9), width=3) is None
    for both in ({}, {"width": 3, "prompt_form": v}):
        with pytest.raises(ValueError, match="give either width"):
            tokens_to_grid([1], **both)


def test_the_text_holds_history_and_notes():
    text = format_problem_text(
        QUESTION, [WRONG], demonstration_parts(1, np.array([[2, 2]]), QUESTION.demonstrations[0])
    )
    assert text == (
        "I12\nO21\nI34\nO43\nI12\nO22\nI22\nO02\n"
        "Demonstration 1, held out: 1 of 2 cells wrong: row 1 column 2 is 2, should be 1.\nI56\nO56\nI56\nO02\n"
        "Attempt 1 confidence 0.25, still moving 0.50. 1 of 2 cells changed: row 1 column 2 was 7, is 6.\nI56\nO"
    )
    assert format_problem_text(QUESTION, show_question=False) == "I12\nO21\nI34\nO43\n"
    no_grid = format_problem_text(QUESTION, [Attempt(2, None, 0.0, 0.0, 2)])
    assert "Attempt 2 drew no grid, confidence 0.00" in no_grid


@pytest.mark.parametrize("kind", ["gridlm", "llama"])
def test_ids_say_what_the_text_says(kind):
    lm = tiny_lm(kind)
    assert has_words(lm) == (kind == "llama")
    ids = encode_problem(lm, QUESTION, [WRONG], ["Held out.\n"])
    read_back = lm.prompt_form.decode(ids) if kind == "gridlm" else lm.tokenizer.decode(ids)
    text = format_problem_text(QUESTION, [WRONG], ["Held out.\n"])
    marks = {"<start>": "", "<end>": "", "<s>": "", "</s>": ""}
    for mark, nothing in marks.items():
        read_back = read_back.replace(mark, nothing)
    words = [line for line in text.splitlines() if line.endswith(".")]
    expected = text if kind == "llama" else "".join(x + "\n" for x in text.splitlines() if x not in words)[:-1]
    assert read_back == expected


def test_a_problem_without_history_is_the_prompt_of_the_suite():
    lm = tiny_lm()
    expected = encode_pairs(list(QUESTION.demonstrations), Pair(QUESTION.input), lm.prompt_form).input_ids
    assert np.array_equal(encode_problem(lm, QUESTION), expected)


def test_demonstrations_are_dropped_from_the_front():
    lm = tiny_lm()
    whole = encode_problem(lm, QUESTION)
    short = encode_problem(replace(lm, max_len=len(whole) - 1), QUESTION)
    rest = encode_pairs(list(QUESTION.demonstrations[1:]), Pair(QUESTION.input), lm.prompt_form).input_ids
    assert np.array_equal(short, rest)
    assert np.array_equal(encode_problem(replace(lm, max_len=len(whole)), QUESTION, room=1), rest)
    noted = encode_problem(replace(lm, max_len=len(whole)), QUESTION, notes=[Pair([[1]], [[2]])])
    assert np.array_equal(noted, whole), "what is told of demonstrations goes before they do"
    with pytest.raises(TaskTooLong, match="t: 6 tokens without any demonstration; the context is 5"):
        encode_problem(replace(lm, max_len=5), QUESTION)

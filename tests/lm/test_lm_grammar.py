"""The answer grammar: nothing but grids can be written, and every grid can."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arc_helpers.lm.grammar import GridGrammar
from arc_helpers.lm.prompt_form import FORMS, PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer

VOCABULARY = PromptForm.from_tokenizer(arc_tokenizer())
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
ROW_END, END = VOCABULARY.row_end, VOCABULARY.end
DIGITS = set(VOCABULARY.digits)


def follow(text: str, form: PromptForm = VOCABULARY) -> GridGrammar:
    """The grammar behind a text of one answer."""
    grammar = GridGrammar(1, form, vocab_size=20)
    for symbol in text:
        grammar.push(torch.tensor([form.ids[symbol]]))
    return grammar


def choices(grammar: GridGrammar, row: int = 0) -> set[int]:
    return set(grammar.allowed()[row].nonzero().flatten().tolist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DIGITS),  # an answer is never empty
        ("1", DIGITS | {ROW_END}),
        ("1" * 30, {ROW_END}),  # no more than 30 wide
        ("12\n", DIGITS | {END}),
        ("12\n3", DIGITS),  # neither a ragged row nor an early end
        ("12\n34", {ROW_END}),  # as wide as the first row, no wider
        ("12\n34\n", DIGITS | {END}),
        ("1\n" * 30, {END}),  # no more than 30 high
    ],
)
def test_what_may_come_next(text, expected):
    assert choices(follow(text)) == expected


def test_only_the_end_follows_the_end():
    grammar = follow("1\n")
    for _ in range(2):
        grammar.push(torch.tensor([END]))
        assert grammar.done.item() and choices(grammar) == {END}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DIGITS),
        ("1", DIGITS | {"\n", "end"}),  # one cell is a whole grid
        ("12\n", DIGITS),  # a row end promises another row
        ("12\n34", {"\n", "end"}),
        ("1\n" * 29 + "1", {"end"}),  # no more than 30 high
        ("1" * 30, {"\n", "end"}),
    ],
)
def test_what_may_come_next_where_the_last_row_is_not_closed(text, expected):
    form = FORMS["nvarc"]
    names = {form.row_end: "\n", form.end: "end"}
    assert {names.get(token, token) for token in choices(follow(text, form))} == expected


@every_form
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), stop=st.sampled_from([0.05, 0.2, 0.5]))
@example(seed=0, stop=0.0)  # the largest grid: a row ends only where it must
def test_random_allowed_tokens_always_end_in_grids(form, seed, stop):
    """Three answers side by side; each token is drawn from what is allowed, row ends and ends with chance `stop`."""
    rng = np.random.default_rng(seed)
    grammar = GridGrammar(3, form, vocab_size=len(form.token_ids))
    answers = [[], [], []]
    for _ in range(30 * 31 + 1):
        if grammar.done.all():
            break
        tokens, mask = [], grammar.allowed().numpy()
        for row in range(3):
            allowed = np.flatnonzero(mask[row])
            assert len(allowed)
            closing = [t for t in allowed if t in (form.row_end, form.end)]
            others = [t for t in allowed if t not in closing]
            tokens.append(rng.choice(closing if not others or (closing and rng.random() < stop) else others))
            answers[row].append(int(tokens[-1]))
        grammar.push(torch.tensor(tokens))
    assert grammar.done.all()
    assert all(form.answer_grid(answer) is not None for answer in answers)


@every_form
@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.integers(0, 9)))
def test_every_grid_can_be_written(form, grid):
    grammar = GridGrammar(1, form, vocab_size=len(form.token_ids))
    for token in form.output_ids(grid):
        assert int(token) in choices(grammar)
        grammar.push(torch.tensor([token]))
    assert grammar.done.item()


def test_rows_that_are_kept_go_on_as_they_were():
    grammar = GridGrammar(3, VOCABULARY, vocab_size=16)
    for tokens in ([1, 1, 1], [2, ROW_END, 2], [ROW_END, END, 3]):
        grammar.push(torch.tensor(tokens))
    before = grammar.allowed()
    grammar.keep(torch.tensor([0, 2]))
    assert torch.equal(grammar.allowed(), before[[0, 2]])
    assert choices(grammar, 0) == DIGITS | {END} and choices(grammar, 1) == DIGITS | {ROW_END}

"""Which tokenizers can spell grids, and that what they spell can be read back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lm_tokenizers import QWEN2_SPLIT, byte_tokenizer, char_tokenizer, llama3_tokenizer, sentencepiece_tokenizer

from arc_helpers.arc import string_to_grid
from arc_helpers.lm.prompt_form import REMEDY, PromptForm
from arc_helpers.lm.tokenizer import SYMBOLS, arc_tokenizer
from arc_helpers.lm.vocabulary import TokenizerError, two_readings

GRIDS = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.integers(0, 9))
ACCEPTED = {
    "arc": arc_tokenizer(),
    "characters": char_tokenizer(),
    "bytes": byte_tokenizer(),
    "qwen2": byte_tokenizer([("1", "2"), ("Ċ", "Ċ"), ("I", "O")], QWEN2_SPLIT),
    "llama2": sentencepiece_tokenizer(metaspace=False),
    "metaspace": sentencepiece_tokenizer(metaspace=True),
}


def test_the_arc_tokenizer_is_its_own_token_row():
    prompt_form = PromptForm.from_tokenizer(arc_tokenizer())
    assert prompt_form.digits == tuple(range(10))
    assert [prompt_form.symbol(i) for i in range(13)] == SYMBOLS[:13]
    assert sorted(prompt_form.token_ids) == list(range(16))
    assert (prompt_form.row_end, prompt_form.pad, prompt_form.start, prompt_form.end) == (10, 13, 14, 15)


@pytest.mark.parametrize("kind", ACCEPTED)
def test_the_ids_are_those_of_the_tokenizer(kind):
    tokenizer = ACCEPTED[kind]
    prompt_form = PromptForm.from_tokenizer(tokenizer)
    names = [tokenizer.convert_ids_to_tokens(i) for i in prompt_form.digits]
    assert names == list("0123456789")
    assert tokenizer.convert_ids_to_tokens([prompt_form.ids["I"], prompt_form.ids["O"]]) == ["I", "O"]
    assert tokenizer.convert_ids_to_tokens(prompt_form.row_end) in ("\n", "Ċ", "<0x0A>")
    assert prompt_form.end == tokenizer.eos_token_id
    assert prompt_form.start == tokenizer.bos_token_id


@pytest.mark.parametrize("kind", ACCEPTED)
@settings(max_examples=25, deadline=None)
@given(grid=GRIDS)
def test_round_trip_of_a_grid(kind, grid):
    prompt_form = PromptForm.from_tokenizer(ACCEPTED[kind])
    ids = prompt_form.grid_ids(grid)
    assert len(ids) == grid.shape[0] * (grid.shape[1] + 1)
    assert np.array_equal(string_to_grid(prompt_form.decode(ids).removesuffix("\n")), grid)
    assert np.array_equal(prompt_form.answer_grid([*ids, prompt_form.end]), grid)


@pytest.mark.parametrize("kind", ["arc", "characters", "bytes", "qwen2"])
def test_joined_ids_are_what_the_tokenizer_makes_of_the_text(kind):
    prompt_form = PromptForm.from_tokenizer(ACCEPTED[kind])
    ids = [prompt_form.ids["I"], *prompt_form.grid_ids([[1, 2], [0, 0]]), prompt_form.ids["O"]]
    assert ACCEPTED[kind].encode("I12\n00\nO", add_special_tokens=False) == ids


@pytest.mark.parametrize(
    "merges", [[("1", "2")], [("0", "Ċ")], [("Ċ", "I")], [("Ċ", "Ċ"), ("Ċ", "0"), ("I", "Ċ")]], ids=str
)
def test_merges_of_a_running_text_do_not_matter(merges):
    """Each symbol is looked up by itself."""
    tokenizer = byte_tokenizer(merges)
    form = PromptForm.from_tokenizer(tokenizer)
    spelled = tokenizer.convert_ids_to_tokens(form.token_ids[:13])
    assert spelled == [*"0123456789", "Ċ", "I", "O"]


@pytest.mark.parametrize(
    ("tokenizer", "missing"),
    [
        (char_tokenizer(drops="\n"), "\n"),  # newlines are thrown away
        (char_tokenizer("0123456789IO"), "\n"),
        (char_tokenizer("0123456\nIO"), "789"),
        (char_tokenizer("0123456789\n"), "IO"),
    ],
    ids=["newlines dropped", "no newline", "no digits", "no marks"],
)
def test_unknown_symbols_are_refused_by_name_with_the_remedy(tokenizer, missing):
    with pytest.raises(TokenizerError, match=r"^some/model: it has no token of its own for ") as caught:
        PromptForm.from_tokenizer(tokenizer, "some/model")
    message = str(caught.value)
    assert f"for {', '.join(map(repr, missing))};" in message and REMEDY in message and "\n" not in message


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(TokenizerError, match=r"no end-of-text token: set tokenizer\.eos_token"):
        PromptForm.from_tokenizer(char_tokenizer(eos=False))


def test_a_tokenizer_without_pad_pads_with_its_end():
    prompt_form = PromptForm.from_tokenizer(char_tokenizer())
    assert prompt_form.pad == prompt_form.end
    assert len(prompt_form.token_ids) == 15


@pytest.mark.parametrize("kind", ACCEPTED)
def test_trimmed_ids_count_from_zero_and_spell_the_same(kind):
    prompt_form = PromptForm.from_tokenizer(ACCEPTED[kind])
    trimmed = prompt_form.trimmed()
    assert sorted(trimmed.token_ids) == list(range(len(prompt_form.token_ids))) and len(prompt_form.token_ids) <= 16
    assert prompt_form.decode(prompt_form.token_ids) == trimmed.decode(range(len(prompt_form.token_ids)))


def test_both_readings_of_a_question():
    merging = llama3_tokenizer()
    readings = two_readings(merging, PromptForm.choose(merging), np.array([[1, 2, 3, 4], [0, 0, 0, 0]]))
    assert readings["joined ids"] == ["I", *"1234", "\\n", *"0000", "\\n", "O"]
    assert readings["cut as text"] == ["I", "123", "4", "\\n", "000", "0", "\\n", "O"]
    own = two_readings(arc_tokenizer(), PromptForm.choose(arc_tokenizer()), np.array([[1, 2]]))
    assert own["joined ids"] == own["cut as text"]

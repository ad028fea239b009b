"""Which tokenizers can spell grids, and that what they spell can be read back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lm_tokenizers import QWEN2_SPLIT, byte_tokenizer, char_tokenizer, sentencepiece_tokenizer

from arc_helpers.arc import string_to_grid
from arc_helpers.lm.prompt import answer_grid
from arc_helpers.lm.tokenizer import SYMBOLS, arc_tokenizer
from arc_helpers.lm.vocabulary import GridVocabulary, TokenizerError

GRIDS = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.integers(0, 9))
REMEDY = "use a tokenizer that splits digits and keeps newlines"
ACCEPTED = {
    "arc": arc_tokenizer(),
    "characters": char_tokenizer(),
    "bytes": byte_tokenizer(),
    "qwen2": byte_tokenizer([("1", "2"), ("Ċ", "Ċ"), ("I", "O")], QWEN2_SPLIT),
    "llama2": sentencepiece_tokenizer(metaspace=False),
    "metaspace": sentencepiece_tokenizer(metaspace=True),
}


def test_the_arc_tokenizer_is_its_own_token_row():
    vocabulary = GridVocabulary.from_tokenizer(arc_tokenizer())
    assert vocabulary.digits == tuple(range(10))
    assert [vocabulary.symbol(i) for i in range(13)] == SYMBOLS[:13]
    assert sorted(vocabulary.token_ids) == list(range(16))
    assert (vocabulary.row_end, vocabulary.pad, vocabulary.start, vocabulary.end) == (10, 13, 14, 15)


@pytest.mark.parametrize("kind", ACCEPTED)
def test_the_ids_are_those_of_the_tokenizer(kind):
    tokenizer = ACCEPTED[kind]
    vocabulary = GridVocabulary.from_tokenizer(tokenizer)
    names = [tokenizer.convert_ids_to_tokens(i) for i in vocabulary.digits]
    assert names == list("0123456789")
    assert tokenizer.convert_ids_to_tokens([vocabulary.input_mark, vocabulary.output_mark]) == ["I", "O"]
    assert tokenizer.convert_ids_to_tokens(vocabulary.row_end) in ("\n", "Ċ", "<0x0A>")
    assert vocabulary.end == tokenizer.eos_token_id
    assert vocabulary.start == tokenizer.bos_token_id


@pytest.mark.parametrize("kind", ACCEPTED)
@settings(max_examples=25, deadline=None)
@given(grid=GRIDS)
def test_round_trip_of_a_grid(kind, grid):
    vocabulary = GridVocabulary.from_tokenizer(ACCEPTED[kind])
    ids = vocabulary.grid_ids(grid)
    assert len(ids) == grid.shape[0] * (grid.shape[1] + 1)
    assert np.array_equal(string_to_grid(vocabulary.decode(ids).removesuffix("\n")), grid)
    assert np.array_equal(answer_grid([*ids, vocabulary.end], vocabulary), grid)


@pytest.mark.parametrize("kind", ["arc", "characters", "bytes", "qwen2"])
def test_joined_ids_are_what_the_tokenizer_makes_of_the_text(kind):
    vocabulary = GridVocabulary.from_tokenizer(ACCEPTED[kind])
    ids = [vocabulary.input_mark, *vocabulary.grid_ids([[1, 2], [0, 0]]), vocabulary.output_mark]
    assert ACCEPTED[kind].encode("I12\n00\nO", add_special_tokens=False) == ids


@pytest.mark.parametrize("pair", ["12", "00", "31"])
def test_merged_digits_are_refused_with_the_remedy(pair):
    with pytest.raises(TokenizerError, match="merges or splits digits") as caught:
        GridVocabulary.from_tokenizer(byte_tokenizer([tuple(pair)]), "some/model")
    message = str(caught.value)
    assert message.startswith("some/model: ") and REMEDY in message and "\n" not in message


@pytest.mark.parametrize(
    "tokenizer",
    [
        char_tokenizer(drops="\n"),  # newlines are thrown away
        byte_tokenizer([("0", "Ċ")]),  # a cell and its row end are one token
        byte_tokenizer([("Ċ", "I")]),  # a row end and the next mark are one token
        char_tokenizer("0123456789IO"),  # the newline is unknown
    ],
    ids=["dropped", "merged with a cell", "merged with a mark", "unknown"],
)
def test_lost_row_ends_are_refused_with_the_remedy(tokenizer):
    with pytest.raises(TokenizerError, match=r"row ends|'\\n'") as caught:
        GridVocabulary.from_tokenizer(tokenizer)
    assert REMEDY in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["789", "9", "IO"])
def test_unknown_symbols_are_refused_by_name(missing):
    known = "".join(s for s in SYMBOLS[:13] if s not in missing)
    with pytest.raises(TokenizerError, match="no token of its own") as caught:
        GridVocabulary.from_tokenizer(char_tokenizer(known))
    assert all(repr(symbol) in str(caught.value) for symbol in missing)
    assert REMEDY in str(caught.value)


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(TokenizerError, match=r"no end-of-text token: set tokenizer\.eos_token"):
        GridVocabulary.from_tokenizer(char_tokenizer(eos=False))


def test_a_tokenizer_without_pad_pads_with_its_end():
    vocabulary = GridVocabulary.from_tokenizer(char_tokenizer())
    assert vocabulary.pad == vocabulary.end
    assert len(vocabulary.token_ids) == 15


@pytest.mark.parametrize("kind", ACCEPTED)
def test_trimmed_ids_count_from_zero_and_spell_the_same(kind):
    vocabulary = GridVocabulary.from_tokenizer(ACCEPTED[kind])
    trimmed = vocabulary.trimmed()
    assert sorted(trimmed.token_ids) == list(range(len(vocabulary.token_ids))) and len(vocabulary.token_ids) <= 16
    assert vocabulary.decode(vocabulary.token_ids) == trimmed.decode(range(len(vocabulary.token_ids)))

"""The token table and the token strip say the same as the ids and labels they were made of."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from arc_helpers.arc import ARC_COLORS
from arc_helpers.plot import plot_probabilities, plot_tokens, token_table

SYMBOLS = [*"0123456789", "\n", "<out>", " "]
IDS = [11, 1, 2, 10, 3, 4, 10]
LABELS = [-100] * 4 + [3, 4, 10]


def symbol(token: int) -> str:
    return SYMBOLS[token]


def test_the_table_has_a_row_a_token():
    table = token_table(IDS, LABELS, symbol)
    assert table.rows[0] == (0, 11, -100, "<out>", "prompt")
    assert table.rows[3] == (3, 10, -100, "⏎", "prompt")
    assert table.rows[4] == (4, 3, 3, "3", "answer")
    assert len(table.rows) == table.total == 7
    assert table.summary == "7 tokens: 4 prompt, 3 answer (these count in the loss)"


def test_white_space_and_odd_characters_can_be_seen():
    texts = ["\n", "\t", " a", "", "\x00", "é"]
    table = token_table(range(6), [-100] * 6, texts.__getitem__)
    assert [row.text for row in table.rows] == ["⏎", "⇥", "␣a", "∅", "\\x00", "é"]


def test_a_long_table_shows_the_head_and_where_the_answer_begins():
    ids, labels = [1] * 500, [-100] * 400 + [1] * 100
    table = token_table(ids, labels, symbol, limit=40)
    shown = [row.index for row in table.rows]
    assert shown == [*range(10), *range(385, 415)]
    assert {"prompt", "answer"} == {row.part for row in table.rows}
    text = table.to_text()
    assert "… 375 more" in text and "… 85 more" in text
    assert len(text.splitlines()) == 2 + 40 + 2
    assert "… 375 more" in table._repr_html_()


@pytest.mark.parametrize("n_prompt", [0, 1, 5, 99, 100])
@pytest.mark.parametrize("limit", [1, 2, 7, 99, 100, 101])
def test_a_table_never_exceeds_its_limit_nor_repeats_a_row(n_prompt, limit):
    table = token_table([1] * 100, [-100] * n_prompt + [1] * (100 - n_prompt), symbol, limit=limit)
    shown = [row.index for row in table.rows]
    assert len(shown) == min(limit, 100)
    assert shown == sorted(set(shown))


def test_a_table_can_start_anywhere():
    table = token_table([1] * 100, [-100] * 100, symbol, limit=5, start=97)
    assert [row.index for row in table.rows] == [97, 98, 99]
    assert "… 97 more" in table.to_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1], [1, 2], symbol), "labels: 2 given for 1 input_ids"),
        (([], [], symbol), "labels: 0 given for 0 input_ids"),
        ((IDS, LABELS, symbol, 0), "limit: expected at least 1, got 0"),
        ((IDS, LABELS, symbol, 5, 7), "start: expected 0 to 6, got 7"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        token_table(*arguments)


def test_a_column_a_model_says_how_likely_each_answer_token_was():
    logprobs = {"base": [math.log(0.25)] * 3, "adapter": [0.0, math.log(0.5), 0.0]}
    table = token_table(IDS, LABELS, symbol, logprobs=logprobs)
    lines = table.to_text().splitlines()
    assert lines[1].split()[-2:] == ["base", "adapter"]
    assert [line.split()[-2:] for line in lines[-3:]] == [["0.250", "1.000"], ["0.250", "0.500"], ["0.250", "1.000"]]
    assert lines[5].endswith("prompt"), "the prompt has none"
    html = table._repr_html_()
    assert html.count(">0.250</td>") == 3 and html.count(">0.500</td>") == 1 and "adapter</th>" in html
    with pytest.raises(ValueError, match="logprobs: 2 given for 3 answer tokens"):
        token_table(IDS, LABELS, symbol, logprobs={"base": [0.0, 0.0]})


def test_probabilities_have_a_row_a_model_and_a_number_a_token():
    picture = plot_probabilities([3, 4, 10], symbol, {"base": np.log([0.25, 0.01, 1]), "adapter": np.log([0.5, 1, 1])})
    texts = [text.get_text() for text in picture.axes[0].texts]
    assert texts == [*("3", "25", "50"), *("4", "1", "100"), *("⏎", "100", "100"), "answer", "base", "adapter"]
    assert len(picture.axes[0].patches) == 9 and picture.to_png()
    with pytest.raises(ValueError, match="base: 2 log-probabilities for 1 answer tokens"):
        plot_probabilities([3], symbol, {"base": [0.0, 0.0]})


def test_the_html_escapes_tokens_and_colours_the_parts():
    html = token_table(IDS, LABELS, symbol)._repr_html_()
    assert "&lt;out&gt;" in html and "<out>" not in html
    assert html.count("#eef2f7") == 4 and html.count("#ffe8d6") == 3


def facecolors(picture, gid: str) -> list[str]:
    (collection,) = [c for c in picture.axes[0].collections if c.get_gid() == gid]
    return [to_hex(color).upper() for color in collection.get_facecolors()]


def test_the_strip_has_a_square_a_token_in_arc_colours():
    picture = plot_tokens(IDS, LABELS, symbol, title="hello")
    squares = facecolors(picture, "tokens")
    assert [squares[i] for i in (1, 2, 4, 5)] == [ARC_COLORS[value].upper() for value in (1, 2, 3, 4)]
    assert squares[0] == squares[3] == "#F4F4F4"
    bars = facecolors(picture, "parts")
    assert len(set(bars[:4])) == len(set(bars[4:])) == 1 and bars[0] != bars[4]
    shown = [text.get_text() for text in picture.axes[0].texts]
    assert shown[:7] == ["<out", "1", "2", "⏎", "3", "4", "⏎"]
    legend = [text.get_text() for text in picture.legends[0].get_texts()]
    assert legend == ["prompt (4 tokens)", "answer (3 tokens, these count in the loss)"]


def test_the_strip_shades_answers_by_probability():
    sure, unsure = math.log(0.99), math.log(0.01)
    bars = facecolors(plot_tokens(IDS, LABELS, symbol, logprobs=[sure, unsure, sure]), "parts")
    assert bars[4] == bars[6] != bars[5]
    with pytest.raises(ValueError, match="logprobs: 2 given for 3 answer tokens"):
        plot_tokens(IDS, LABELS, symbol, logprobs=[0.0, 0.0])


def test_a_strip_of_any_length_fits_a_page():
    for n in (1, 33, 1000, 8000):
        width, height = plot_tokens([1] * n, [-100] * n, symbol).get_size_inches()
        assert width == 11 and height < 10


def test_a_dollar_is_a_token_and_not_a_formula():
    assert plot_tokens([0, 1], [-100, -100], ["$$", r"$\foo$"].__getitem__).to_png()

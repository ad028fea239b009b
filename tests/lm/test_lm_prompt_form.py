"""Each prompt form, byte for byte; that it can be read back; and how a model's form is found."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lm_tokenizers import architects_tokenizer, byte_tokenizer, char_tokenizer, llama3_tokenizer, nvarc_tokenizer

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.prompt import encode, encode_pair
from arc_helpers.lm.prompt_form import FORMS, PromptForm, known_form
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.lm.vocabulary import TokenizerError
from arc_helpers.runs.knobs import TokenizationDebugKnobs

TOKENIZERS = {"suite": arc_tokenizer(), "architects": architects_tokenizer(), "nvarc": nvarc_tokenizer()}
FITTED = {name: PromptForm.from_tokenizer(tokenizer, form=name) for name, tokenizer in TOKENIZERS.items()}
TASK = Task("t", (Pair([[1, 2], [3, 4]], [[5]]), Pair([[0]], [[0, 0]])), (Pair([[6]], [[7, 8], [9, 0]]),))
WRITTEN = {  # the prompt and the answer, as the makers' own code writes them
    "suite": ("<bos>I12\n34\nO5\n<eos>I0\nO00\n<eos>I6\nO", "78\n90\n<eos>"),
    "architects": (
        "<s>ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyzI12\n34\n+/-=O5\n</s>I0\n+/-=O00\n</s>I6\n+/-=O",
        "78\n90\n</s>",
    ),
    "nvarc": (
        "<|im_start|>user\n12\n34<|im_end|><|im_start|>assistant\n5<|im_end|>"
        "<|im_start|>user\n0<|im_end|><|im_start|>assistant\n00<|im_end|><|im_start|>user\n6<|im_end|><|im_start|>assistant\n",
        "78\n90<|im_end|>",
    ),
}
GRIDS = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.integers(0, 9))
PAIRS = st.lists(st.builds(Pair, GRIDS, GRIDS), min_size=1, max_size=3)
forms = pytest.mark.parametrize("name", FORMS)


@forms
def test_a_task_is_spelled_byte_for_byte(name):
    encoded, tokenizer = encode(TASK, FITTED[name]), TOKENIZERS[name]
    text = "".join(tokenizer.convert_ids_to_tokens(encoded.input_ids.tolist()))
    assert text == "".join(WRITTEN[name])
    assert encoded.input_ids.tolist() == tokenizer.encode(text, add_special_tokens=False)
    at = encoded.prompt_length
    assert "".join(tokenizer.convert_ids_to_tokens(encoded.input_ids[at:].tolist())) == WRITTEN[name][1]
    assert FITTED[name].answer_grid(encoded.input_ids[at:]).tolist() == [[7, 8], [9, 0]]


@forms
@settings(max_examples=30, deadline=None)
@given(pairs=PAIRS)
def test_lengths_are_those_of_what_is_written(name, pairs):
    form = FITTED[name]
    whole = len(form.prefix_ids) + sum(len(form.question_ids(p.input)) + len(form.output_ids(p.output)) for p in pairs)
    turned = [Pair(np.rot90(p.input), np.rot90(p.output)) for p in pairs]
    there = sum(len(form.question_ids(p.input)) + len(form.output_ids(p.output)) for p in turned)
    assert form.length(pairs) == max(whole, there + len(form.prefix_ids))
    for pair in pairs:
        assert form.grid_length(pair.input.shape) == len(form.grid_ids(pair.input))
        assert form.output_length(pair.output.shape) == len(form.output_ids(pair.output))


@forms
@settings(max_examples=30, deadline=None)
@given(pairs=PAIRS, trim=st.booleans())
def test_every_answer_is_read_back(name, pairs, trim):
    form = FITTED[name].trimmed() if trim else FITTED[name]
    encoded = encode(Task("t", tuple(pairs), (pairs[0],)), form)
    answer = encoded.input_ids[encoded.prompt_length :]
    assert np.array_equal(form.answer_grid(answer), pairs[0].output)
    assert form.answer_grid(answer[:-1]) is None, "an answer without its end"
    assert set(answer) <= set(form.answer_ids) and set(encoded.input_ids) <= set(form.token_ids)
    assert form.decode(answer) == FITTED[name].decode(FITTED[name].output_ids(pairs[0].output))


@forms
def test_trimming_keeps_all_that_is_spelled(name):
    trimmed = FITTED[name].trimmed()
    assert sorted(trimmed.token_ids) == list(range(len(FITTED[name].token_ids)))
    assert len(trimmed.token_ids) == {"suite": 16, "architects": 68, "nvarc": 16}[name]
    assert trimmed.decode(encode(TASK, trimmed).input_ids) == FITTED[name].decode(encode(TASK, FITTED[name]).input_ids)


@forms
@settings(max_examples=15, deadline=None)
@given(task=st.builds(lambda pairs: Task("t", tuple(pairs), (pairs[0],)), PAIRS))
def test_a_gridlm_knows_where_it_writes(name, task):
    """The positions of an answer that is written token by token are those of the whole sequence."""
    form = FORMS[name]
    markers = [form.ids[mark] for mark in ("I", "O", "user", "assistant") if mark in form.ids]
    start = form.ids.get("<start>", -1)
    config = GridLMConfig.preset("tiny", vocab_size=68, marker_token_ids=markers, bos_token_id=start)
    model, encoded = GridLMForCausalLM(config), encode(task, form)
    ids = torch.from_numpy(encoded.input_ids)[None]
    whole = model.grid_positions(ids)
    for at in range(encoded.prompt_length, len(encoded)):
        assert torch.equal(model.next_position(ids[:, at - 1 : at], whole[:, at - 1 : at]), whole[:, at : at + 1])


def test_the_suites_own_ids_are_the_gridlms():
    form, config = FITTED["suite"], GridLMConfig()
    assert [form.ids[mark] for mark in "IO"] == config.marker_token_ids
    assert (form.row_end, form.pad, form.start, form.end) == (10, 13, 14, 15)


# --- how a form is found


@forms
def test_a_tokenizer_that_was_made_for_arc_tells_its_form(name):
    form = PromptForm.choose(TOKENIZERS[name])
    assert form == FITTED[name] and form.why == "by its tokenizer"
    assert form.description.startswith(f"prompt form {name} (by its tokenizer): ") and "\n" not in form.description


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(), char_tokenizer(), llama3_tokenizer()])
def test_any_other_tokenizer_spells_the_suites(tokenizer):
    form = PromptForm.choose(tokenizer)
    assert form.name == "suite" and form.why == "nothing says otherwise"
    assert [tokenizer.convert_ids_to_tokens(i) for i in form.digits] == list("0123456789")


def test_a_file_in_the_folder_goes_before_the_tokenizer_and_a_wish_before_both(tmp_path):
    form = FORMS["suite"]
    assert PromptForm.load(form.save(tmp_path).parent) is form
    found = PromptForm.choose(TOKENIZERS["architects"], folders=[tmp_path])
    assert (found.name, found.why) == ("suite", "by prompt_form.json")
    found = PromptForm.choose(TOKENIZERS["architects"], folders=[tmp_path], asked="architects")
    assert (found.name, found.why) == ("architects", "as asked")


def test_a_form_of_your_own_is_written_and_read(tmp_path):
    mine = PromptForm("mine", ("<start>",), ("I", ":"), ("O", ":"), after_output=";", closes_last_row=False)
    mine.save(tmp_path)
    assert PromptForm.load(tmp_path) == mine
    form = PromptForm.choose(TOKENIZERS["architects"], folders=[tmp_path])
    encoded = encode_pair(Pair([[1, 2], [3, 4]], [[5]]), form)
    assert form.decode(encoded.input_ids) == "<start>I:12\n34O:5;"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", 'must be an object with a "name"'),
        ('{"name": "marc"}', "'marc' is not known: allowed are suite, architects, nvarc"),
        ('{"name": "x", "prefix": "I"}', "prefix must be a list of symbols"),
        ('{"name": "x", "prefix": [], "before_input": [""], "between": []}', "before_input must be a list of symbols"),
        ('{"name": "x", "prefix": [], "before_input": ["I"], "between": ["O"], "ends": 1}', "may hold name, prefix"),
        ('{"name": "x", "prefix": [], "before_input": ["I"], "between": ["O"], "after_output": 1}', "is one symbol"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, message):
    (tmp_path / "prompt_form.json").write_text(text)
    with pytest.raises(ValueError, match=r"prompt_form\.json: ") as caught:
        PromptForm.choose(arc_tokenizer(), folders=[tmp_path])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tokenizer", "form", "message"),
    [
        ("nvarc", "suite", "for 'I', 'O'; the prompt form 'suite' needs one: it can spell the form nvarc"),
        ("suite", "nvarc", "for '<|im_start|>', 'user', '<|im_end|>', 'assistant'; the prompt form 'nvarc'"),
        ("suite", "architects", "'D', 'E', 'F', 'G', 'H', '…'; the prompt form 'architects' needs one: it can spell"),
    ],
)  # fmt: skip
def test_a_form_that_does_not_fit_the_tokenizer_is_refused(tokenizer, form, message):
    with pytest.raises(TokenizerError, match=r"^some/model: ") as caught:
        PromptForm.choose(TOKENIZERS[tokenizer], "some/model", asked=form)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'marc' is not known: allowed are suite, architects, nvarc"):
        known_form("marc")


def test_the_parameter_allows_what_there_is():
    schema = json.loads(json.dumps(TokenizationDebugKnobs.model_json_schema()))
    assert schema["properties"]["prompt_form"]["enum"] == ["auto", *FORMS]

"""Prompts are read once, without padding, for whoever goes on from them."""

import numpy as np
import pytest
import torch

from arc_helpers.lm.prompt import IGNORE, Encoded, encode
from arc_helpers.ttt.decode import left_pad
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.ranking import answer_logprobs, score_answers
from arc_helpers.ttt.reading import Reading
from arc_helpers.ttt.search import answers_with_lora


@pytest.fixture
def asked(lm, tasks):
    """Prompts of three lengths, two of them twice, on two adapters that do something."""
    model = MultiLoRAModel(lm, ["a", "b"], mode="full", r=4)
    torch.manual_seed(3)
    with torch.no_grad():
        model.bank.flat.add_(0.05 * torch.randn_like(model.bank.flat))
    prompts = [encode(task.without_answers(), lm.prompt_form).input_ids for task in tasks]
    return model, [*prompts, *prompts[:2]], [0, 1, 0, 1, 0]


def test_the_cache_is_that_of_each_prompt_alone(asked):
    model, prompts, slots = asked
    cache = Reading(model).cache(prompts, slots, [1, 2, 1, 1, 1])
    row = 0
    for prompt, slot, count in zip(prompts, slots, [1, 2, 1, 1, 1], strict=True):
        ids = torch.from_numpy(prompt)[None, :-1]
        alone = model.hidden(ids, torch.tensor([slot]), use_cache=True).past_key_values
        for layer, own in zip(cache.layers, alone.layers, strict=True):
            for _ in range(count):
                torch.testing.assert_close(layer.keys[row, :, -ids.shape[1] :], own.keys[0], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(layer.values[row, :, -ids.shape[1] :], own.values[0], atol=1e-5, rtol=1e-5)
                assert not layer.keys[row, :, : -ids.shape[1]].any()
        row += count


def test_what_is_kept_is_not_read_again_and_not_written_to(asked, monkeypatch):
    model, prompts, slots = asked
    form = model.lm.prompt_form
    answers = [
        [np.array([form.digits[1], form.row_end, form.end]), np.array([form.digits[2]] * 2 + [form.row_end, form.end])]
    ] * 5
    wanted = answers_with_lora("dfs", model, prompts, slots, [6] * 5), score_answers(model, prompts, slots, answers)
    reading = Reading(model, room=1e9)
    for _ in range(2):
        found = answers_with_lora("dfs", model, prompts, slots, [6] * 5, reading=reading)
        assert [[a.token_ids for a in own] for own in found] == [[a.token_ids for a in own] for own in wanted[0]]
        monkeypatch.setattr(reading, "_states", None)  # from here on it would fail
        scores = score_answers(model, prompts, slots, answers, reading=reading)
        np.testing.assert_allclose(np.stack(scores), np.stack(wanted[1]), atol=1e-5)
    reading.forget()
    with pytest.raises(TypeError):
        reading.cache(prompts, slots)


def test_nothing_is_kept_without_room(asked):
    model, prompts, slots = asked
    reading = Reading(model, room=100.0)
    reading.cache(prompts, slots)
    assert not reading._kept and reading.room == 100.0


def test_scores_are_those_of_each_answer_alone(asked):
    model, prompts, slots = asked
    form = model.lm.prompt_form
    answer = np.array([form.digits[3], form.row_end, form.end])
    for prompt, slot, own in zip(prompts, slots, score_answers(model, prompts, slots, [[answer]] * 5), strict=True):
        ids = np.concatenate([prompt, answer])
        labels = np.concatenate([np.full(len(prompt), IGNORE), answer])
        logprobs = answer_logprobs(model, Encoded(ids, labels, len(prompt)), slot)
        assert own[0] >= logprobs.sum() - 1e-4, "fewer tokens may stand there, so each is at least as likely"


def test_padding_on_the_left_moves_no_cell(gridlm):
    """Not even where no token starts a document."""
    form, mark = gridlm.prompt_form, gridlm.model.config.marker_token_ids[1]
    rows = [torch.tensor([form.digits[1]] * n + [form.row_end, mark, form.digits[2]]) for n in (2, 5)]
    padded, mask = left_pad([row.numpy() for row in rows], form.pad, "cpu")
    found = gridlm.positions(padded, mask)
    for row, own in zip(rows, found, strict=True):
        alone = gridlm.positions(row[None], torch.ones_like(row)[None])[0]
        assert torch.equal(own[-len(row) :], alone)

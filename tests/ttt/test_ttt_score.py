"""Scoring answers on a shared prompt cache gives what a plain forward over prompt and answer gives."""

import numpy as np
import pytest
import torch

from arc_helpers import lm as language_models
from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt import encode
from arc_helpers.ttt.decode import generate_with_lora
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel
from arc_helpers.ttt.ranking import answer_logprobs, score_answers

NAMES = ["a", "b", "c"]
SLOTS = [0, 1, 2, 1, 2, 0, 2, 0, 1]
GRIDS = [[[7]], [[1, 2, 3]], [[4, 5], [6, 7]], [[0] * 5] * 4]


@pytest.fixture(params=MODES)
def model(lm, request) -> MultiLoRAModel:
    """Adapters strong enough to matter."""
    torch.manual_seed(5)
    model = MultiLoRAModel(lm, NAMES, r=4, mode=request.param)
    with torch.no_grad():
        for name in model.bank.names:
            model.bank[name].normal_(std=0.2)
    return model


@pytest.fixture
def prompts(lm, tasks) -> list[np.ndarray]:
    """Lengths 32 to 55."""
    return [encode(task.without_answers(), lm.prompt_form).input_ids for task in tasks for _ in NAMES]


@pytest.fixture
def answers(lm) -> list[list[np.ndarray]]:
    """One to four answers a prompt, of 3 to 25 tokens, and a prompt without any."""
    ids = [np.append(lm.prompt_form.grid_ids(np.array(grid)), lm.prompt_form.end) for grid in GRIDS]
    return [ids[:1], ids[1:], ids[::-1], [], ids, ids[2:3], ids[3:], ids[:2], ids]


@torch.no_grad()
def plain_score(model: MultiLoRAModel, prompt: np.ndarray, slot: int, answer: np.ndarray) -> float:
    """One sequence, one forward, no cache; probabilities over the tokens an answer may hold."""
    ids = torch.from_numpy(np.concatenate([prompt, answer]))[None]
    logits = model(ids, torch.tensor([slot]))[0, len(prompt) - 1 : -1, model.lm.prompt_form.answer_ids]
    index = [model.lm.prompt_form.answer_ids.index(token) for token in answer]
    return logits.double().log_softmax(dim=-1)[range(len(answer)), index].sum().item()


def test_equal_to_a_plain_forward(model, prompts, answers):
    scores = score_answers(model, prompts, SLOTS, answers)
    assert [len(s) for s in scores] == [len(a) for a in answers]
    for prompt, slot, own, found in zip(prompts, SLOTS, answers, scores, strict=True):
        np.testing.assert_allclose(found, [plain_score(model, prompt, slot, a) for a in own], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("max_rows", [1, 5, 1000])
def test_how_many_at_a_time_does_not_matter(model, prompts, answers, max_rows):
    one = score_answers(model, prompts, SLOTS, answers, max_rows=max_rows)
    other = score_answers(model, prompts, SLOTS, answers)
    np.testing.assert_allclose(np.concatenate(one), np.concatenate(other), rtol=1e-5, atol=1e-3)


def test_an_adapter_scores_with_its_own_weights(lm, prompts, answers):
    torch.manual_seed(5)
    model = MultiLoRAModel(lm, NAMES, r=4)
    with torch.no_grad():
        model.B.normal_(std=0.3)
    scores = score_answers(model, prompts[:3], [0, 1, 2], [answers[-1]] * 3)
    assert len({round(s[0], 3) for s in scores}) == 3


def test_no_likelier_than_in_decoding(lm, prompts):
    """Decoding divides among the tokens that the grammar allows, scoring among all of an answer's: never by less."""
    model = MultiLoRAModel(lm, NAMES, r=4)
    voc = lm.prompt_form
    generated = generate_with_lora(model, prompts, SLOTS, [20] * len(prompts))
    said = [[np.array([*g.token_ids, voc.end] if g.finished else g.token_ids)] for g in generated]
    scores = score_answers(model, prompts, SLOTS, said)
    assert all(s[0] <= g.logprob + 1e-3 for s, g in zip(scores, generated, strict=True))


def test_nothing_to_score(lm, prompts):
    model = MultiLoRAModel(lm, NAMES, r=4)
    assert score_answers(model, [], [], []) == []
    assert [len(s) for s in score_answers(model, prompts[:2], [0, 1], [[], []])] == [0, 0]


def test_each_answer_token_on_its_own(model, lm):
    """With an adapter, its log-probabilities in one plain forward; with an untrained one, the base's."""
    encoded = encode(Task("t", (Pair([[1, 2]], [[2, 1]]),), (Pair([[3, 4]], [[4, 3]]),)), lm.prompt_form)
    found = answer_logprobs(model, encoded, 1)
    with torch.no_grad():
        logits = model(torch.from_numpy(encoded.input_ids)[None], torch.tensor([1]))[0].log_softmax(-1)
    answer = range(encoded.prompt_length, len(encoded))
    np.testing.assert_allclose(found, [logits[i - 1, encoded.input_ids[i]].item() for i in answer], atol=1e-5)
    untrained = MultiLoRAModel(lm, NAMES, r=4, mode=model.mode)
    np.testing.assert_allclose(
        answer_logprobs(untrained, encoded, 1), language_models.answer_logprobs(lm, encoded), atol=1e-5
    )

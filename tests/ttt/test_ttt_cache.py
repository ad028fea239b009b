"""Cached states are those of a plain forward, in the order asked for."""

import numpy as np
import pytest
import torch

from arc_helpers.lm.prompt import IGNORE, encode
from arc_helpers.ttt.cache import answer_features


@pytest.fixture
def examples(lm, tasks):
    """Long, short, long: the order in a batch is another one."""
    return [
        encode(tasks[0], lm.vocabulary),
        encode(tasks[2], lm.vocabulary, all_outputs=True),
        encode(tasks[1], lm.vocabulary, max_len=30),
        encode(tasks[1], lm.vocabulary),
    ]


@torch.no_grad()
@pytest.mark.parametrize("batch_tokens", [1, 150, 8192])
def test_states_that_predict_the_answer(lm, examples, batch_tokens):
    features = answer_features(lm, examples, batch_tokens)
    assert len(features) == len(examples)
    for example, feature in zip(examples, features, strict=True):
        hidden = lm.hidden(torch.from_numpy(example.input_ids)[None]).last_hidden_state[0]
        counted = np.flatnonzero(example.labels != IGNORE)
        torch.testing.assert_close(feature.hidden, hidden[counted - 1], atol=1e-5, rtol=1e-4)
        assert feature.targets.tolist() == example.labels[counted].tolist()
        assert not feature.hidden.requires_grad


@torch.no_grad()
def test_their_loss_is_the_models_loss(lm, tasks):
    """The shift by one is right: labels given to the model itself cost the same."""
    example = encode(tasks[0], lm.vocabulary)
    feature = answer_features(lm, [example])[0]
    ids, labels = torch.from_numpy(example.input_ids)[None], torch.from_numpy(example.labels)[None]
    loss = torch.nn.functional.cross_entropy(lm.head(feature.hidden), feature.targets)
    torch.testing.assert_close(loss, lm.model(ids, labels=labels).loss, atol=1e-5, rtol=1e-5)


def test_no_batch_is_larger_than_asked(lm, examples, monkeypatch):
    sizes = []
    decoder = lm.model.get_decoder() if hasattr(lm.model, "get_decoder") else lm.model.model
    hook = decoder.register_forward_pre_hook(
        lambda m, args, kw: sizes.append(kw["input_ids"].numel()), with_kwargs=True
    )
    try:
        answer_features(lm, examples, 150)
    finally:
        hook.remove()
    assert len(sizes) > 1 and all(size <= max(150, max(map(len, examples))) for size in sizes)


def test_nothing_asked_nothing_given(gridlm):
    assert answer_features(gridlm, []) == []

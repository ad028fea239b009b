"""What the frontier measures: the known answer of a held-out demonstration, seen by no training."""

import dataclasses

import numpy as np
import pytest
import torch

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt import encode
from arc_helpers.ttt import depths
from arc_helpers.ttt.depths import depths_of, score_depth, with_held_out_demonstration
from arc_helpers.ttt.multilora import decoder_layers
from arc_helpers.ttt.settings import TTTSettings

SETTINGS = TTTSettings(k=2, steps=8, num_pseudo=4, r=4, alpha=8.0, lr=2e-2)


def test_the_last_demonstration_is_asked_for_and_no_test_input_is_left(tasks):
    probe = with_held_out_demonstration(tasks[0])
    assert probe.train == tasks[0].train[:-1] and probe.test == tasks[0].train[-1:]
    assert with_held_out_demonstration(tasks[2]) is None, "two demonstrations are too few"


def test_the_depths_of_a_model(lm):
    names, layers = depths_of(lm), len(decoder_layers(lm))  # two or three
    assert list(names) == ["untrained", "head", f"top 1 of {layers}", f"full ({layers} layers)"]
    probe = with_held_out_demonstration(Task("t", (Pair([[1]], [[1]]),) * 3, (Pair([[2]]),)))
    numbers = [score_depth(lm, [probe], dataclasses.replace(SETTINGS, steps=1), **d).numbers for d in names.values()]
    assert numbers[0] == 0 and numbers == sorted(numbers) and len(set(numbers)) == 4


def test_untrained_is_the_base_itself(lm, tasks):
    """The mean over test inputs of the model's own loss."""
    score = score_depth(lm, tasks, SETTINGS, steps=0)
    for task, nll, exact in zip(tasks, score.nll, score.exact, strict=True):
        losses, right = [], True
        for i in range(len(task.test)):
            example = encode(task, lm.prompt_form, test_index=i)
            ids, labels = (torch.from_numpy(a)[None] for a in (example.input_ids, example.labels))
            with torch.no_grad():
                output = lm.model(ids, labels=labels)
            losses.append(output.loss.item())
            counted = labels[0, 1:] >= 0
            right &= torch.equal(output.logits[0, :-1].argmax(-1)[counted], labels[0, 1:][counted])
        assert nll == pytest.approx(np.mean(losses), abs=1e-5) and exact == right


@pytest.mark.parametrize("mode", ["head", "top_m", "full"])
def test_training_does_not_see_the_answer_that_is_asked(gridlm, tasks, mode, monkeypatch):
    seen, original = [], depths.encode_pool
    monkeypatch.setattr(depths, "encode_pool", lambda lm, task, s: seen.append(task) or original(lm, task, s))
    score = score_depth(gridlm, tasks, SETTINGS, mode=mode)
    assert len(seen) == 3 and all(pair.output is None for task in seen for pair in task.test)
    assert np.isfinite(score.nll).all() and score.seconds > 0 and score.mean_nll == pytest.approx(score.nll.mean())


def test_what_training_brings_is_seen(gridlm):
    """A constant answer is learned, at every depth."""
    constant = Task("c", tuple(Pair([[c, 0]], [[0, 0]]) for c in (1, 2, 3, 4)), (Pair([[5, 0]], [[0, 0]]),))
    before = score_depth(gridlm, [constant], SETTINGS, steps=0)
    for mode in ("head", "top_m", "full"):
        after = score_depth(
            gridlm, [constant], dataclasses.replace(SETTINGS, steps=20, num_pseudo=16, lr=5e-3), mode=mode
        )
        assert after.nll[0] < 0.6 * before.nll[0]


def test_an_answer_that_does_not_fit_is_no_number(gridlm, tasks):
    big = Task("big", tasks[0].train, (Pair(np.ones((20, 20), int), np.ones((20, 20), int)),))
    score = score_depth(dataclasses.replace(gridlm, max_len=128), [big, tasks[0]], SETTINGS, steps=0)
    assert np.isnan(score.nll[0]) and not score.exact[0] and score.mean_nll == score.nll[1]

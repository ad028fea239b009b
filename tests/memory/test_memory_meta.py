"""The outer loop: objectives, micro-batches, resume, deadline, and that it learns."""

import pytest
import torch
from memory_models import random_ids, small_model

from arc_helpers.memory.meta import Batch, MetaConfig, MetaTrainer, forward_ttt_meta
from arc_helpers.memory.mqar import MQAR


def batches(step):
    return Batch(random_ids(4, 33, seed=step))


def train(checkpoint=None, **changes):
    model = small_model(ttt_layers=1)
    config = MetaConfig(**{"steps": 4, "warmup_steps": 1, "save_every": 1, **changes})
    trainer = MetaTrainer(model, batches, config, checkpoint)
    return trainer, trainer.run()


def same(one, two, atol=0.0):
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    return all(torch.allclose(p, q, atol=atol, rtol=0) for p, q in pairs)


def test_stream_scores_every_token_and_split_the_second_part():
    model, ids = small_model(), random_ids(2, 65)
    stream = forward_ttt_meta(model, ids)
    assert stream.loss.item() == pytest.approx(stream.nll.mean().item()) and stream.counted.all()
    split = forward_ttt_meta(model, ids, objective="split", adapt_share=0.5)
    assert split.counted.sum(dim=1).tolist() == [33, 33] and not split.counted[:, :31].any()
    assert split.state.updates.tolist() == [4, 4] and stream.state.updates.tolist() == [8, 8]
    assert torch.allclose(split.nll[:, :32], stream.nll[:, :32], atol=1e-5), "the first part is the same"
    plain = forward_ttt_meta(model, ids, order=0)
    assert plain.state.updates.tolist() == [0, 0]


def test_only_scored_tokens_are_in_the_outer_loss():
    model, ids = small_model(), random_ids(2, 33)
    scored = torch.zeros(2, 33, dtype=torch.bool)
    scored[:, 20:25] = True
    out = forward_ttt_meta(model, Batch(ids, scored=scored))
    assert out.loss.item() == pytest.approx(out.nll[:, 19:24].mean().item())
    with pytest.raises(ValueError, match="no token of the batch is in the outer loss"):
        forward_ttt_meta(model, Batch(ids, scored=torch.zeros_like(scored)))


def test_micro_batches_change_nothing_but_memory():
    whole, _ = train()
    for micro in (1, 3):
        parts, result = train(micro_batch=micro)
        assert same(whole, parts, atol=2e-4), micro
        assert result["step"] == 4


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    straight, _ = train()
    path = tmp_path / "meta.pt"
    _, result = train(path, seconds=1e-9)
    assert result["step"] == 1, "the deadline stops it after one step"
    resumed, result = train(path)
    assert result["step"] == 4 and same(straight, resumed)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "meta.pt"
    train(path)
    with pytest.raises(ValueError, match=r"was made with lr = 0\.003, this run has 0\.1"):
        train(path, lr=0.1)
    with pytest.raises(ValueError, match="is of another model or adapter"):
        config = MetaConfig(steps=4, warmup_steps=1)
        MetaTrainer(small_model(ttt_layers=1, num_hidden_layers=3), batches, config, path)


def test_settings_that_make_no_sense_are_refused(model):
    with pytest.raises(ValueError, match="steps and seconds are both None"):
        MetaConfig(steps=None)
    ids = random_ids(1, 20)
    with pytest.raises(ValueError, match="objective = splat: must be stream or split"):
        forward_ttt_meta(model, ids, objective="splat")
    with pytest.raises(ValueError, match="order = 3: must be 0, 1 or 2"):
        forward_ttt_meta(model, ids, order=3)
    with pytest.raises(ValueError, match="pairs = 65: must be at most 64"):
        MQAR(pairs=65)


def test_mqar_answers_are_the_values_of_their_keys():
    task = MQAR(pairs=8, length=64)
    batch, answers = task.batch(0, 5)
    assert batch.ids.shape == (5, 65) and answers.sum(dim=1).tolist() == [8] * 5
    for ids, answer in zip(batch.ids.tolist(), answers.tolist(), strict=True):
        told = dict(zip(ids[0:16:2], ids[1:16:2], strict=True))
        asked = [(ids[i - 1], ids[i]) for i in range(65) if answer[i]]
        assert len(told) == 8 and dict(asked) == told
    assert torch.equal(batch.ids, task.batch(0, 5)[0].ids) and not torch.equal(batch.ids, task.batch(1, 5)[0].ids)


def test_meta_training_lowers_the_loss_with_learning_on():
    """Repetitions of random texts: only what is learned inside a text can help."""

    def repeated(step):
        return Batch(random_ids(8, 24, seed=step).repeat(1, 3)[:, :65])

    model = small_model(ttt_layers=1, inner_lr=1.0)
    before = forward_ttt_meta(model, repeated(10**6)).nll[:, 30:].mean().item()
    MetaTrainer(model, repeated, MetaConfig(steps=40, warmup_steps=5, lr=1e-2)).run()
    after = forward_ttt_meta(model, repeated(10**6)).nll[:, 30:].mean().item()
    assert after < before - 0.3

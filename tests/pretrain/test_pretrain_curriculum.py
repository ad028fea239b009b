"""A curriculum: what is drawn when, and that a resumed run takes up where it was."""

import dataclasses

import pytest
import torch
from test_pretrain_trainer import SIX, Killed, kill_at, tiny_model

from arc_helpers.arc import Pair
from arc_helpers.pretrain import corpus
from arc_helpers.pretrain.corpus import build_curriculum, build_mixture
from arc_helpers.pretrain.curriculum import Curriculum, parse_curriculum
from arc_helpers.pretrain.mixture import Mixture, task_sampler
from arc_helpers.pretrain.trainer import Pretrainer


def mixture_of(prompt_form, width: int, max_len: int) -> Mixture:
    pairs = [Pair([[i] * width], [[i]]) for i in range(6)]
    return Mixture({str(width): (1.0, task_sampler({"t": pairs}))}, prompt_form, max_len, max_side=width)


@pytest.fixture
def curriculum(prompt_form) -> Curriculum:
    return Curriculum(((0.5, mixture_of(prompt_form, 2, 80)), (1.0, mixture_of(prompt_form, 5, 120))))


def test_stages_are_read_from_text():
    assert parse_curriculum(None, (30, 4096)) == parse_curriculum("", (30, 4096)) == [(1.0, (30, 4096))]
    text = "0.6:12:1024, 0.9:20:2048"
    assert parse_curriculum(text, (30, 4096)) == [(0.6, (12, 1024)), (0.9, (20, 2048)), (1.0, (30, 4096))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "'half'; expected share:max_side:max_len"),
        ("0.5:12", "'0.5:12'; expected share:max_side:max_len"),
        ("0.5:12.5:64", "expected share:max_side:max_len"),
        ("0.5:12:64,0.4:14:64", "'0.4:14:64'; shares must rise between 0 and 1"),
        ("1:12:64", "'1:12:64'; shares must rise between 0 and 1"),
        ("0.5:31:64", "a stage may be at most 30 cells and 4096 tokens"),
        ("0.5:0:64", "a stage may be at most 30 cells and 4096 tokens"),
        ("0.5:12:4097", "a stage may be at most 30 cells and 4096 tokens"),
    ],
)
def test_what_is_no_curriculum_is_one_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_curriculum(text, (30, 4096))
    assert "\n" not in str(error.value)


def test_the_stage_goes_by_the_share_of_the_run(curriculum):
    assert [curriculum.stage(x) for x in (0.0, 0.49, 0.5, 0.99, 1.0)] == [0, 0, 1, 1, 1]
    alone = Curriculum.of(curriculum.stages[0][1])
    assert [alone.stage(x) for x in (0.0, 0.7, 1.0)] == [0, 0, 0] and Curriculum.of(alone) is alone


def stages_drawn(trainer: Pretrainer, monkeypatch) -> list[str]:
    seen, one_step = [], trainer._one_step

    def spy(batch):
        seen.append(batch.names[0])
        return one_step(batch)

    monkeypatch.setattr(trainer, "_one_step", spy)
    trainer.run()
    return seen


@pytest.mark.parametrize("pack", [False, True])
def test_grids_grow_over_the_run(curriculum, monkeypatch, pack):
    trainer = Pretrainer(tiny_model(), curriculum, dataclasses.replace(SIX, pack=pack))
    assert stages_drawn(trainer, monkeypatch) == ["2"] * 3 + ["5"] * 3
    assert [m["stage"] for m in trainer.history] == [0, 0, 0, 1, 1, 1]


def test_killed_in_a_later_stage_and_resumed_equals_never_killed(curriculum, tmp_path):
    config = dataclasses.replace(SIX, checkpoint_every=4, pack=True)
    straight = Pretrainer(tiny_model(), curriculum, config, tmp_path / "straight.pt")
    straight.run()
    with pytest.raises(Killed):
        Pretrainer(tiny_model(), curriculum, config, tmp_path / "killed.pt", on_metrics=kill_at(5)).run()
    resumed = Pretrainer(tiny_model(), curriculum, config, tmp_path / "killed.pt")
    assert (resumed.step, resumed.stage) == (4, 1)
    resumed.run()
    assert resumed.cursor == straight.cursor and resumed.tokens == straight.tokens
    pairs = zip(straight.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [m["step"] for m in resumed.history] == [1, 2, 3, 4, 5, 6]


def test_a_longer_run_does_not_fall_back_a_stage(curriculum, tmp_path):
    Pretrainer(tiny_model(), curriculum, SIX, tmp_path / "c.pt").run()
    longer = Pretrainer(tiny_model(), curriculum, dataclasses.replace(SIX, steps=20), tmp_path / "c.pt")
    assert longer.config.progress(longer.step, 0) < 0.5 and longer.stage == 1
    longer.run()
    assert {m["stage"] for m in longer.history if m["step"] > 6} == {1}


def test_the_stages_of_the_corpus(prompt_form, monkeypatch):
    monkeypatch.setattr(corpus, "allowed_for_pretraining", lambda tasks: (tasks, []))  # slow, and has its own tests
    options = {"procedural_share": 0.5, "max_side": 10, "max_len": 700, "seed": 3}
    curriculum, counts, _ = build_curriculum(prompt_form, stages="0.5:5:200", **options)
    (half, small), (whole, large) = curriculum.stages
    assert (half, small.max_side, small.max_len) == (0.5, 5, 200)
    assert (whole, large.max_side, large.max_len) == (1.0, 10, 700) == (1.0, 10, curriculum.longest)
    assert max(len(small.document(i)[1]) for i in range(30)) <= 200
    plain, plain_counts, _ = build_mixture(prompt_form, **options)
    assert plain_counts == counts and plain.settings == large.settings
    assert all((plain.document(i)[1].input_ids == large.document(i)[1].input_ids).all() for i in range(10))

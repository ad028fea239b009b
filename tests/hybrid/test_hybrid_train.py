"""Training: it learns, it resumes to the bit, it stops in time; folders come back as they were."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from arc_helpers.hybrid.attempts import solve
from arc_helpers.hybrid.checks import weights_hash
from arc_helpers.hybrid.model import HybridError
from arc_helpers.hybrid.rules import draw_rule_sets, same_size_families, split_families
from arc_helpers.hybrid.saved import load_hybrid, load_pretrained, save_hybrid
from arc_helpers.hybrid.tiny import tiny_examples, tiny_lm, tiny_trm
from arc_helpers.hybrid.train import JointConfig, JointTrainer
from arc_helpers.trm import CheckpointError, save_trm

EXAMPLES = tiny_examples(12)
SHORT = {"batch_size": 4, "feedback_every": 2, "log_every": 1}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resumed_equals_straight(make, tmp_path, optimizer):
    config = JointConfig(steps=6, optimizer=optimizer, **SHORT)
    straight = make(opened=0.0)
    JointTrainer(straight, EXAMPLES, config).run()
    cut = tmp_path / "checkpoint.pt"
    first = JointTrainer(make(opened=0.0), EXAMPLES, config, cut)
    assert first.run(steps=3)["step"] == 3
    resumed = make(opened=0.0)
    trainer = JointTrainer(resumed, EXAMPLES, config, cut)
    assert trainer.step == 3
    trainer.run()
    assert weights_hash(resumed) == weights_hash(straight)


def test_it_learns_and_says_how(make):
    seen = []
    trainer = JointTrainer(
        make(), EXAMPLES[:4], JointConfig(steps=25, lr=1e-2, **SHORT | {"log_every": 5}), on_metrics=seen.append
    )
    result = trainer.run()
    assert [m["step"] for m in seen] == [5, 10, 15, 20, 25] and result["step"] == 25
    assert seen[-1]["loss_1"] < 0.7 * seen[0]["loss_1"] and {"loss_2", "exact_2"} < set(seen[0])


def test_nothing_becomes_zero_on_the_way_back_through_float16(make):
    lm = tiny_lm()
    lm = replace(lm, model=lm.model.half(), dtype=torch.float16)
    faint = make(lm=lm, opened=2e-5)  # as after a first step of a slow start
    trainer = JointTrainer(faint, EXAMPLES, JointConfig(steps=6, lr=1e-9, lr_matrices=1e-9, **SHORT))
    assert trainer.run(steps=2)["step"] == 2, "the second step checks its gradients"
    trainer.loss_scale, trainer.step = 1.0, 1
    with pytest.raises(RuntimeError, match=r"to_text\.out\.weight is zero"):
        trainer.run(steps=1)


def test_a_step_that_overflows_is_left_out(make):
    lm = tiny_lm()
    model = make(lm=replace(lm, model=lm.model.half(), dtype=torch.float16))
    before = weights_hash(model)
    trainer = JointTrainer(model, EXAMPLES, JointConfig(steps=6, **SHORT))
    trainer.loss_scale, trainer.step = 1e30, 1
    assert trainer.run(steps=1)["step"] == 2 and weights_hash(model) == before


def test_checkpoints_are_kept_by_their_step(make, tmp_path):
    config = JointConfig(steps=4, keep_every=2, **SHORT)
    JointTrainer(make(), EXAMPLES, config, tmp_path / "joint.pt").run()
    assert {path.name for path in tmp_path.glob("*.pt")} == {"joint.pt", "joint_step_2.pt", "joint_step_4.pt"}
    assert JointTrainer(make(), EXAMPLES, config, tmp_path / "joint_step_2.pt").step == 2


def test_it_stops_at_the_deadline(make):
    ticks = iter(range(1000))
    config = JointConfig(steps=300, seconds=7, **SHORT)
    trainer = JointTrainer(make(), EXAMPLES, config, clock=lambda: float(next(ticks)))
    assert trainer.run()["step"] == 7


def test_the_attempts_of_a_step():
    config = JointConfig(max_attempts=3, feedback_every=4, attempt_weights=(1, 1, 2))
    assert [config.attempts(step) for step in range(6)] == [1, 3, 1, 1, 1, 3]
    assert [config.weight(i, 3) for i in range(3)] == [0.25, 0.25, 0.5] and config.weight(0, 1) == 1
    for fields, message in (
        ({"max_attempts": 0}, "max_attempts = 0: must be > 0"),
        ({"attempt_weights": (1.0,)}, "attempt_weights: 1 given for 2 attempts"),
        ({"optimizer": "sgd"}, "optimizer = 'sgd': must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            JointConfig(**fields)
    with pytest.raises(ValueError, match="nothing to learn from"):
        JointTrainer(None, [], config)


def test_a_checkpoint_of_another_run_is_refused(make, tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    JointTrainer(make(), EXAMPLES, JointConfig(**SHORT), path).run(steps=1)
    with pytest.raises(CheckpointError, match="was made with batch_size = 4, this run has 3"):
        JointTrainer(make(), EXAMPLES, JointConfig(**{**SHORT, "batch_size": 3}), path)
    with pytest.raises(CheckpointError, match="was made with hybrid = "):
        JointTrainer(make(soft_tokens=2), EXAMPLES, JointConfig(**SHORT), path)
    path.write_bytes(path.read_bytes()[:1000])
    assert JointTrainer(make(), EXAMPLES, JointConfig(**SHORT), path).step == 0
    assert "kept as checkpoint.pt.damaged" in capsys.readouterr().out


def test_a_saved_model_answers_the_same(make, tmp_path):
    model = make()
    folder = save_hybrid(model, tmp_path / "model", steps=3)
    loaded = load_hybrid(folder, model.lm)
    questions = [example.question for example in EXAMPLES[:3]]
    for one, other in zip(solve(model, questions, attempts=2), solve(loaded, questions, attempts=2), strict=True):
        assert [a.q for a in one.attempts] == [a.q for a in other.attempts]
    assert json.loads((folder / "config.json").read_text())["facts"] == {"steps": 3}


def test_folders_that_do_not_fit(make, tmp_path):
    folder = save_hybrid(make("llama"), tmp_path / "model")
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "llm_width": 64}))
    with pytest.raises(HybridError, match=r"its adapters are for states 64 wide .tiny llama., tiny gridlm has 32"):
        load_hybrid(folder, tiny_lm())
    (folder / "config.json").write_text(json.dumps({**about, "hybrid": {"canvas": 3}}))
    with pytest.raises(HybridError, match=r"not a whole joint model .*canvas"):
        load_hybrid(folder, tiny_lm())
    with pytest.raises(HybridError, match="no joint model there"):
        load_hybrid(tmp_path / "nothing", tiny_lm())
    trm = save_trm(tiny_trm(mixer="mlp", rope="none", canvas_cells=9), tmp_path / "trm")
    said = []
    assert load_pretrained(trm, 16, 3, halt_max_steps=5, log=said.append).config.halt_max_steps == 5
    assert said == ["halt_max_steps = 5 as asked; the checkpoint has 2"]
    grown = load_pretrained(trm, 16, 3, 2, mends=True)
    assert grown.config.mends and not grown.draft.weight.any()
    assert torch.equal(grown.embed.weight, load_pretrained(trm, 16, 3, 2).embed.weight)
    with pytest.raises(HybridError, match="hidden_size of the TRM is 16, of this run 32"):
        load_pretrained(trm, 32, 3, 2)
    with pytest.raises(HybridError, match="a fixed canvas of 9 cells, canvas_side = 5 needs 25"):
        load_pretrained(trm, 16, 5, 2)


def test_rule_sets_keep_apart_what_must_be_apart():
    sets = draw_rule_sets(0, side=5, tasks=24, asked=8, demonstrations=2, questions=2)
    assert len(sets.train) == 48 and [len(s) for s in (sets.seen, sets.variants, sets.unseen)] == [8, 8, 8]
    assert not set(sets.learned) & set(sets.held_out)
    trained = {(e.question.task_id, e.question.input.tobytes()) for e in sets.train}
    tasks = {name for name, _ in trained}
    assert all(e.question.task_id in tasks and e.task for e in sets.seen)
    assert not trained & {(e.question.task_id, e.question.input.tobytes()) for e in sets.seen}
    assert not any(e.question.task_id in tasks or e.task for e in (*sets.variants, *sets.unseen))
    for example in sets.train:
        assert example.question.input.tobytes() not in {p.input.tobytes() for p in example.question.demonstrations}
    assert max(e.task for e in sets.train) == sets.rows - 1 == 24
    again = draw_rule_sets(0, side=5, tasks=24, asked=8, demonstrations=2, questions=2)
    assert all(np.array_equal(a.answer, b.answer) for a, b in zip(sets.unseen, again.unseen, strict=True))


def test_families_are_split_by_name():
    families = same_size_families(5, 5)
    learned, held_out = split_families(families)
    assert len(held_out) >= 3 and set(learned) | set(held_out) == set(families)
    assert split_families(families[::-1])[1] == held_out[::-1]
    with pytest.raises(ValueError, match="side = 2: no rule family fits"):
        draw_rule_sets(0, side=2, tasks=4, asked=2)

"""Joint training: what it learns from, what it may not see, and how it is asked afterwards."""

import dataclasses

import numpy as np
import pytest
import torch

from arc_helpers import lm as lm_package
from arc_helpers.arc import DIHEDRAL, Pair, Task
from arc_helpers.lm.prompt import IGNORE
from arc_helpers.ttt.decode import generate_with_lora
from arc_helpers.ttt.group import solve_group
from arc_helpers.ttt.joint import JointPairs, adapt_jointly, joint_config, with_task_tokens
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import FORMS, encode_pool, questions
from arc_helpers.ttt.settings import TTTSettings

SHORT = joint_config("cpu", 4, batch_tokens=1024, checkpoint_every=2)
ANSWERS = TTTSettings(k=3, steps=0, views=8, form="pairs")


def weights(lm) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in lm.model.parameters()])


@pytest.fixture(scope="module")
def learned(lms):
    """Four tasks of one demonstration each, that differ in their colour alone: only their tokens tell them apart."""
    tasks = [
        Task(name, (Pair([[0, 1], [0, 0]], [[c, 1], [0, 0]]),), (Pair([[0, 1], [0, 0]]),))
        for name, c in (("two", 2), ("three", 3), ("four", 4), ("five", 5))
    ]
    config = joint_config("cpu", 150, batch_tokens=2048, warmup_steps=5, compile=False)
    return tasks, adapt_jointly(lms["gridlm"], tasks, config, form="pairs")


def test_tasks_are_told_apart_by_their_tokens(learned):
    tasks, joint = learned
    for task, result in zip(tasks, solve_group(joint, tasks, ANSWERS), strict=True):
        best = result.ranked[0][0]
        assert np.array_equal(best.grid, task.train[0].output)
        assert best.votes == 8


def test_the_base_is_not_changed(gridlm, tasks):
    before = weights(gridlm).clone()
    joint = adapt_jointly(gridlm, tasks, SHORT)
    assert torch.equal(weights(gridlm), before) and gridlm.task_tokens is None
    assert joint.task_tokens.names == tuple(task.id for task in tasks)
    assert [note.split(": ")[0] for note in joint.notes] == ["engine"], "what it runs with"
    assert not any(p.requires_grad for p in joint.model.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_answers_change_nothing(gridlm, tasks, form):
    poisoned = [
        dataclasses.replace(task, test=tuple(Pair(pair.input, [[9] * 7]) for pair in task.test)) for task in tasks
    ]
    blind = adapt_jointly(gridlm, [task.without_answers() for task in tasks], SHORT, form=form)
    assert torch.equal(weights(blind), weights(adapt_jointly(gridlm, poisoned, SHORT, form=form)))


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "task_vectors": True}], ids=["plain", "recipe"])
def test_a_killed_training_goes_on(gridlm, tasks, tmp_path, options):
    straight = adapt_jointly(gridlm, tasks, SHORT, checkpoint=tmp_path / "straight.pt", **options)

    class Killed(Exception):
        pass

    def kill(metrics):
        raise Killed

    with pytest.raises(Killed):
        config = dataclasses.replace(SHORT, log_every=3)
        adapt_jointly(gridlm, tasks, config, checkpoint=tmp_path / "killed.pt", on_metrics=kill, **options)
    resumed = adapt_jointly(gridlm, tasks, SHORT, checkpoint=tmp_path / "killed.pt", **options)
    assert torch.equal(weights(straight), weights(resumed))
    with pytest.raises(ValueError, match="was made with"):
        adapt_jointly(gridlm, tasks[:2], SHORT, checkpoint=tmp_path / "killed.pt")


def test_an_epoch_has_every_pair_in_every_view(gridlm, tasks):
    _, tokens = with_task_tokens(gridlm.model, tuple(t.id for t in tasks), 0)
    pools = {task.id: task.train for task in tasks}
    pairs = sum(map(len, pools.values()))
    counts = {}
    for form in FORMS:
        batches = JointPairs(pools, tokens, gridlm.prompt_form, 512, 0, form).batches(256)
        first = []
        for batch in batches:
            if batch.following[0] > 0:
                break
            first.append(batch)
        counts[form] = sum(len(batch.names) for batch in first)
        assert all((batch.labels != IGNORE).any() for batch in first)
    assert counts == {"pairs": 8 * pairs, "in_context": pairs, "both": 9 * pairs}


def test_background_tasks_teach_with_their_test_pairs_and_may_not_be_solved(gridlm, tasks):
    joint = adapt_jointly(gridlm, tasks[:1], SHORT, background=tasks[1:])
    assert set(joint.task_tokens.names) == {task.id for task in tasks}
    with pytest.raises(ValueError, match="task mirror is to be solved, so it cannot be a background task"):
        adapt_jointly(gridlm, tasks, SHORT, background=tasks[:1])


def test_only_a_gridlm_has_task_tokens(lms, tasks):
    with pytest.raises(ValueError, match="llama is no GridLM"):
        adapt_jointly(lms["llama"], tasks, SHORT)


@pytest.mark.parametrize("form", FORMS)
def test_pools_and_questions(learned, form):
    tasks, joint = learned
    settings = dataclasses.replace(ANSWERS, form=form, num_pseudo=5, views=16)
    own = {"in_context": 5, "pairs": 8, "both": 13}[form]
    pool, note = encode_pool(joint, tasks[0], settings)
    assert len(pool) == own and note is None
    asked = list(questions(joint, tasks[0], 0, settings, 10))
    assert len(asked) == {"in_context": 16, "pairs": 8, "both": 24}[form]
    assert {view.name for view, _ in asked} >= {view.name for view in DIHEDRAL}


def test_a_base_without_task_tokens_says_so(gridlm, tasks):
    with pytest.raises(ValueError, match="has no task tokens; 'pairs' and 'both' need joint training first"):
        encode_pool(gridlm, tasks[0], ANSWERS)


def test_a_joint_model_is_a_folder_like_any_other(learned, tmp_path):
    tasks, joint = learned
    joint.model.save_pretrained(tmp_path)
    joint.tokenizer.save_pretrained(tmp_path)
    loaded = lm_package.load_causal_lm(tmp_path, trim_vocab=True, max_len=joint.max_len)
    assert loaded.task_tokens == joint.task_tokens
    one, other = (solve_group(each, tasks[:1], ANSWERS)[0] for each in (joint, loaded))
    assert np.array_equal(one.attempts[0], other.attempts[0])


def test_with_vectors_on_every_token_an_answer_is_written_as_the_whole_sequence_says(gridlm, tasks):
    joint = adapt_jointly(gridlm, tasks, SHORT, task_vectors=True)
    model = MultiLoRAModel(joint, ["a"])
    prompts = [prompt.input_ids for task in tasks for _, prompt in questions(joint, task, 0, ANSWERS, 10)]
    asked = model, prompts, [0] * len(prompts), [8] * len(prompts)
    cached, whole = (generate_with_lora(*asked, use_cache=use) for use in (True, False))
    assert [a.token_ids for a in cached] == [a.token_ids for a in whole]
    with pytest.raises(ValueError, match="dropout = 1: must be at least 0 and below 1"):
        adapt_jointly(gridlm, tasks, SHORT, dropout=1)


def test_a_run_does_not_go_on_with_another_recipe(gridlm, tasks, tmp_path):
    adapt_jointly(gridlm, tasks, SHORT, checkpoint=tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"was made with dropout = 0\.0, this run has 0\.1"):
        adapt_jointly(gridlm, tasks, SHORT, checkpoint=tmp_path / "c.pt", dropout=0.1)

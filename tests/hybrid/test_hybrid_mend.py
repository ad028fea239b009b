"""Drafts and what becomes of them: turned as they should be, learned from demonstrations alone, merged by one rule."""

from dataclasses import replace

import numpy as np
import pytest

from arc_helpers.arc import DIHEDRAL, Pair, SubmissionWriter, Task, Transform, num_tests_of, write_ranked
from arc_helpers.hybrid.attempts import Answer
from arc_helpers.hybrid.drafts import drafted, mending_examples, without_last_demonstration, write_drafts
from arc_helpers.hybrid.feedback import Attempt
from arc_helpers.hybrid.mending import canvas_side, make_drafters, mend, merged, shuffled
from arc_helpers.hybrid.tiny import tiny_lm
from arc_helpers.hybrid.train import JointConfig, JointTrainer
from arc_helpers.ttt import Candidate

A, B, C = (np.array([[n, 0]], dtype=np.int8) for n in (1, 2, 3))


def task_with(answer, task_id="poison") -> Task:
    shown = [Pair([[1, 2, 3]], [[3, 2, 1]]), Pair([[4, 5, 6]], [[6, 5, 4]]), Pair([[1, 1, 2]], [[2, 1, 1]])]
    return Task(task_id, tuple(shown), (Pair([[7, 8, 9]], answer), Pair([[0, 8, 9]], answer)))


TASKS = [task_with(None), task_with(None, "second")]


def some_drafts(tasks, views=2) -> dict:
    """Every test input itself, as the answer in so many views."""
    return {
        (task.id, i): [Candidate(pair.input, view.name, -1.0) for view in DIHEDRAL[:views]]
        for task in tasks
        for i, pair in enumerate(task.test)
    }


def test_a_language_model_drafts_in_context_or_in_single_pairs():
    lm = tiny_lm()
    first, last = make_drafters(lm, TASKS, steps=2, seed=0, compile=False, engine=False, autocast=False)
    assert lm.task_tokens is None and first.task_tokens.names == last.task_tokens.names == ("poison", "second")
    assert make_drafters(tiny_lm("llama"), TASKS, steps=2)[0].task_tokens is None
    for writer in (lm, last):
        drafts = write_drafts(writer, TASKS, views=3)
        assert list(drafts) == [("poison", 0), ("poison", 1), ("second", 0), ("second", 1)]
        named = {draft.view for of in drafts.values() for draft in of}
        assert named <= {view.name for view in DIHEDRAL[:3]}, "what is no grid is left out"


def test_a_draft_is_seen_as_it_was_written():
    [first, turned, *_] = drafted(TASKS[0], some_drafts(TASKS))
    assert np.array_equal(first.draft, [[7, 8, 9]]) and len(first.demonstrations) == 3
    assert np.array_equal(turned.draft, DIHEDRAL[1].grid(first.draft)) and turned.draft.shape == (3, 1)
    assert np.array_equal(turned.draft, turned.input)


def test_trm_learns_to_mend_from_demonstrations_alone():
    held_out = [without_last_demonstration(task) for task in TASKS]
    assert np.array_equal(held_out[0].test[0].input, [[1, 1, 2]]) and len(held_out[0].train) == 2
    assert without_last_demonstration(replace(TASKS[0], train=TASKS[0].train[:1])) is None
    made = [mending_examples([task_with(answer)], some_drafts(held_out)) for answer in ([[9, 8, 7]], None)]
    assert len(made[0]) == 2 * 3 and [e.question.draft is None for e in made[0]] == [False] * 2 + [True] * 4
    for example in made[0]:
        shown = example.question.demonstrations
        assert len(shown) == 2 and not any(np.array_equal(example.question.input, pair.input) for pair in shown)
        assert example.task == 1
        if example.question.draft is not None:
            wide = example.question.input if example.question.input.shape[0] == 1 else example.question.input.T
            assert np.array_equal(np.sort(wide), np.sort(example.answer.reshape(1, -1)))
    asked = [[(e.question.input.tobytes(), e.answer.tobytes()) for e in examples] for examples in made]
    assert asked[0] == asked[1], "test answers make no difference"


def test_poisoned_labels_change_no_attempt(make):
    said = []
    for answer in ([[9, 8, 7]], None):
        tasks = [task_with(answer), task_with(answer, "second")]
        model = make(trm={"mends": True})
        shown = some_drafts([without_last_demonstration(task) for task in tasks])
        JointTrainer(model, mending_examples(tasks, shown), JointConfig(steps=3, batch_size=4, feedback_every=1)).run()
        found = mend(model, tasks, some_drafts(tasks), attempts=2)
        said.append([[a.q for answer in of for a in answer.attempts] for of in found.values()])
    assert said[0] == said[1] and len(said[0]) == 4 and all(len(q) == 4 for q in said[0])


def test_a_draft_counts_one_and_an_answer_as_much_as_it_is_sure():
    def answer(grid, *sure, dropped=""):
        tries = [Attempt(n, grid, q, 0.0, 1, dropped=dropped) for n, q in enumerate(sure, start=1)]
        return Answer("t", 0, "v", tuple(tries))

    drafts = [Candidate(A, "v", -1.0), Candidate(A, "w", -1.0), Candidate(B, "x", -1.0)]
    order = lambda ranked: [int(grid[0, 0]) for grid in ranked]  # noqa: E731
    assert order(merged(drafts, [])) == [1, 2]
    assert order(merged(drafts, [answer(B, 0.2, 0.9), answer(B, 0.4), answer(C, 0.1)])) == [2, 1, 3]
    assert order(merged(drafts, [answer(B, 0.2, 0.9), answer(B, 0.4)], k=1)) == [1, 2]
    assert order(merged(drafts, [answer(B, 0.9, dropped="x"), answer(B, 0.9, dropped="x")])) == [1, 2]
    assert order(merged([], [answer(C, 0.3)])) == [3] and merged([], []) == []


def test_memory_that_runs_out_costs_attempts_not_answers(make, monkeypatch):
    model, lines = make(trm={"mends": True}), []
    plain = model.next_states

    def small(questions, *rest):
        if len(questions) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(questions, *rest)

    monkeypatch.setattr(model, "next_states", small)
    found = mend(model, TASKS, some_drafts(TASKS), attempts=2, batch_size=8, log=lines.append)
    assert lines == ["out of memory: 4 questions at once, 2 attempts", "out of memory: 2 questions at once, 2 attempts"]
    assert all(len(answers) == 2 for answers in found.values())
    monkeypatch.setattr(model, "next_states", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert all(
        len(a.attempts) == 1 for of in mend(model, TASKS, some_drafts(TASKS), attempts=2, log=str).values() for a in of
    )


def test_what_does_not_fit_the_canvas_is_said(make):
    lines, wide = [], replace(TASKS[0], test=(Pair([[1, 2, 3, 4]]),))
    found = mend(make(trm={"mends": True}), [wide], some_drafts([wide]), log=lines.append)
    assert lines == ["poison: not mended, it does not fit a canvas of 3 × 3 or 1024 tokens"]
    assert found == {("poison", 0): []} and canvas_side([wide]) == 4
    short = make(lm=replace(tiny_lm(), max_len=40), trm={"mends": True})
    assert mend(short, TASKS, some_drafts(TASKS), log=lines.append)["second", 0] == [] and len(lines) == 3


def test_shuffled_drafts_are_anothers():
    tasks = [TASKS[0], replace(TASKS[1], test=(Pair([[1, 1, 1]]), Pair([[2, 2, 2]])))]
    drafts = some_drafts(tasks)
    swapped = shuffled(drafts)
    assert [d.view for d in swapped["poison", 0]] == [d.view for d in drafts["poison", 0]]
    assert np.array_equal(swapped["poison", 0][0].grid, [[1, 1, 1]])


def test_ranked_grids_become_a_submission(tmp_path):
    writer = SubmissionWriter(tmp_path / "submission.json", num_tests_of(TASKS))
    assert write_ranked(writer, {("poison", 0): [A, B, C], ("second", 1): [C], ("second", 0): []}, TASKS) == 2
    written = writer.read()
    assert written["poison"][0] == {"attempt_1": [[1, 0]], "attempt_2": [[2, 0]]}
    assert written["poison"][1] == written["second"][0] == {"attempt_1": [[0]], "attempt_2": [[0]]}
    assert written["second"][1] == {"attempt_1": [[3, 0]], "attempt_2": [[3, 0]]}


@pytest.mark.parametrize("kind", ["id", "blank"])
def test_a_trm_that_reads_nothing_makes_one_attempt(make, kind):
    model = make(conditioning=kind, trm={"conditioned_rows": 3})
    found = mend(model, TASKS, some_drafts(TASKS), attempts=16)
    assert all(len(answer.attempts) == 1 for of in found.values() for answer in of)
    assert Transform.from_name(found["poison", 0][1].view) == DIHEDRAL[1]

"""The loop without labels: what it may see, what it survives, what it chooses."""

import inspect
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from arc_helpers.arc import Pair, Task, Transform, choose_views
from arc_helpers.hybrid.ablation import solved
from arc_helpers.hybrid.attempts import check_demonstrations, ranked, run_attempts, settled, solve
from arc_helpers.hybrid.feedback import Attempt
from arc_helpers.hybrid.model import HybridError
from arc_helpers.hybrid.questions import Question, examples_of, leave_one_out, questions_of
from arc_helpers.hybrid.tiny import tiny_examples
from arc_helpers.runs import Deadline

QUESTIONS = [example.question for example in tiny_examples(5)]


def as_text(answers) -> str:
    """Everything in them, byte for byte."""
    return json.dumps(answers, default=lambda x: x.tolist() if isinstance(x, np.ndarray) else vars(x))


def task_with(answer) -> Task:
    shown = [Pair([[1, 2, 3]], [[3, 2, 1]]), Pair([[4, 5, 6]], [[6, 5, 4]])]
    return Task("poison", tuple(shown), (Pair([[7, 8, 9]], answer),))


@pytest.mark.parametrize("kind", ["gridlm", "llama"])
def test_poisoned_labels_change_no_byte(make, kind):
    model, said = make(kind), []
    for answer in ([[9, 8, 7]], [[0, 0], [0, 0]], None):
        asked = questions_of(task_with(answer))
        said.append(as_text(solve(model, asked, attempts=3, views=2, demonstrations=True, stop=False)))
    assert said[0] == said[1] == said[2] and '"grid": [[' in said[0]


def test_no_argument_and_no_field_could_carry_an_answer():
    # a draft is what a language model has written
    assert {field.name for field in fields(Question)} == {"task_id", "index", "demonstrations", "input", "draft"}
    allowed = {"model", "questions", "attempts", "views", "demonstrations", "stop", "told", "batch_size", "seed", "log"}
    allowed |= {"deadline"}
    assert set(inspect.signature(solve).parameters) == allowed


def test_held_out_demonstrations_are_not_in_their_own_prompt():
    [question] = questions_of(task_with(None))
    for example, held_out in zip(leave_one_out(question), question.demonstrations, strict=True):
        assert held_out not in example.question.demonstrations and len(example.question.demonstrations) == 1
        assert np.array_equal(example.answer, held_out.output)
    assert not list(leave_one_out(replace(question, demonstrations=question.demonstrations[:1])))
    [example] = examples_of(task_with([[9, 8, 7]]), row=3)
    assert example.task == 3 and np.array_equal(example.answer, [[9, 8, 7]])


@pytest.mark.parametrize("kind", ["gridlm", "llama"])
def test_feedback_on_demonstrations_is_told(make, kind):
    model = make(kind)
    notes, share = check_demonstrations(model, QUESTIONS[1])
    words = [part for part in notes if isinstance(part, str)]
    assert len(words) == 2 and words[0].startswith("Demonstration 1, held out: ") and share in (0, 0.5, 1)
    assert check_demonstrations(model, QUESTIONS[0]) == ([], None)  # it has one
    with_notes, without = (
        solve(model, QUESTIONS[1:2], attempts=2, demonstrations=d, stop=False)[0] for d in (True, False)
    )
    assert with_notes.consistency == share and without.consistency is None
    assert with_notes.attempts[1].residual != without.attempts[1].residual


def test_attempts_follow_from_the_ones_before(make):
    model = make()
    [first] = solve(model, QUESTIONS[:1], attempts=1)
    [four] = solve(model, QUESTIONS[:1], attempts=4, stop=False)
    assert [a.number for a in four.attempts] == [1, 2, 3, 4]
    assert as_text(first.attempts[0]) == as_text(four.attempts[0])
    assert len({a.q for a in four.attempts[:2]}) == 2, "the second attempt hears of the first"


@pytest.mark.parametrize("kind", ["gridlm", "llama"])
def test_what_an_attempt_changed_is_heard_with_words_and_without(make, kind):
    """A model without words reads the marks; muted, neither is there."""
    model = make(kind, trm={"mends": True})
    asked = [replace(question, draft=question.input) for question in QUESTIONS[:2]]
    [told, muted] = (run_attempts(model, asked, 2, stop=False, told=told) for told in (True, False))
    for one, other, question in zip(told, muted, asked, strict=True):
        assert one[0].q == other[0].q and one[1].q != other[1].q, "the first attempt has nothing to hear of"
        assert one[0].before is question.draft and other[0].before is None
        assert np.array_equal(one[1].before, one[0].grid), "each attempt is the draft of the next"


def test_a_draft_is_seen_where_the_trm_mends(make):
    for mends in (True, False):
        model = make(trm={"mends": mends})
        plain, drafted = (
            run_attempts(model, [replace(QUESTIONS[0], draft=d)], 1)[0][0] for d in (None, np.eye(3, dtype=int))
        )
        assert (plain.q != drafted.q) == mends


def test_a_batch_answers_as_one_by_one(make):
    model = make()
    together = solve(model, QUESTIONS, attempts=2, views=2, stop=False)
    apart = [a for q in QUESTIONS for a in solve(model, [q], attempts=2, views=2, stop=False)]
    for one, other in zip(together, apart, strict=True):
        assert (one.task_id, one.view) == (other.task_id, other.view)
        for a, b in zip(one.attempts, other.attempts, strict=True):
            assert (a.grid is None and b.grid is None) or np.array_equal(a.grid, b.grid)
            assert a.q == pytest.approx(b.q, abs=1e-5)


def test_an_attempt_that_is_not_finite_is_dropped_and_the_loop_goes_on(make, monkeypatch):
    model, lines = make(), []
    model.eval()
    plain = model.to_text.forward
    calls = []

    def broken(z_H):
        calls.append(len(z_H))
        soft = plain(z_H)
        if len(calls) == 1:
            soft[1] = torch.nan
        return soft

    monkeypatch.setattr(model.to_text, "forward", broken)
    histories = run_attempts(model, QUESTIONS[:3], attempts=3, stop=False, log=lines.append)
    assert lines == ["tiny1: attempt 2 dropped: TRM's state is not finite"]
    assert [a.dropped != "" for a in histories[1]] == [False, True, False]
    assert all(not a.dropped for i in (0, 2) for a in histories[i])
    assert len(ranked(histories[1])) <= 2


def test_a_loop_ends_where_nothing_changes_and_the_head_is_sure(make):
    model = make()
    with torch.no_grad():
        model.trm.halt_head.weight.zero_()
        model.trm.halt_head.bias.fill_(9.0)  # always sure
        model.trm.head.weight.zero_()
    assert {len(a.attempts) for a in solve(model, QUESTIONS, attempts=9)} == {2}
    assert {len(a.attempts) for a in solve(model, QUESTIONS, attempts=4, stop=False)} == {4}
    with torch.no_grad():
        model.trm.halt_head.bias.fill_(-9.0)  # never sure
    assert {len(a.attempts) for a in solve(model, QUESTIONS, attempts=4)} == {4}


def test_settled_ignores_dropped_attempts():
    grid = np.array([[1]])
    sure, unsure = Attempt(1, grid, 0.9, 0, 1), Attempt(2, grid, 0.4, 0, 1)
    gone = Attempt(2, None, 0.0, 0, 1, dropped="why")
    assert settled([unsure, sure]) and settled([sure, gone, sure])
    assert not settled([sure, unsure]) and not settled([sure]) and not settled([sure, gone])


def test_ranking():
    a, b = np.array([[1]]), np.array([[2]])
    tried = [Attempt(1, a, 0.9, 0, 1), Attempt(2, b, 0.5, 0, 1), Attempt(3, b, 0.6, 0, 1), Attempt(4, a, 0.1, 0, 1)]
    best = {rule: int(ranked(tried, rule)[0][0, 0]) for rule in ("last", "q", "votes")}
    assert best == {"last": 1, "q": 1, "votes": 2}, "two votes each: the higher mean q"
    assert len(ranked(tried)) == 2 and ranked([Attempt(1, None, 0.9, 0, 1)]) == []
    with pytest.raises(ValueError, match="rule = 'best': must be one of last, q, votes"):
        ranked(tried, "best")


def test_views_are_undone(make):
    views = choose_views(QUESTIONS[1].task_id, 9, demonstrations=len(QUESTIONS[1].demonstrations))
    turned = QUESTIONS[2].seen(Transform(1, True, order=(2, 0, 1)))
    assert turned.demonstrations[0].input.shape == (3, 3) and len(turned.demonstrations) == 3
    back = views[5].inverse
    seen = QUESTIONS[1].seen(views[5])
    assert np.array_equal(back.grid(seen.input), QUESTIONS[1].input)
    [_, answer] = solve(make(), QUESTIONS[1:2], attempts=1, views=2)
    [again] = run_attempts(make(), [QUESTIONS[1].seen(Transform.from_name(answer.view))], 1)
    expected = Transform.from_name(answer.view).inverse.grid(again[0].grid)
    assert np.array_equal(answer.attempts[0].grid, expected)


def test_memory_that_runs_out_costs_questions_at_once_then_attempts(make, monkeypatch):
    model, lines = make(), []
    plain = model.think

    def small(batch, states):
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(batch, states)

    monkeypatch.setattr(model, "think", small)
    again = solve(model, QUESTIONS, attempts=2, stop=False, batch_size=8, log=lines.append)
    assert [a.task_id for a in again] == [q.task_id for q in QUESTIONS] and all(len(a.attempts) == 2 for a in again)
    assert lines == [f"out of memory: {n} questions at once, 2 attempts" for n in (4, 2)]
    monkeypatch.setattr(model, "next_states", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert all(len(answer.attempts) == 1 for answer in solve(model, QUESTIONS, attempts=3, stop=False, log=str))
    monkeypatch.setattr(model, "think", lambda *_: (_ for _ in ()).throw(ValueError("another fault")))
    with pytest.raises(ValueError, match="another fault"):
        solve(model, QUESTIONS)


@pytest.mark.parametrize("name", ["attempts", "views", "batch_size"])
def test_none_is_refused(make, name):
    shown = {"attempts": "max_attempts"}.get(name, name)
    with pytest.raises(HybridError, match=f"{shown} = 0: must be >= 1"):
        solve(make(), QUESTIONS, **{name: 0})


def test_after_the_deadline_questions_have_no_attempts_and_none_is_right(make):
    model = make("gridlm")
    examples = tiny_examples(6)
    asked, ticks = [example.question for example in examples], iter(range(100))  # the clock: a second a look
    answers = solve(model, asked, attempts=2, stop=False, batch_size=2, deadline=Deadline(4, lambda: next(ticks)))
    assert len(answers) == 6
    assert [len(answer.attempts) for answer in answers] == [2, 2, 1, 1, 0, 0]
    assert not solved(model, examples, deadline=Deadline(0)).any()

"""Answers without labels: the loop of attempts, what stops it, and what chooses among them.

No argument and no field here could carry the answer to a test input. What the loop goes by is the halting head, whether
the answer and z_H still change, how often it is given, and, where asked for, how well the demonstrations are answered
when each is held out in turn: their outputs are shown to every solver.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from arc_helpers.arc import Pair, Transform, choose_views, most_voted, same_grids
from arc_helpers.hybrid.feedback import Attempt, demonstration_parts, grid_to_feedback, tokens_to_grid
from arc_helpers.hybrid.model import HybridError, HybridModel, Thought
from arc_helpers.hybrid.questions import Question, as_batch, leave_one_out
from arc_helpers.lm.memory import is_out_of_memory
from arc_helpers.runs import Deadline

Q = TypeVar("Q")
R = TypeVar("R")
RULES = ("last", "q", "votes")


@dataclass(frozen=True, eq=False)
class Answer:
    """All attempts at a question in one view, their grids turned back to the task's own orientation and colours.

    consistency: share of the demonstrations that were answered right, each held out in turn; None = not looked at.
    """

    task_id: str
    index: int
    view: str
    attempts: tuple[Attempt, ...]
    consistency: float | None = None


def solve(
    model: HybridModel,
    questions: Sequence[Question],
    *,
    attempts: int | None = None,
    views: int = 1,
    demonstrations: bool = False,
    stop: bool = True,
    told: bool = True,
    batch_size: int = 32,
    seed: int = 0,
    log: Callable[[str], None] = print,
    deadline: Deadline | None = None,
) -> list[Answer]:
    """Answer questions in several views, each with up to `attempts` attempts (None: the model's max_attempts).

    demonstrations: hold out each demonstration first, and tell the language model what became of it. stop: end a row's
    loop where its answer repeats itself and the halting head says "right". told: tell the language model what each
    attempt changed; the control is muted. An attempt that is not finite is dropped, the loop goes on, and `log` gets a
    line; memory that runs out costs attempts (`within_memory`). deadline: looked at before every attempt; a question
    that comes after it has none. Raises HybridError where attempts or views are < 1.
    """
    attempts = model.config.max_attempts if attempts is None else attempts
    for name, value in (("max_attempts", attempts), ("views", views), ("batch_size", batch_size)):
        if value < 1:
            raise HybridError(f"{name} = {value}: must be >= 1")
    was_training = model.training
    model.eval()
    asked = [
        (question, view)
        for question in questions
        for view in choose_views(question.task_id, views, seed, demonstrations=len(question.demonstrations))
    ]

    def make(part: Sequence[tuple[Question, Transform]], attempts: int) -> list[Answer]:
        if deadline and deadline.passed:
            return [turned_back(question, view, ()) for question, view in part]
        seen = [question.seen(view) for question, view in part]
        notes, shares = zip(
            *(check_demonstrations(model, q) if demonstrations else ((), None) for q in seen), strict=True
        )
        histories = run_attempts(model, seen, attempts, notes, stop, told, log, deadline)
        return [turned_back(*one, *made) for one, *made in zip(part, histories, shares, strict=True)]

    found = within_memory(asked, batch_size, attempts, make, log)
    model.train(was_training)
    return found


def turned_back(
    question: Question, view: Transform, history: Sequence[Attempt], consistency: float | None = None
) -> Answer:
    """Attempts in a view as an answer in the task's own orientation and colours."""
    back = tuple(replace(a, grid=None if a.grid is None else view.inverse.grid(a.grid)) for a in history)
    return Answer(question.task_id, question.index, view.name, back, consistency)


def within_memory(
    asked: Sequence[Q],
    size: int,
    attempts: int,
    make: Callable[[Sequence[Q], int], list[R]],
    log: Callable[[str], None] = print,
) -> list[R]:
    """make(part, attempts) of all that is asked, `size` at once.

    Where memory runs out, half as many are asked at once from then on, and one alone makes half as many attempts;
    `log` gets a line.
    """
    found: list[R] = []
    while len(found) < len(asked):
        try:
            found += make(asked[len(found) :][:size], attempts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or (size == 1 and attempts == 1):
                raise
            size, attempts = (size // 2, attempts) if size > 1 else (1, attempts // 2)
            log(f"out of memory: {size} questions at once, {attempts} attempts")
    return found


@torch.no_grad()
def run_attempts(
    model: HybridModel,
    questions: Sequence[Question],
    attempts: int,
    notes: Sequence[Sequence[Pair | str]] = (),
    stop: bool = True,
    told: bool = True,
    log: Callable[[str], None] = print,
    deadline: Deadline | None = None,
) -> list[list[Attempt]]:
    """The attempts at each question of a batch, dropped ones included; after the deadline no further ones.

    Each attempt is the draft of the next.
    """
    notes, questions = notes or [()] * len(questions), list(questions)
    made: list[list[Attempt]] = [[] for _ in questions]
    active, states, latents = list(range(len(questions))), model.first_states(questions), {}
    for number in range(1, attempts + 1):
        batch = as_batch([questions[i] for i in active], model.config.canvas_side).to(model.trm.device)
        thought = model.think(batch, states)
        for row, i in enumerate(active):
            attempt = _attempt(number, thought, row, model.config.canvas_side)
            made[i].append(replace(attempt, before=questions[i].draft if told else None))
            if attempt.dropped:
                log(f"{questions[i].task_id}: attempt {number} dropped: {attempt.dropped}")
            else:
                latents[i] = thought.latents[row]
                questions[i] = replace(questions[i], draft=attempt.grid)
        active = [i for i in active if not (stop and settled(made[i]))]
        if not active or number == attempts or (deadline and deadline.passed):
            break
        zeros = torch.zeros_like(thought.latents[0])
        thoughts = torch.stack([latents.get(i, zeros) for i in active])
        good = [[a for a in made[i] if not a.dropped] for i in active]
        states = model.next_states([questions[i] for i in active], good, thoughts, [notes[i] for i in active])
    return made


def settled(history: Sequence[Attempt]) -> bool:
    """Whether the last two attempts agree and the halting head thinks that they are right."""
    good = [attempt for attempt in history if not attempt.dropped]
    if len(good) < 2 or good[-1].q <= 0.5:
        return False
    one, other = (attempt.grid for attempt in good[-2:])
    return one is other if one is None or other is None else np.array_equal(one, other)


def check_demonstrations(model: HybridModel, question: Question) -> tuple[list[Pair | str], float | None]:
    """(feedback on each demonstration, held out from the prompt in turn; share that was right). ([], None) for one."""
    held_out = list(leave_one_out(question))
    if not held_out:
        return [], None
    asked = [example.question for example in held_out]
    batch = as_batch(asked, model.config.canvas_side).to(model.trm.device)
    thought, right = model.think(batch, model.first_states(asked)), 0
    parts: list[Pair | str] = []
    for row, demonstration in enumerate(question.demonstrations):
        grid = tokens_to_grid(thought.tokens[row].cpu(), width=model.config.canvas_side)
        right += grid_to_feedback(grid, demonstration) == "Right."
        parts += demonstration_parts(row + 1, grid, demonstration)
    return parts, right / len(held_out)


def ranked(attempts: Sequence[Attempt], rule: str = "votes") -> list[np.ndarray]:
    """Distinct grids, best first. rule: "last" first, highest "q" first, or most "votes" first, ties by mean q.

    Raises ValueError on another rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule = {rule!r}: must be one of {', '.join(RULES)}")
    good = [attempt for attempt in attempts if not attempt.dropped]
    if rule == "votes":
        groups = most_voted(good, lambda attempt: attempt.q)
    else:
        groups = same_grids(good[::-1] if rule == "last" else sorted(good, key=lambda attempt: -attempt.q))
    return [grid for grid, _ in groups]


def _attempt(number: int, thought: Thought, row: int, width: int) -> Attempt:
    q, residual, segments = (float(x[row]) for x in (thought.q, thought.residual, thought.segments))
    if not (np.isfinite(q) and bool(thought.latents[row].isfinite().all())):
        return Attempt(number, None, 0.0, 0.0, int(segments), dropped="TRM's state is not finite")
    grid = tokens_to_grid(thought.tokens[row].cpu(), width=width)
    return Attempt(number, grid, q, residual, int(segments))

"""ARC tasks with a drafter and a TRM that mends: from tasks to two attempts. No label of a test pair is read here."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from arc_helpers.arc import Task, Transform, most_voted, same_grids
from arc_helpers.hybrid.attempts import Answer, run_attempts, turned_back, within_memory
from arc_helpers.hybrid.drafts import Drafts, drafted, without_last_demonstration
from arc_helpers.hybrid.feedback import Attempt, encode_problem, tokens_to_grid
from arc_helpers.hybrid.model import HybridModel
from arc_helpers.hybrid.questions import Question, as_batch
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import TaskTooLong
from arc_helpers.runs import NO_DEADLINE, Deadline
from arc_helpers.ttt import Candidate, adapt_jointly, joint_config

Answers = dict[tuple[str, int], list[Answer]]


def make_drafters(
    lm: LoadedLM,
    tasks: Sequence[Task],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
    **changes: Any,
) -> tuple[LoadedLM, LoadedLM]:
    """Who drafts the held-out demonstrations, and who drafts the test inputs.

    A GridLM learns the tasks' demonstrations jointly, twice for `steps` or `seconds`: once without the last one of each
    task, so that its drafts of those are as wrong as drafts of test inputs. Another language model drafts in context,
    as it is. changes: fields of the training's settings.
    """
    if not isinstance(lm.model, GridLMForCausalLM) or not (steps or seconds):
        return lm, lm
    config = joint_config(lm.device.type, steps, seconds, seed=seed, **changes)
    held_out = [without_last_demonstration(task) or task for task in tasks]
    return tuple(adapt_jointly(lm, some, config, clock=clock) for some in (held_out, tasks))  # type: ignore[return-value]


def fits(model: HybridModel, question: Question) -> bool:
    """Whether a question goes on the canvas, and an attempt at it into the context of what reads."""
    if max(question.input.shape) > model.config.canvas_side:
        return False
    if model.config.conditioning != "text":
        return True
    side = model.config.canvas_side
    longest = np.zeros((side, side), dtype=np.int8)
    tried = Attempt(1, longest, 0.0, 0.0, 1, before=longest)
    try:
        encode_problem(model.lm, question, [tried], show_question=True, room=model.config.soft_tokens)
    except TaskTooLong:
        return False
    return True


def canvas_side(tasks: Sequence[Task]) -> int:
    """The side of the smallest square canvas that holds all grids these tasks show."""
    return max(task.max_side for task in tasks)


def mend(
    model: HybridModel,
    tasks: Sequence[Task],
    drafts: Drafts,
    *,
    attempts: int = 1,
    told: bool = True,
    batch_size: int = 32,
    log: Callable[[str], None] = print,
    deadline: Deadline = NO_DEADLINE,
) -> Answers:
    """TRM's attempts at every test input in every view that it was drafted in, grids turned back.

    Each attempt is made from the one before, the first from the draft. told: the language model hears what each
    changed. Memory that runs out costs attempts (`within_memory`). A question that does not fit (`fits`) is not
    answered, and told; what comes after the deadline is not, either.
    """
    rows = {task.id: row for row, task in enumerate(tasks, start=1)}
    asked = [question for task in tasks for question in drafted(task, drafts)]
    views = [Transform.from_name(d.view) for t in tasks for i in range(len(t.test)) for d in drafts[t.id, i]]
    found: Answers = {(task.id, i): [] for task in tasks for i in range(len(task.test))}
    waiting = [(q, view) for q, view in zip(asked, views, strict=True) if fits(model, q)]
    kept, side = {question.task_id for question, _ in waiting}, model.config.canvas_side
    for task_id in dict.fromkeys(question.task_id for question in asked if question.task_id not in kept):
        log(f"{task_id}: not mended, it does not fit a canvas of {side} × {side} or {model.lm.max_len} tokens")

    def make(part: Sequence[tuple[Question, Transform]], attempts: int) -> list[Answer]:
        questions = [question for question, _ in part]
        if deadline.passed:
            histories: list[list[Attempt]] = [[] for _ in part]
        elif model.config.conditioning == "text":
            histories = run_attempts(model, questions, attempts, stop=False, told=told, log=log, deadline=deadline)
        else:
            histories = [[attempt] for attempt in _one_attempt(model, questions, rows)]
        return [turned_back(*one, history) for one, history in zip(part, histories, strict=True)]

    for answer in within_memory(waiting, batch_size, attempts, make, log):
        if answer.attempts:
            found[answer.task_id, answer.index].append(answer)
    return found


def _one_attempt(model: HybridModel, questions: Sequence, rows: Mapping[str, int]) -> list[Attempt]:
    """Of a TRM that reads nothing."""
    tasks = [rows[q.task_id] for q in questions] if model.config.conditioning == "id" else ()
    thought = model.think(as_batch(questions, model.config.canvas_side, tasks).to(model.trm.device), None)
    return [
        Attempt(1, tokens_to_grid(tokens, width=model.config.canvas_side), float(q), float(rest), int(count))
        for tokens, q, rest, count in zip(
            thought.tokens.cpu(), thought.q, thought.residual, thought.segments, strict=True
        )
    ]


def merged(drafts: Sequence[Candidate], answers: Sequence[Answer], k: int | None = None) -> list[np.ndarray]:
    """Distinct grids of one test input, best first: a draft counts one, an answer of TRM as much as it is sure.

    k: the attempts that count; of each view the last one of them. Ties stay in the order of the drafts' votes.
    """
    given: list[Candidate | Attempt] = [draft for _, of in most_voted(drafts, lambda d: d.logprob) for draft in of]
    for answer in answers:
        given += [a for a in answer.attempts[:k] if a.grid is not None and not a.dropped][-1:]

    def worth(group: tuple[np.ndarray, list[Candidate | Attempt]]) -> float:
        return sum(one.q if isinstance(one, Attempt) else 1.0 for one in group[1])

    return [grid for grid, _ in sorted(same_grids(given), key=worth, reverse=True)]


def answered_alone(answers: Sequence[Answer]) -> list[np.ndarray]:
    """The same where nothing is drafted: the answers by how sure TRM is of each, summed over views."""
    return merged([], answers)


def shuffled(drafts: Drafts) -> dict[tuple[str, int], list]:
    """A control: every question with the drafts of another one, in its own views."""
    keys = [key for key in drafts if drafts[key]]
    others = dict(zip(keys, keys[len(keys) // 2 :] + keys[: len(keys) // 2], strict=True))
    return {key: [replace(own, grid=other.grid) for own, other in _in_turn(drafts, key, others)] for key in drafts}


def _in_turn(drafts: Drafts, key: tuple[str, int], others: Mapping) -> Iterator[tuple[Candidate, Candidate]]:
    return zip(drafts[key], itertools.cycle(drafts[others[key]] if key in others else ()))

"""A problem and what was tried so far, as text for people and as ids for a language model: the same parts for both.

What is told of an attempt is what can be known without the answer, in training as when asked: what it changed in the
draft or the attempt before. It is told in words, and as a grid that marks the cells, which a model without words reads,
too. What was *wrong* is told of demonstrations alone, each held out from the prompt.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arc_helpers.arc import Pair, compare_grids, grid_to_string
from arc_helpers.hybrid.questions import Question
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import TaskTooLong
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.trm import read

MAX_CELLS = 5  # that are named in words
MARK = 2  # the colour of a marked cell; the others are 0


@dataclass(frozen=True, eq=False)
class Attempt:
    """One try at a question. Nothing in it comes from the question's answer.

    grid: int8 [H, W], or None where none was drawn. q: probability that it is right, by TRM's halting head.
    residual: how much z_H still moved in the last segment, relative to its size; 0 is a fixed point.
    segments: TRM segments it took. before: the draft or the attempt that it was made from, where that is told.
    dropped: why it counts for nothing; "" where it does.
    """

    number: int  # from 1
    grid: np.ndarray | None
    q: float
    residual: float
    segments: int
    before: np.ndarray | None = None
    dropped: str = ""


def tokens_to_grid(tokens, *, width: int | None = None, prompt_form: PromptForm | None = None) -> np.ndarray | None:
    """The grid int8 [H, W] that tokens spell, or None: an output that is no grid is an ordinary event.

    width: they are a canvas of TRM, so many cells a row. prompt_form: they are ids of a language model.
    ValueError unless exactly one is given.
    """
    if (width is None) == (prompt_form is None):
        raise ValueError("tokens_to_grid: give either width (a canvas) or prompt_form (ids of a language model)")
    return read(np.asarray(tokens), width) if prompt_form is None else prompt_form.answer_grid(tokens)


def grid_to_feedback(grid: np.ndarray | None, demonstration: Pair, max_errors: int = MAX_CELLS) -> str:
    """What is wrong with an attempt at a *demonstration*, in a line; at most `max_errors` cells are named.

    Rows and columns count from 1. ValueError where the pair has no output: a test input has no such feedback.
    """
    if demonstration.output is None:
        raise ValueError("grid_to_feedback: the pair has no output; there is feedback on demonstrations only")
    truth = demonstration.output
    if grid is None:
        return f"No grid; {_size(truth)} expected."
    diff = compare_grids(grid, truth)
    if diff.correct:
        return "Right."
    if not diff.same_shape:
        return f"The size is {_size(grid)}, should be {_size(truth)}."
    return _listed(truth, diff.wrong, "wrong", lambda y, x: f"is {grid[y, x]}, should be {truth[y, x]}", max_errors)


def change_to_feedback(before: np.ndarray, after: np.ndarray | None) -> str:
    """What an attempt changed in what it was made from, in a line: known without any answer."""
    if after is None:
        return "No grid."
    if before.shape != after.shape:
        return f"The size was {_size(before)}, is {_size(after)}."
    changed = before != after
    if not changed.any():
        return "Nothing changed."
    return _listed(after, changed, "changed", lambda y, x: f"was {before[y, x]}, is {after[y, x]}", MAX_CELLS)


def marked(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """int8 [H, W]: MARK where two grids of a size differ, 0 elsewhere; None where they are not of a size."""
    if one is None or other is None or one.shape != other.shape:
        return None
    return np.where(one != other, MARK, 0).astype(np.int8)


def attempt_parts(question: Question, attempt: Attempt) -> list[Pair | str]:
    """What is known of an attempt: its grid, the cells it changed as a grid, and the same in words."""
    drew = "" if attempt.grid is not None else " drew no grid,"
    said = f"Attempt {attempt.number}{drew} confidence {attempt.q:.2f}, still moving {attempt.residual:.2f}."
    if attempt.before is not None:
        said += " " + change_to_feedback(attempt.before, attempt.grid)
    return [*_grids(question.input, attempt.grid, attempt.before), said + "\n"]


def demonstration_parts(number: int, grid: np.ndarray | None, demonstration: Pair) -> list[Pair | str]:
    """What an attempt at a held-out demonstration got wrong: its grid, the wrong cells as a grid, and words."""
    said = f"Demonstration {number}, held out: {grid_to_feedback(grid, demonstration)}\n"
    return [*_grids(demonstration.input, grid, demonstration.output), said]


def problem_parts(
    question: Question,
    history: Sequence[Attempt] = (),
    notes: Sequence[Pair | str] = (),
    show_question: bool = True,
) -> list[Pair | str]:
    """The demonstrations, what is known of them (`notes`), the earlier attempts, and the question, in this order."""
    parts: list[Pair | str] = [*question.demonstrations, *notes]
    for attempt in history:
        parts += attempt_parts(question, attempt)
    if show_question:
        parts.append(Pair(question.input))
    return parts


def format_problem_text(
    question: Question,
    history: Sequence[Attempt] = (),
    notes: Sequence[Pair | str] = (),
    show_question: bool = True,
) -> str:
    """The problem with the history of attempts, as a language model reads it; a grid is I or O and its rows."""

    def text(part: Pair | str) -> str:
        if isinstance(part, str):
            return part
        return f"I{grid_to_string(part.input)}\nO" + ("" if part.output is None else f"{grid_to_string(part.output)}\n")

    return "".join(map(text, problem_parts(question, history, notes, show_question)))


def encode_problem(
    lm: LoadedLM,
    question: Question,
    history: Sequence[Attempt] = (),
    notes: Sequence[Pair | str] = (),
    show_question: bool = True,
    room: int = 0,
) -> np.ndarray:
    """The same problem as ids, int64 [T]; `room` tokens of the context are left for soft tokens.

    Grids are joined ids, one a cell; words go through the tokenizer, or are left out where the model has none for
    them (`has_words`). Notes, then demonstrations, are dropped from the front until it fits; TaskTooLong where none is
    left.
    """
    words = has_words(lm)

    def spelled(parts: Iterable[Pair | str]) -> list[np.ndarray]:
        return [_ids(part, lm) for part in parts if words or not isinstance(part, str)]

    shown, said = spelled(question.demonstrations), spelled(notes)
    rest = spelled(problem_parts(replace(question, demonstrations=()), history, (), show_question))
    prefix = lm.prompt_form.prefix_ids
    while (size := sum(map(len, [prefix, *shown, *said, *rest])) + room) > lm.max_len:
        if not shown and not said:
            raise TaskTooLong(
                f"{question.task_id}: {size} tokens without any demonstration; the context is {lm.max_len}"
            )
        (said or shown).pop(0)
    return np.concatenate([prefix, *shown, *said, *rest]).astype(np.int64)


def has_words(lm: LoadedLM) -> bool:
    """Whether the model can read words. A GridLM, or a trimmed vocabulary, knows the grid alphabet only."""
    probe = lm.tokenizer.encode("row 2 column 3", add_special_tokens=False)
    known = lm.model.get_input_embeddings().num_embeddings
    return max(probe) < known and "row" in lm.tokenizer.decode(probe)


def _ids(part: Pair | str, lm: LoadedLM) -> np.ndarray:
    if isinstance(part, str):
        return np.array(lm.tokenizer.encode(part, add_special_tokens=False), dtype=np.int64)
    form = lm.prompt_form
    answer = [] if part.output is None else [form.output_ids(part.output)]
    return np.concatenate([form.question_ids(part.input), *answer])


def _grids(asked: np.ndarray, grid: np.ndarray | None, other: np.ndarray | None) -> list[Pair]:
    """A question with the answer that was given, and that answer with the cells in which it differs from another."""
    marks = marked(grid, other)
    answered = [] if grid is None else [Pair(asked, grid)]
    return answered if marks is None else [*answered, Pair(grid, marks)]


def _listed(grid: np.ndarray, cells: np.ndarray, kind: str, about: Callable[[int, int], str], most: int) -> str:
    named = [f"row {y + 1} column {x + 1} {about(y, x)}" for y, x in np.argwhere(cells)]
    more = f"; {len(named) - most} more" if len(named) > most else ""
    return f"{len(named)} of {grid.size} cells {kind}: {'; '.join(named[:most])}{more}."


def _size(grid: np.ndarray) -> str:
    return f"{grid.shape[0]}×{grid.shape[1]}"

"""A problem and what was tried so far, as text for people and as ids for a language model: the same parts for both.

What was wrong with an attempt may be said only where the answer may be known: in training, and on a demonstration that
is held out. Of an attempt at a test input the text holds what is known without its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Pair, compare_grids, grid_to_string
from arc_helpers.hybrid.questions import Question
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import TaskTooLong
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.trm import read

MAX_ERRORS = 5


@dataclass(frozen=True, eq=False)
class Attempt:
    """One try at a question. Nothing in it comes from the question's answer, unless `feedback` says so in training.

    grid: int8 [H, W], or None where none was drawn. q: probability that it is right, by TRM's halting head.
    residual: how much z_H still moved in the last segment, relative to its size; 0 is a fixed point.
    segments: TRM segments it took. dropped: why it counts for nothing; "" where it does.
    """

    number: int  # from 1
    grid: np.ndarray | None
    q: float
    residual: float
    segments: int
    feedback: str = ""
    dropped: str = ""


def tokens_to_grid(tokens, *, width: int | None = None, prompt_form: PromptForm | None = None) -> np.ndarray | None:
    """The grid int8 [H, W] that tokens spell, or None: an output that is no grid is an ordinary event.

    width: they are a canvas of TRM, so many cells a row. prompt_form: they are ids of a language model.
    ValueError unless exactly one is given.
    """
    if (width is None) == (prompt_form is None):
        raise ValueError("tokens_to_grid: give either width (a canvas) or prompt_form (ids of a language model)")
    return read(np.asarray(tokens), width) if prompt_form is None else prompt_form.answer_grid(tokens)


def grid_to_feedback(grid: np.ndarray | None, demonstration: Pair, max_errors: int = MAX_ERRORS) -> str:
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
    cells = [f"row {y + 1} column {x + 1} is {grid[y, x]}, should be {truth[y, x]}" for y, x in np.argwhere(diff.wrong)]
    more = f"; {len(cells) - max_errors} more" if len(cells) > max_errors else ""
    return f"{len(cells)} of {truth.size} cells wrong: {'; '.join(cells[:max_errors])}{more}."


def attempt_words(attempt: Attempt) -> str:
    """What is known of an attempt without its answer, and its feedback where there is one."""
    drew = "" if attempt.grid is not None else " drew no grid,"
    said = f"Attempt {attempt.number}{drew} confidence {attempt.q:.2f}, still moving {attempt.residual:.2f}."
    return f"{said} {attempt.feedback}".rstrip() + "\n"


def problem_parts(
    question: Question, history: Sequence[Attempt] = (), notes: str = "", show_question: bool = True
) -> list[Pair | str]:
    """The demonstrations, what is known of them (`notes`), the earlier attempts, and the question, in this order."""
    parts: list[Pair | str] = [*question.demonstrations]
    if notes:
        parts.append(notes.rstrip() + "\n")
    for attempt in history:
        if attempt.grid is not None:
            parts.append(Pair(question.input, attempt.grid))
        parts.append(attempt_words(attempt))
    if show_question:
        parts.append(Pair(question.input))
    return parts


def format_problem_text(
    question: Question, history: Sequence[Attempt] = (), notes: str = "", show_question: bool = True
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
    notes: str = "",
    show_question: bool = True,
    room: int = 0,
) -> np.ndarray:
    """The same problem as ids, int64 [T]; `room` tokens of the context are left for soft tokens.

    Grids are joined ids, one a cell; words go through the tokenizer, or are left out where the model has none for
    them (`has_words`). Demonstrations are dropped from the front until it fits; TaskTooLong where none is left.
    """
    words = has_words(lm)
    parts = problem_parts(question, history, notes, show_question)
    pieces = [_ids(part, lm) for part in parts if words or not isinstance(part, str)]
    prefix = lm.prompt_form.prefix_ids
    size = sum(map(len, [prefix, *pieces])) + room
    dropped = 0
    while size > lm.max_len:
        if dropped >= len(question.demonstrations):
            raise TaskTooLong(
                f"{question.task_id}: {size} tokens without any demonstration; the context is {lm.max_len}"
            )
        size -= len(pieces[dropped])
        dropped += 1
    return np.concatenate([prefix, *pieces[dropped:]]).astype(np.int64)


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


def _size(grid: np.ndarray) -> str:
    return f"{grid.shape[0]}×{grid.shape[1]}"

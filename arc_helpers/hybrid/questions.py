"""What is asked, apart from what is answered: a `Question` has no field in which an answer could travel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from arc_helpers.arc import Pair, Task, Transform
from arc_helpers.trm import Batch, Canvas, place
from arc_helpers.trm.canvas import PAD


@dataclass(frozen=True, eq=False)
class Question:
    """A test input and the demonstrations shown with it. input: int8 [H, W].

    draft: int8 [H, W], what a language model or an earlier attempt has answered, to be mended; or None.
    """

    task_id: str
    index: int
    demonstrations: tuple[Pair, ...]
    input: np.ndarray
    draft: np.ndarray | None = None

    def seen(self, view: Transform) -> "Question":
        """The same question in another orientation, other colours, another order of the demonstrations."""
        order = view.order or range(len(self.demonstrations))
        turned = (view.pair(self.demonstrations[i]) for i in order)
        draft = None if self.draft is None else view.grid(self.draft)
        return Question(self.task_id, self.index, tuple(turned), view.grid(self.input), draft)


@dataclass(frozen=True, eq=False)
class Example:
    """A question whose answer may be known: of a training task, or a demonstration that is held out.

    task: row of TRM's table of task vectors, for the arm that has one; 0 = blank.
    """

    question: Question
    answer: np.ndarray
    task: int = 0


def questions_of(task: Task) -> list[Question]:
    """The test inputs of a task. Its answers, if it holds any, are not looked at."""
    return [Question(task.id, i, task.train, pair.input) for i, pair in enumerate(task.test)]


def examples_of(task: Task, row: int = 0) -> list[Example]:
    """The test pairs of a training task. Raises TaskError where an answer is missing."""
    return [Example(q, answer, row) for q, answer in zip(questions_of(task), task.answers(), strict=True)]


def leave_one_out(question: Question) -> Iterator[Example]:
    """Each demonstration as a question to the others: labels that a solver may see. None where there is just one."""
    shown = question.demonstrations
    if len(shown) > 1:
        for i, held_out in enumerate(shown):
            rest = (*shown[:i], *shown[i + 1 :])
            yield Example(Question(question.task_id, i, rest, held_out.input), held_out.output)


def as_batch(questions: Sequence[Question], side: int, tasks: Sequence[int] = ()) -> Batch:
    """Questions, with their drafts, on square canvases of a side; no labels. CanvasError where one does not fit."""
    canvas = Canvas(side, side * side)
    cells = np.stack([place(question.input, canvas) for question in questions])
    rows = {"task": torch.tensor(tasks), "identifier": torch.tensor(tasks)} if len(tasks) else {}
    drafts = draft_tokens([question.draft for question in questions], side)
    return replace(Batch.of(torch.from_numpy(cells), side, **rows), draft=drafts)


def draft_tokens(drafts: Sequence[np.ndarray | None], side: int) -> torch.Tensor:
    """Drafts as tokens, int64 [B, side²]: PAD for none, and for one that does not fit."""
    canvas = Canvas(side, side * side)
    blank = np.full(canvas.cells, PAD, dtype=np.uint8)
    fit = [blank if draft is None or max(draft.shape) > side else place(draft, canvas) for draft in drafts]
    return torch.from_numpy(np.stack(fit)).long()


def labels_of(examples: Sequence[Example], side: int) -> torch.Tensor:
    """Their answers as tokens, int64 [B, side²]. Raises CanvasError where one does not fit."""
    canvas = Canvas(side, side * side)
    return torch.from_numpy(np.stack([place(example.answer, canvas) for example in examples])).long()

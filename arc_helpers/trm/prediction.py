"""Answers to the queries of a data set: every query in several views, the answer after each segment turned back."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arc_helpers.arc import Transform, as_grid, choose_views
from arc_helpers.lm.memory import is_out_of_memory
from arc_helpers.runs import NO_DEADLINE, Deadline, has_bfloat16
from arc_helpers.runs.checkpoint import atomic_write_text
from arc_helpers.trm.batch import Batch
from arc_helpers.trm.canvas import choose_canvas, place, read
from arc_helpers.trm.conditioner import BLANK
from arc_helpers.trm.data import ArcDataset, DatasetError, Query
from arc_helpers.trm.loss import exactly_right_tokens
from arc_helpers.trm.model import TRM
from arc_helpers.trm.source import symmetry_number


@dataclass(frozen=True, eq=False)
class Prediction:
    """An answer seen in one view after one segment, turned back to the task's own orientation and colours.

    grid: int8 [H, W], or None where the model drew none. q: probability that it is right, by the halting head.
    checkpoint: what made it; predictions of two checkpoints are not counted together unless one asks for it.
    """

    task_id: str
    index: int
    view: str
    segment: int  # from 1
    grid: np.ndarray | None
    q: float
    checkpoint: str = ""


def listed_views(dataset: ArcDataset, task_id: str, n: int) -> list[Transform]:
    """The first n augmentations of a task that identifiers exist for, itself first; all there are, if fewer."""
    return [Transform.from_name(name) for name in dataset.transforms[task_id][:n]]


@torch.no_grad()
def predict(
    model: TRM,
    dataset: ArcDataset,
    *,
    layout: str = "tight",
    views: int = 8,
    segments: int | None = None,
    colors: bool = False,
    blank: bool = False,
    every_segment: bool = False,
    batch_tokens: int = 16384,
    queries: Sequence[Query] | None = None,
    checkpoint: str = "",
    seed: int = 0,
    deadline: Deadline = NO_DEADLINE,
    log: Callable[[str], None] = print,
) -> list[Prediction]:
    """Answer the queries of a data set. No answer is read anywhere: there is none in a data set.

    views, segments: how many (None: the model's halt_max_steps; as published, all of them are run). colors: views
    with new colours, for a model that was trained with them. blank: give no task, the control. every_segment: keep
    what each segment says, not the last alone. deadline: looked at before every batch; what is answered until then
    is given back. Where memory runs out, half as many positions are computed at once from then on, and `log` gets a
    line. On a GPU products are in bfloat16 where it has that. Raises DatasetError for a task that the model has no
    vector for, and for a canvas that is not its own.
    """
    asked = dataset.queries if queries is None else queries
    check_known(model, dataset, [query.task_id for query in asked])
    check_canvas(model, dataset, layout, asked)
    listed = model.config.conditioning == "identifier"
    shown = [
        (
            query,
            listed_views(dataset, query.task_id, views)
            if listed
            else choose_views(query.task_id, views, seed, colors=colors),
        )
        for query in asked
    ]
    was_training, found = model.training, []
    kind = model.device.type
    faster = torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" and has_bfloat16(kind))
    model.eval()
    waiting = deque(_parts(_questions(dataset, shown, layout), model.config.prefix_len, batch_tokens))
    while waiting and not deadline.passed:
        part = waiting.popleft()
        try:
            with faster:
                answers = list(run_segments(model, _batch(part, blank).to(model.device), segments, every_segment))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(part) == 1:
                raise
            batch_tokens = len(part) * (model.config.prefix_len + len(part[0].tokens)) // 2
            log(f"out of memory: {batch_tokens} positions at once")
            left = [question for some in (part, *waiting) for question in some]
            waiting = deque(_parts(left, model.config.prefix_len, batch_tokens))
            continue
        for number, tokens, q in answers:
            for question, row, sure in zip(part, tokens, q, strict=True):
                grid = _back(row, question.width, question.view)
                query, view = question.query, question.view.name
                found.append(Prediction(query.task_id, query.index, view, number, grid, float(sure), checkpoint))
    model.train(was_training)
    return found


@dataclass(frozen=True, eq=False)
class _Question:
    """A query in one view, on its canvas; task and identifier are rows of the conditioning's table."""

    query: Query
    view: Transform
    tokens: np.ndarray  # uint8 [cells]
    width: int
    task: int
    identifier: int


def _questions(dataset: ArcDataset, shown: Sequence[tuple[Query, list[Transform]]], layout: str) -> list[_Question]:
    task = {task_id: number for number, task_id in enumerate(dataset.pairs, start=1)}
    questions = []
    for query, views in shown:
        numbered = dataset.rows_of(query.task_id)
        for number, view in enumerate(views):
            canvas = choose_canvas(layout, dataset.pairs[query.task_id], query.input, view)
            tokens = place(view.grid(query.input), canvas)
            # identifiers of views that are not listed mean nothing; a model with shared vectors does not read them
            rows = task[query.task_id], numbered[number] if number < len(numbered) else BLANK
            questions.append(_Question(query, view, tokens, canvas.width, *rows))
    return questions


def _parts(questions: Sequence[_Question], prefix_len: int, batch_tokens: int) -> Iterator[list[_Question]]:
    """Questions on canvases of one size, as many as `batch_tokens` positions hold."""
    by_size: dict[int, list[_Question]] = {}
    for question in questions:
        by_size.setdefault(len(question.tokens), []).append(question)
    for cells, same in by_size.items():
        size = max(1, batch_tokens // (prefix_len + cells))
        yield from (same[i : i + size] for i in range(0, len(same), size))


@torch.no_grad()
def run_segments(
    model: TRM, batch: Batch, segments: int | None = None, every: bool = True
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(number of the segment, tokens [B, N], halting probability [B]) after each segment, or the last alone."""
    n = segments or model.config.halt_max_steps
    carry = model.start(len(batch), batch.cells.shape[1])
    for number in range(1, n + 1):
        carry, logits, halt = model(carry, batch)
        if every or number == n:
            yield number, logits.argmax(-1).cpu().numpy(), torch.sigmoid(halt.float()).cpu().numpy()


@torch.no_grad()
def solved_after_segments(model: TRM, batch: Batch, segments: int | None = None) -> list[float]:
    """The share of a labelled batch that is exactly right after each segment."""
    right = []
    for _, tokens, _ in run_segments(model, batch, segments):
        right.append(exactly_right_tokens(torch.from_numpy(tokens), batch.labels.cpu()).double().mean().item())
    return right


def check_known(model: TRM, dataset: ArcDataset, task_ids: Sequence[str]) -> None:
    """Raise DatasetError, one line, where the model has no vector for a task, or not as many as the data set needs."""
    unknown = [task_id for task_id in dict.fromkeys(task_ids) if task_id not in dataset.pairs]
    if unknown:
        raise DatasetError(
            f"{', '.join(unknown[:3])}{' …' if len(unknown) > 3 else ''}: unknown to the checkpoint, and TRM cannot "
            "answer a task it has no vector for; build the data set with the task in its test set and train on its "
            "demonstrations (test-time inclusion)"
        )
    shared = model.config.conditioning == "shared"
    needed = 1 + len(dataset.task_ids) if shared else dataset.identifier_rows
    if model.config.conditioned_rows != needed:
        raise DatasetError(
            f"conditioned_rows = {model.config.conditioned_rows}: the data set has {needed} "
            f"{'tasks' if shared else 'identifiers'}, the blank one included; use the data set that it was trained on"
        )


def check_canvas(model: TRM, dataset: ArcDataset, layout: str, queries: Sequence[Query]) -> None:
    """Raise DatasetError, one line, where the mlp mixer's one canvas is not the one that a query gets."""
    for query in queries if model.config.mixer == "mlp" else ():
        cells = choose_canvas(layout, dataset.pairs[query.task_id], query.input).cells
        if cells != model.config.canvas_cells:
            raise DatasetError(
                f"{query.task_id}: its {layout} canvas has {cells} cells, this TRM (mlp mixer) one of "
                f"{model.config.canvas_cells}; use its own layout, or a TRM with attention"
            )


def save_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """One JSON line a prediction: scoring reads this file, in its own step."""
    lines = [
        json.dumps({**vars(p), "grid": None if p.grid is None else p.grid.tolist()}, separators=(",", ":"))
        for p in predictions
    ]
    atomic_write_text(path, "\n".join([*lines, ""]))


def load_predictions(path: Path) -> list[Prediction]:
    """What `save_predictions` wrote. Raises ValueError, naming file and line, where it is not that."""
    found = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            grid = None if record["grid"] is None else as_grid(record["grid"])
            found.append(Prediction(**{**record, "grid": grid}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a prediction ({error})") from None
    return found


def _batch(part: Sequence[_Question], blank: bool) -> Batch:
    def column(values) -> Tensor:
        return torch.tensor(list(values), dtype=torch.int64)

    return Batch.of(
        torch.from_numpy(np.stack([question.tokens for question in part])),
        column(question.width for question in part),
        identifier=column(BLANK if blank else question.identifier for question in part),
        task=column(BLANK if blank else question.task for question in part),
        symmetry=column(symmetry_number(question.view) for question in part),
        colors=torch.tensor([question.view.colors for question in part]),
    )


def _back(tokens: np.ndarray, width: int, view: Transform) -> np.ndarray | None:
    grid = read(tokens, width)
    return None if grid is None else view.inverse.grid(grid)

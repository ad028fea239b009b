"""One task while it is learned: its answer every few steps, and how sure the model is of each cell. No label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from arc_helpers.arc import Pair, Task, as_grid
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.ttt.answer import answer_group
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.group import new_model
from arc_helpers.ttt.jobs import Job
from arc_helpers.ttt.limits import Limits
from arc_helpers.ttt.merged import engine_for
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import encode_pool, questions
from arc_helpers.ttt.ranking import answer_logprobs
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import MultiLoraTrainer


@dataclass(frozen=True)
class Shot:
    """The answer to one test input after so many steps.

    sure: float [H, W], the probability of each cell of the grid given the cells before it. votes: views that gave it.
    loss: of the last step, nats a token; None before the first.
    """

    step: int
    loss: float | None
    grid: np.ndarray  # int8 [H, W]
    sure: np.ndarray
    votes: int
    views: int

    def to_dict(self) -> dict[str, Any]:
        """JSON's own types, rounded to a few bytes a cell."""
        return vars(self) | {"grid": self.grid.tolist(), "sure": np.round(self.sure, 3).tolist()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Shot":
        """What to_dict wrote."""
        return cls(**{**record, "grid": as_grid(record["grid"]), "sure": np.array(record["sure"])})


def watch_task(
    lm: LoadedLM,
    task: Task,
    settings: TTTSettings,
    *,
    shots: int = 12,
    test_index: int = 0,
    on_shot: Callable[[Shot], None] = lambda shot: None,
) -> tuple[list[Shot], np.ndarray]:
    """Train a task's adapter as a run does, and answer one of its test inputs before, meanwhile and afterwards.

    shots: how many answers after the first, close together while most is learned. Ranked by votes. A step without any
    valid answer has none, so where the task does not fit the context there is none at all. Returns the shots, and the
    loss of every step, float [steps].
    """
    settings = replace(settings, k=1, select="votes", strategy="greedy")
    task = replace(task.without_answers(), test=task.without_answers().test[test_index : test_index + 1])
    limits, taken, losses = Limits.of(settings), [], np.empty(0)
    model = new_model(lm, [task.id], settings)
    pool = sorted(encode_pool(lm, task, settings)[0], key=len)

    def look(step: int, loss: float | None) -> None:
        shot = _shot(model, task, settings, limits, step, loss)
        if shot is not None:
            taken.append(shot)
            on_shot(shot)

    look(0, None)
    due = {round(settings.steps * (i / shots) ** 2) for i in range(1, shots + 1)}
    if settings.steps and pool:
        engine = engine_for(model, settings.steps * sum(map(len, pool)) / len(pool))
        trainer = MultiLoraTrainer(model, patience=settings.patience, seed=settings.seed, limits=limits, engine=engine)
        jobs = [Job(task.id, prepare(model, [pool])[0], settings.steps, settings.lr)]
        (done,) = trainer.run(jobs, lambda step, losses: look(step + 1, float(losses[0])) if step + 1 in due else None)
        losses = done.losses
    return taken, losses


def _shot(
    model: MultiLoRAModel, task: Task, settings: TTTSettings, limits: Limits, step: int, loss: float | None
) -> Shot | None:
    result = TaskResult(task.id)
    answer_group(model, [task], [result], settings, limits)
    if not result.ranked[0]:
        return None
    best = result.ranked[0][0]
    guess = replace(task, test=(Pair(task.test[0].input, best.grid),))
    _, asked = next(questions(model.lm, guess, 0, settings, 0))  # the first view is the task as it is
    tokens = asked.labels[asked.prompt_length :]
    likely = np.exp(answer_logprobs(model, asked, 0))[np.isin(tokens, model.lm.prompt_form.digits)]
    return Shot(step, loss, best.grid, likely.reshape(best.grid.shape), best.votes, settings.views)

"""From trained adapters to two attempts: every test input in every view, turned back, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import FALLBACK, Task, Transform, as_grid
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import Encoded, TaskTooLong
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import questions
from arc_helpers.ttt.result import TaskResult
from arc_helpers.ttt.score import score_answers
from arc_helpers.ttt.search import answers_with_lora
from arc_helpers.ttt.select import Candidate, product_of_experts, same_size_first, two_attempts, vote
from arc_helpers.ttt.settings import TTTSettings

MOST_SCORED = 20  # distinct answers to a test input that are scored in every view


@dataclass(frozen=True)
class _Job:
    """One test input of one task in one view."""

    slot: int
    test_index: int
    view: Transform
    prompt: Encoded
    room: int  # tokens the answer may take


def answer_group(
    model: MultiLoRAModel, tasks: Sequence[Task], results: Sequence[TaskResult], settings: TTTSettings
) -> None:
    """Decode every test input of every task in every view, in one batch, each with its task's adapter; then turn
    the answers back and vote. Fills `ranked`, `attempts` and `notes` of the results."""
    lm = model.lm
    jobs: list[_Job] = []
    for slot, (task, result) in enumerate(zip(tasks, results, strict=True)):
        jobs += _jobs(lm, slot, task, settings, result.notes)
    candidates: dict[tuple[int, int], list[Candidate]] = {}
    if jobs:
        decoded = answers_with_lora(
            settings.strategy,
            model,
            [j.prompt.input_ids for j in jobs],
            [j.slot for j in jobs],
            [j.room for j in jobs],
            min_prob=settings.min_prob,
        )
        for job, answer in ((job, answer) for job, own in zip(jobs, decoded, strict=True) for answer in own):
            grid = lm.prompt_form.answer_grid([*answer.token_ids, lm.prompt_form.end]) if answer.finished else None
            if grid is not None:
                mean = answer.logprob / (len(answer.token_ids) + 1)
                candidate = Candidate(job.view.inverse.grid(grid), job.view.name, mean)
                candidates.setdefault((job.slot, job.test_index), []).append(candidate)
    for slot, (task, result) in enumerate(zip(tasks, results, strict=True)):
        voted = [vote(candidates.get((slot, i), []), task.train) for i in range(len(task.test))]
        # a search may propose many grids; those with fewest votes are not worth a score
        result.ranked = [
            same_size_first(v, task.train, t.input)[:MOST_SCORED] for v, t in zip(voted, task.test, strict=True)
        ]
    if settings.select == "product":
        _rank_by_product(model, jobs, results)
        for task, result in zip(tasks, results, strict=True):
            result.ranked = [
                same_size_first(r, task.train, t.input) for r, t in zip(result.ranked, task.test, strict=True)
            ]
    for result in results:
        result.attempts = [two_attempts(ranked) or (as_grid(FALLBACK),) * 2 for ranked in result.ranked]


def _rank_by_product(model: MultiLoRAModel, jobs: Sequence[_Job], results: Sequence[TaskResult]) -> None:
    """Score every candidate of a test input in all of its views, and order them by the sum."""
    prompt_form = model.lm.prompt_form
    answers = [
        [prompt_form.output_ids(job.view.grid(r.grid)) for r in ranked]
        for job in jobs
        for ranked in [results[job.slot].ranked[job.test_index]]
    ]
    scores = score_answers(model, [j.prompt.input_ids for j in jobs], [j.slot for j in jobs], answers)
    by_test: dict[tuple[int, int], list[np.ndarray]] = {}
    for job, score in zip(jobs, scores, strict=True):
        by_test.setdefault((job.slot, job.test_index), []).append(score)
    for (slot, i), views in by_test.items():
        results[slot].ranked[i] = product_of_experts(results[slot].ranked[i], np.stack(views))


def _jobs(lm: LoadedLM, slot: int, task: Task, settings: TTTSettings, notes: list[str]) -> list[_Job]:
    jobs = []
    for i in range(len(task.test)):
        room = min(lm.prompt_form.answer_room(task, i), max(1, lm.max_len // 2))
        try:
            for view, prompt in questions(lm, task, i, settings, room):
                jobs.append(_Job(slot, i, view, prompt, room))
        except TaskTooLong as error:
            notes.append(f"test[{i}]: {error}")
    dropped = max((job.prompt.dropped for job in jobs), default=0)
    if dropped:
        notes.append(f"{dropped} of {len(task.train)} demonstrations dropped to fit {lm.max_len} tokens")
    return jobs

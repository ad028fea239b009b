"""From trained adapters to two attempts: every test input in every view, turned back, ranked."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from arc_helpers.arc import FALLBACK, Task, Transform, as_grid
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.memory import free_bytes, is_out_of_memory
from arc_helpers.lm.prompt import Encoded, TaskTooLong
from arc_helpers.ttt.decode import Generated
from arc_helpers.ttt.limits import Limits, rows_that_fit
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import questions
from arc_helpers.ttt.ranking import Candidate, product_of_experts, same_size_first, score_answers, two_attempts, vote
from arc_helpers.ttt.reading import KEPT, Reading
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.search import answers_with_lora
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

    @property
    def at(self) -> tuple[int, int]:
        """The slot and the test input."""
        return self.slot, self.test_index


def answer_group(
    model: MultiLoRAModel,
    tasks: Sequence[Task],
    results: Sequence[TaskResult],
    settings: TTTSettings,
    limits: Limits | None = None,
    only: Collection[tuple[int, int]] | None = None,
) -> list[tuple[int, int]]:
    """Decode every test input of every task in every view, each with its task's adapter, as many at once as there is
    memory for; then turn the answers back and vote. Fills `ranked`, `attempts` and `notes` of the results.

    only: (task, number) of the test inputs to answer; None for all. A view that does not fit is left out; where none of
    a test input does, its prompt loses demonstrations. Returns the test inputs whose bare question does not fit.
    """
    limits = limits or Limits.of(settings)
    asked = [(slot, i) for slot, task in enumerate(tasks) for i in range(len(task.test))]
    asked = asked if only is None else [at for at in asked if at in set(only)]
    jobs = {at: _jobs(model.lm, *at, tasks[at[0]], settings, results[at[0]].notes) for at in asked}
    too_long = {at for at, own in jobs.items() if not own}
    candidates: dict[tuple[int, int], list[Candidate]] = {}
    answered: list[_Job] = []
    reading = Reading(model, KEPT * free_bytes(model.lm.device) if settings.select == "product" else 0.0)
    while waiting := [job for own in jobs.values() for job in own]:
        for job, answers in zip(waiting, _decoded(reading, waiting, settings, limits), strict=True):
            if answers is not None:
                answered.append(job)
                candidates.setdefault(job.at, []).extend(_candidates(model.lm, job, answers))
        stuck = {at: own for at, own in jobs.items() if own and at not in candidates}
        jobs = {
            at: _shorter_jobs(model.lm, own, tasks[at[0]], settings, results[at[0]].notes) for at, own in stuck.items()
        }
    for task, result in zip(tasks, results, strict=True):
        result.ranked = result.ranked or [[] for _ in task.test]
    for slot, i in candidates:
        voted = vote(candidates[slot, i], tasks[slot].train)
        # a search may propose many grids; those with fewest votes are not worth a score
        voted = same_size_first(voted, tasks[slot].train, tasks[slot].test[i].input)[:MOST_SCORED]
        results[slot].ranked[i] = voted
    if limits.deadline.passed:
        for result in results:
            result.notes.append("out of time: not all views were read; ranked by votes")
    elif settings.select == "product":
        _rank_by_product(reading, answered, results, limits)
        for slot, i in candidates:
            task, ranked = tasks[slot], results[slot].ranked
            ranked[i] = same_size_first(ranked[i], task.train, task.test[i].input)
    for result in results:
        result.attempts = [two_attempts(ranked) or (as_grid(FALLBACK),) * 2 for ranked in result.ranked]
    return [at for at in asked if at not in candidates and at not in too_long]


def _decoded(reading: Reading, jobs: Sequence[_Job], settings: TTTSettings, limits: Limits):
    """The answers to each job, None where it does not fit into the memory: not even the greedy one."""

    def decode(strategy: str, some: Sequence[_Job]) -> list[list[Generated]]:
        return answers_with_lora(
            strategy,
            reading.model,
            [j.prompt.input_ids for j in some],
            [j.slot for j in some],
            [j.room for j in some],
            min_prob=settings.min_prob,
            deadline=limits.deadline,
            reading=reading,
        )

    lengths = [len(job.prompt) for job in jobs]
    most = rows_that_fit(reading.model.lm, settings, max(lengths), max(job.room for job in jobs))
    found = limits.in_pieces(jobs, lengths, _or_forget(reading, partial(decode, settings.strategy)), most)
    alone = [i for i, answers in enumerate(found) if answers is None]
    if alone and settings.strategy != "greedy":
        limits.say("the greedy answer alone, where a search did not fit")
        greedy = limits.in_pieces(
            [jobs[i] for i in alone], [lengths[i] for i in alone], _or_forget(reading, partial(decode, "greedy")), most
        )
        for i, answers in zip(alone, greedy, strict=True):
            found[i] = answers
    return found


def _or_forget(reading: Reading, work: Callable) -> Callable:
    """The same work; where memory runs out, what the reading keeps is given up before less is tried at once."""

    def tried(some: Sequence) -> Sequence:
        try:
            return work(some)
        except Exception as error:
            if is_out_of_memory(error):
                reading.forget()
            raise

    return tried


def _candidates(lm: LoadedLM, job: _Job, answers: Sequence[Generated]) -> Iterator[Candidate]:
    """Valid grids among the answers, turned back."""
    for answer in answers:
        grid = lm.prompt_form.answer_grid([*answer.token_ids, lm.prompt_form.end]) if answer.finished else None
        if grid is not None:
            mean = answer.logprob / (len(answer.token_ids) + 1)
            yield Candidate(job.view.inverse.grid(grid), job.view.name, mean)


def _rank_by_product(reading: Reading, jobs: Sequence[_Job], results: Sequence[TaskResult], limits: Limits) -> None:
    """Score every candidate of a test input in all of its views, and order them by the sum. A view for which there is
    no memory counts for none of them."""
    form = reading.model.lm.prompt_form
    answers = [
        [np.append(form.grid_ids(job.view.grid(r.grid)), form.end) for r in results[job.slot].ranked[job.test_index]]
        for job in jobs
    ]

    def score(some: Sequence[int]) -> list[np.ndarray | None]:
        if limits.deadline.passed:
            return [None] * len(some)
        prompts, slots = [jobs[i].prompt.input_ids for i in some], [jobs[i].slot for i in some]
        return score_answers(reading.model, prompts, slots, [answers[i] for i in some], reading=reading)

    lengths = [len(job.prompt) * max(1, len(own)) for job, own in zip(jobs, answers, strict=True)]
    scores = limits.in_pieces(range(len(jobs)), lengths, _or_forget(reading, score))
    by_test: dict[tuple[int, int], list[np.ndarray]] = {}
    for job, found in zip(jobs, scores, strict=True):
        if found is not None:
            by_test.setdefault(job.at, []).append(found)
    for (slot, i), views in by_test.items():
        results[slot].ranked[i] = product_of_experts(results[slot].ranked[i], np.stack(views))


def _jobs(
    lm: LoadedLM, slot: int, test_index: int, task: Task, settings: TTTSettings, notes: list[str], room: int = 0
) -> list[_Job]:
    """A test input in every view; none, with a note, where its bare question is too long. room: 0 for the usual."""
    room = room or min(lm.prompt_form.answer_room(task, test_index), max(1, lm.max_len // 2))
    try:
        asked = list(questions(lm, task, test_index, settings, room))
    except TaskTooLong as error:
        notes.append(f"test[{test_index}]: {error}")
        return []
    dropped = max((prompt.dropped for _, prompt in asked), default=0)
    if dropped:
        notes.append(f"{dropped} of {len(task.train)} demonstrations dropped to fit {lm.max_len} tokens")
    return [_Job(slot, test_index, view, prompt, room) for view, prompt in asked]


def _shorter_jobs(
    lm: LoadedLM, jobs: Sequence[_Job], task: Task, settings: TTTSettings, notes: list[str]
) -> list[_Job]:
    """The same test input with prompts of half the length."""
    job, most = jobs[0], max(len(job.prompt) for job in jobs) // 2
    shorter = replace(lm, max_len=most + job.room)
    found = _jobs(shorter, job.slot, job.test_index, task, settings, notes, job.room)
    notes += [f"out of memory: test[{job.test_index}] is asked in at most {most} tokens"] if found else []
    return found

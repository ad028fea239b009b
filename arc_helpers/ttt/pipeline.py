"""The whole way of a run: tasks in, adapters trained, answers decoded and voted, every result on disk at once."""

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from arc_helpers.arc import (
    DIHEDRAL,
    FALLBACK,
    SubmissionWriter,
    Task,
    TaskFault,
    Transform,
    as_grid,
    build_pseudo_tasks,
    color_permutation,
    grid_to_string,
)
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import Encoded, TaskTooLong, answer_grid, encode
from arc_helpers.runs import Deadline, RunLog, progress
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.decode import generate_with_lora
from arc_helpers.ttt.grouping import length_groups
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.score import score_answers
from arc_helpers.ttt.select import Candidate, Ranked, product_of_experts, two_attempts, vote
from arc_helpers.ttt.trainer import train_multi_lora

LARGEST_ANSWER = 30 * 31 + 1  # tokens of a 30 × 30 grid with its row ends and the end token


@dataclass(frozen=True)
class TTTSettings:
    """The knobs of test-time training, under their names in configs/*.yaml."""

    k: int = 4
    steps: int = 60
    num_pseudo: int = 16
    r: int = 16
    alpha: float = 32.0
    lr: float = 1e-2
    views: int = 8
    mode: str = "head"
    select: str = "product"  # or "votes"
    colors: bool = True  # permute colours in the pseudo-tasks, too
    seed: int = 0


@dataclass
class TaskResult:
    """What a task ended with.

    `ranked[i]` are the distinct answers to test input i, best first; `attempts[i]` the two that are submitted, or
    the fallback where no view gave a valid grid.
    """

    task_id: str
    attempts: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    ranked: list[list[Ranked]] = field(default_factory=list)
    losses: np.ndarray = field(default_factory=lambda: np.empty(0))
    notes: list[str] = field(default_factory=list)


def views_of(task: Task, n: int, seed: int = 0) -> list[Transform]:
    """The views a task is answered in: the 8 symmetries of the square, then the same 8 with other colours."""
    recolored = color_permutation(seed)
    return [*DIHEDRAL, *(Transform(d.k, d.flip, recolored) for d in DIHEDRAL)][:n]


def answer_room(task: Task, test_index: int) -> int:
    """How many tokens an answer may take: what the demonstrations' outputs suggest, and half as much again."""
    outputs = [pair.output for pair in task.train]
    growth = max(pair.output.size / pair.input.size for pair in task.train)
    cells = max(max(o.size for o in outputs), growth * task.test[test_index].input.size)
    rows = max(max(o.shape) for o in outputs) + max(task.test[test_index].input.shape)
    return min(LARGEST_ANSWER, int(1.5 * cells) + rows + 1)


def encode_pool(lm: LoadedLM, task: Task, settings: TTTSettings) -> tuple[list[Encoded], str | None]:
    """A task's pseudo-tasks as sequences, those that fit; and a note where some were shortened or left out."""
    pool, too_long, shortened = [], 0, 0
    for pseudo in build_pseudo_tasks(task, settings.num_pseudo, settings.seed, colors=settings.colors):
        try:
            pool.append(encode(pseudo.task, lm.vocabulary, max_len=lm.max_len, all_outputs=settings.mode != "head"))
        except TaskTooLong:
            too_long += 1
        else:
            shortened += pool[-1].dropped > 0
    if not too_long and not shortened:
        return pool, None
    return pool, f"{shortened} pseudo-tasks lost demonstrations and {too_long} were left out (max_len {lm.max_len})"


def solve_group(lm: LoadedLM, tasks: Sequence[Task], settings: TTTSettings) -> list[TaskResult]:
    """Train one adapter a task, all together, then answer every test input in every view."""
    tasks = [task.without_answers() for task in tasks]
    results = [TaskResult(task.id) for task in tasks]
    pools = []
    for task, result in zip(tasks, results, strict=True):
        pool, note = encode_pool(lm, task, settings)
        pools.append(pool)
        result.notes += [note] if note else []
    model = MultiLoRAModel(
        lm, [t.id for t in tasks], r=settings.r, lora_alpha=settings.alpha, mode=settings.mode, seed=settings.seed
    )
    losses = train_multi_lora(
        model,
        prepare(model, pools),
        steps=settings.steps,
        lr=settings.lr,
        seed=settings.seed,
    )
    answer_group(model, tasks, results, settings)
    for k, result in enumerate(results):
        result.losses = losses[:, k]
    return results


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
        answers = generate_with_lora(
            model, [j.prompt.input_ids for j in jobs], [j.slot for j in jobs], [j.room for j in jobs]
        )
        for job, answer in zip(jobs, answers, strict=True):
            grid = answer_grid([*answer.token_ids, lm.vocabulary.end], lm.vocabulary) if answer.finished else None
            if grid is not None:
                mean = answer.logprob / (len(answer.token_ids) + 1)
                candidate = Candidate(job.view.inverse.grid(grid), job.view.name, mean)
                candidates.setdefault((job.slot, job.test_index), []).append(candidate)
    for slot, (task, result) in enumerate(zip(tasks, results, strict=True)):
        result.ranked = [vote(candidates.get((slot, i), [])) for i in range(len(task.test))]
    if settings.select == "product":
        _rank_by_product(model, jobs, results)
    for result in results:
        result.attempts = [two_attempts(ranked) or (as_grid(FALLBACK),) * 2 for ranked in result.ranked]


def _rank_by_product(model: MultiLoRAModel, jobs: Sequence[_Job], results: Sequence[TaskResult]) -> None:
    """Score every candidate of a test input in all of its views, and order them by the sum."""
    vocabulary = model.lm.vocabulary
    answers = [
        [np.append(vocabulary.grid_ids(job.view.grid(r.grid)), vocabulary.end) for r in ranked]
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
        room = min(answer_room(task, i), max(1, lm.max_len // 2))
        options = {"test_index": i, "max_len": lm.max_len, "answer_room": room}
        try:
            for view in views_of(task, settings.views, settings.seed):
                jobs.append(_Job(slot, i, view, encode(view.task(task), lm.vocabulary, **options), room))
        except TaskTooLong as error:
            notes.append(f"test[{i}]: {error}")
    dropped = max((job.prompt.dropped for job in jobs), default=0)
    if dropped:
        notes.append(f"{dropped} of {len(task.train)} demonstrations dropped to fit {lm.max_len} tokens")
    return jobs


def solve_tasks(
    lm: LoadedLM,
    tasks: Sequence[Task],
    settings: TTTSettings,
    log: RunLog,
    writer: SubmissionWriter,
    *,
    faults: Iterable[TaskFault] = (),
    deadline: Deadline | None = None,
) -> dict[str, TaskResult]:
    """Solve tasks group by group; a failed task costs itself only, and is listed in tasks.jsonl with its error.

    Each result is in submission.json, predictions/<id>.txt and tasks.jsonl before the next group starts. What
    the deadline leaves over keeps its fallback attempts and is listed as such.
    """
    deadline = deadline or Deadline(None)
    results: dict[str, TaskResult] = {}
    for fault in faults:
        log.task(fault.id, status="unreadable", error=fault.message)
    groups = length_groups(tasks, [_longest(t, lm) for t in tasks], settings.k)
    for group in progress(groups, desc="groups"):
        for result in _solve_or_report(lm, group, settings, log, deadline):
            _record(result, log, writer)
            results[result.task_id] = result
    return results


def _solve_or_report(
    lm: LoadedLM, group: Sequence[Task], settings: TTTSettings, log: RunLog, deadline: Deadline
) -> list[TaskResult]:
    """A group's results; where it fails, those of its tasks one by one, and a line for each that fails alone."""
    if deadline.passed:
        for task in group:
            log.task(task.id, status="out of time")
        return []
    try:
        solved = solve_group(lm, group, settings)
    except Exception as error:  # whatever it is, the other tasks go on; the traceback is kept
        _keep_traceback(log.out_dir, group)
        if len(group) > 1:
            return [r for task in group for r in _solve_or_report(lm, [task], settings, log, deadline)]
        log.task(group[0].id, status="error", error=f"{type(error).__name__}: {error}")
        return []
    for step in range(settings.steps):
        log.metric(step, **{f"loss_{r.task_id}": float(r.losses[step]) for r in solved})
    return solved


def prediction_text(result: TaskResult) -> str:
    """The seed's text form of a task's attempts. It holds no true output: the scoring step adds those."""
    parts = [f"TASK {result.task_id}"]
    for i, (attempts, ranked) in enumerate(zip(result.attempts, result.ranked, strict=True), start=1):
        if not ranked:
            parts.append(f"MODEL OUTPUT {i}\n(no valid grid)")
            continue
        for n, grid in enumerate(attempts, start=1):
            parts.append(f"MODEL OUTPUT {i}, attempt {n}\n{grid_to_string(grid)}")
    return "\n\n".join(parts) + "\n"


def _record(result: TaskResult, log: RunLog, writer: SubmissionWriter) -> None:
    writer.set(result.task_id, result.attempts)
    folder = Path(log.out_dir) / "predictions"
    folder.mkdir(exist_ok=True)
    (folder / f"{result.task_id}.txt").write_text(prediction_text(result), encoding="utf-8")
    log.task(
        result.task_id,
        status="answered" if all(result.ranked) else "fallback",
        loss_first=_finite(result.losses[:1]),
        loss_last=_finite(result.losses[-5:]),
        votes=[ranked[0].votes if ranked else 0 for ranked in result.ranked],
        distinct=[len(ranked) for ranked in result.ranked],
        notes=result.notes,
    )


def _longest(task: Task, lm: LoadedLM) -> int:
    """Tokens of the longest leave-one-out sequence, near enough to sort by."""
    grids = [g for p in task.train for g in (p.input, p.output)] + [p.input for p in task.test]
    return min(lm.max_len, sum(g.size + g.shape[0] + 1 for g in grids))


def _finite(losses: np.ndarray) -> float | None:
    return float(losses.mean()) if len(losses) and np.isfinite(losses).all() else None


def _keep_traceback(out_dir: Path, group: Sequence[Task]) -> None:
    with open(Path(out_dir) / "errors.log", "a", encoding="utf-8") as file:
        file.write(f"--- {', '.join(t.id for t in group)}\n{traceback.format_exc()}\n")


def settings_from(config: Mapping | object, seed: int) -> TTTSettings:
    """The settings that a notebook's resolved config asks for."""
    names = [name for name in TTTSettings.__dataclass_fields__ if name != "seed"]
    return TTTSettings(**{name: getattr(config, name) for name in names}, seed=seed)

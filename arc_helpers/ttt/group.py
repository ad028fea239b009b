"""One group of tasks: K adapters trained together, then answered; and what happens when that fails."""

import gc
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from arc_helpers.arc import Task, build_pseudo_tasks
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import Encoded, TaskTooLong, encode
from arc_helpers.runs import Deadline
from arc_helpers.ttt.answer import answer_group
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.result import TaskResult
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import train_multi_lora

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA; torch's CPU allocator


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


def solve_or_split(
    solve: Callable[[Sequence[Task]], list[TaskResult]],
    group: Sequence[Task],
    deadline: Deadline,
    errors: Path,
) -> list[TaskResult]:
    """A group's results. Where it runs out of memory, those of its halves, with a note; where it fails otherwise,
    those of its tasks one by one. A task that fails alone has an `error`.

    Tracebacks are appended to the file `errors`. A part that the deadline leaves over has no results.
    """
    if deadline.passed:
        return []
    try:
        return solve(group)
    except Exception as error:  # whatever it is, the other tasks go on
        _keep_traceback(errors, group)
        failure, no_memory = f"{type(error).__name__}: {error}", _is_out_of_memory(error)
    # from here on, since `error` held on to all that the group had in memory
    if no_memory:
        gc.collect()
        torch.cuda.empty_cache()
    if len(group) == 1:
        return [TaskResult(group[0].id, error=failure)]
    size = -(-len(group) // 2) if no_memory else 1
    parts = [group[i : i + size] for i in range(0, len(group), size)]
    results = [result for part in parts for result in solve_or_split(solve, part, deadline, errors)]
    if no_memory:
        for result in results:
            result.notes.append(f"out of memory with {len(group)} tasks at once: done in two halves")
    return results


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def _keep_traceback(errors: Path, group: Sequence[Task]) -> None:
    with open(errors, "a", encoding="utf-8") as file:
        file.write(f"--- {', '.join(task.id for task in group)}\n{traceback.format_exc()}\n")

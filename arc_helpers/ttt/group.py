"""One group of tasks: K adapters trained together, then answered; and what happens when that fails."""

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import torch

from arc_helpers.arc import Task
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import Deadline
from arc_helpers.ttt.answer import answer_group
from arc_helpers.ttt.cache import Example, prepare
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.result import TaskResult
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.store import StateStore
from arc_helpers.ttt.trainer import Job, MultiLoraTrainer, SlotState

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA; torch's CPU allocator


OnLosses = Callable[[dict[str, float]], None]


def solve_group(
    lm: LoadedLM, tasks: Sequence[Task], settings: TTTSettings, on_losses: OnLosses = lambda losses: None
) -> list[TaskResult]:
    """Train one adapter a task, side by side, then answer every test input in every view.

    At most `settings.k` adapters train at a time; where there are more tasks, a slot whose training has ended takes the
    next one. on_losses({task id: loss}) is called after every step, with NaN for a slot that did not run.
    """
    tasks = [task.without_answers() for task in tasks]
    results = [TaskResult(task.id) for task in tasks]
    pools = []
    for task, result in zip(tasks, results, strict=True):
        pool, note = encode_pool(lm, task, settings)
        # tasks are trained in step: the n-th longest of each beside one another leave little padding
        pools.append(sorted(pool, key=len))
        result.notes += [note] if note else []
    model = new_model(lm, [task.id for task in tasks[: settings.k]], settings)
    store = StateStore(settings.cache_gib, settings.cache_disk_gib)
    examples: Sequence[Sequence[Example]] = prepare(model, pools, store) if settings.steps else pools
    trainer = MultiLoraTrainer(model, patience=settings.patience, seed=settings.seed)
    start = group_start(lm, tasks, examples, settings) if settings.group_steps else None
    jobs = [Job(task.id, pool, settings.steps, settings.lr, start) for task, pool in zip(tasks, examples, strict=True)]
    trained = trainer.run(jobs, lambda step, losses: on_losses(dict(zip(model.names, losses.tolist(), strict=True))))
    began = time.monotonic()
    for first in range(0, len(tasks), model.num_slots):
        some = slice(first, first + model.num_slots)
        for k, job in enumerate(trained[some]):
            model.bank.flat[k] = job.weights
        answer_group(model, tasks[some], results[some], settings)
    stats = {"slots": model.num_slots, **trainer.cost.stats(), "answer_seconds": time.monotonic() - began}
    for result, job in zip(results, trained, strict=True):
        result.losses, result.stats = job.losses, stats
        result.notes += store.notes
        if job.state is SlotState.FAILED:
            result.notes.append("training failed: losses or gradients were not finite; answered without it")
    return results


def group_start(
    lm: LoadedLM, tasks: Sequence[Task], pools: Sequence[Sequence[Example]], settings: TTTSettings
) -> torch.Tensor:
    """One adapter trained on all tasks of a group in turn, `settings.group_steps` steps: weights [P] that each of the
    group's own adapters may start from. With them, a task's result depends on the tasks beside it."""
    name = "+".join(task.id for task in tasks)
    together = [example for rank in zip_longest(*pools) for example in rank if example is not None]
    trainer = MultiLoraTrainer(new_model(lm, [name], settings), seed=settings.seed)
    return trainer.run([Job(name, together, settings.group_steps, settings.lr)])[0].weights


def new_model(lm: LoadedLM, names: Sequence[str], settings: TTTSettings) -> MultiLoRAModel:
    """Untrained adapters as the settings say. Raises ValueError, one line, where this base cannot have them."""
    return MultiLoRAModel(
        lm,
        names,
        r=settings.r,
        lora_alpha=settings.alpha,
        mode=settings.mode,
        top_m=settings.top_m,
        seed=settings.seed,
    )


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

"""One group of tasks: K adapters trained together, then answered; and what happens when that fails or does not fit."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from arc_helpers.arc import Task
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.memory import is_out_of_memory
from arc_helpers.lm.prompt import Encoded
from arc_helpers.runs import Deadline
from arc_helpers.ttt.answer import answer_group
from arc_helpers.ttt.budget import size_of, training_share
from arc_helpers.ttt.cache import Example, prepare
from arc_helpers.ttt.jobs import Job, SlotState
from arc_helpers.ttt.limits import Limits, fitting, release, way_to_train
from arc_helpers.ttt.merged import engine_for
from arc_helpers.ttt.multilora import MultiLoRAModel, decoder_layers
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.store import StateStore
from arc_helpers.ttt.trainer import MultiLoraTrainer

OnLosses = Callable[[dict[str, float]], None]


def solve_group(
    lm: LoadedLM,
    tasks: Sequence[Task],
    settings: TTTSettings,
    on_losses: OnLosses = lambda losses: None,
    limits: Limits | None = None,
) -> list[TaskResult]:
    """Train one adapter a task, side by side, then answer every test input in every view.

    At most `settings.k` adapters train at a time, fewer where the memory holds no more; where there are more tasks, a
    slot whose training has ended takes the next one. on_losses({task id: loss}) is called after every step, with NaN
    for a slot that did not run.

    limits: what the run knows of its memory, and learns here. A task that cannot be trained in it as asked is trained
    in fewer layers, at last not at all; what cannot be answered beside its adapter is answered by the base alone. All
    of it is said in the notes.
    """
    limits = limits or Limits.of(settings)
    tasks = [task.without_answers() for task in tasks]
    sizes = [size_of(task, lm.prompt_form, lm.max_len, settings.form) for task in tasks]
    limits.training = limits.deadline.fraction(training_share(sizes, settings))
    results = [TaskResult(task.id) for task in tasks]
    untrained, unanswered = _train_and_answer(lm, tasks, results, settings, on_losses, limits)
    # what the group had in memory is gone by here: what follows finds all of it free
    if untrained:
        less, what = shallower(lm, settings)
        again = solve_group(
            lm, [tasks[i] for i in untrained], less, on_losses, replace(limits, slots=None, longest=None)
        )
        for i, result in zip(untrained, again, strict=True):
            result.notes = [*results[i].notes, f"out of memory: {what}", *result.notes]
            results[i] = result
    if unanswered:
        some = sorted({i for i, _ in unanswered})
        model = new_model(lm, [tasks[i].id for i in some], replace(settings, mode="head", r=1))
        only = [(some.index(i), test) for i, test in unanswered]
        answer_group(model, [tasks[i] for i in some], [results[i] for i in some], settings, limits, only)
        for i, test in unanswered:
            results[i].notes += [f"out of memory: test[{test}] was left to the untrained base", *limits.taken()]
    return results


def _train_and_answer(
    lm: LoadedLM,
    tasks: Sequence[Task],
    results: Sequence[TaskResult],
    settings: TTTSettings,
    on_losses: OnLosses,
    limits: Limits,
) -> tuple[list[int], list[tuple[int, int]]]:
    """Fill the results of a group; returns the tasks that no memory was enough to train, and the test inputs, (task,
    number), that were none to answer."""
    store = StateStore(settings.cache_gib, settings.cache_disk_gib)
    pools = [_encoded(lm, task, settings, limits, result.notes) for task, result in zip(tasks, results, strict=True)]
    trainer = _trainer_that_fits(lm, tasks, pools, settings, limits)
    if trainer is None:
        return list(range(len(tasks))), []
    model = trainer.model

    def prepared(i: int, most: int | None = None) -> Sequence[Example]:
        pool = pools[i] if most is None else _encoded(lm, tasks[i], settings, Limits(longest=most), [])
        return prepare(model, [pool], store)[0] if settings.steps else pool

    examples: list[Sequence[Example]] = list(pools)
    if settings.steps:
        examples = list(fitting(partial(prepare, model, pools, store)) or [])
    if not examples:
        store = StateStore(settings.cache_gib, settings.cache_disk_gib)
        examples = [_shortened(partial(prepared, i), pools[i], results[i].notes) for i in range(len(tasks))]
    jobs = [
        Job(task.id, examples[i], settings.steps, settings.lr, None, partial(prepared, i))
        for i, task in enumerate(tasks)
    ]
    trained = trainer.run(jobs, lambda step, losses: on_losses(dict(zip(model.names, losses.tolist(), strict=True))))
    trainer.free()
    began, slots, unanswered = time.monotonic(), model.num_slots, []
    nothing = {i for i, pool in enumerate(pools) if pool and not len(examples[i])}
    ready = [i for i, job in enumerate(trained) if job.state is not SlotState.NO_ROOM and i not in nothing]
    for first in range(0, len(ready), slots):
        some = ready[first : first + slots]
        for k, i in enumerate(some):
            model.bank.flat[k] = trained[i].weights
        stuck = answer_group(model, [tasks[i] for i in some], [results[i] for i in some], settings, limits)
        unanswered += [(some[k], test) for k, test in stuck]
    said = {"engine": trainer.engine.note} if trainer.engine else {}
    stats = {"slots": slots, **said, **trainer.cost.stats(), "answer_seconds": time.monotonic() - began}
    notes = [*store.notes, *limits.taken()]
    for result, job in zip(results, trained, strict=True):
        result.losses, result.stats = job.losses, stats
        result.notes += notes + job.notes
        if job.state is SlotState.FAILED:
            result.notes.append("training failed: losses or gradients were not finite; answered without it")
    return [i for i in range(len(tasks)) if i not in ready], unanswered


def _encoded(lm: LoadedLM, task: Task, settings: TTTSettings, limits: Limits, notes: list[str]) -> list[Encoded]:
    """What a task's adapter trains on, the shortest first, in sequences as long as the memory is known to hold."""
    pool, note = encode_pool(replace(lm, max_len=min(lm.max_len, limits.longest or lm.max_len)), task, settings)
    notes += [note] if note else []
    return sorted(
        pool, key=len
    )  # tasks train in step: the n-th longest of each beside one another leave little padding


def _shortened(
    prepared: Callable[..., Sequence[Example]], pool: Sequence[Encoded], notes: list[str]
) -> Sequence[Example]:
    """prepared(), or prepared(tokens) for half the tokens and half of these, until its states can be computed."""
    most = max(map(len, pool), default=0)
    found = fitting(prepared)
    while found is None and most > 1:
        most //= 2
        found = fitting(partial(prepared, most))
        if found:
            notes.append(f"out of memory: trained on sequences of at most {most} tokens")
    return found or []


def _trainer_that_fits(
    lm: LoadedLM, tasks: Sequence[Task], pools: Sequence[Sequence[Encoded]], settings: TTTSettings, limits: Limits
) -> MultiLoraTrainer | None:
    """A trainer of as many of `settings.k` adapters as there is room for; None where there is none for a single one."""
    longest = max((len(example) for pool in pools for example in pool), default=1)
    slots, checkpointing = way_to_train(lm, settings, min(settings.k, len(tasks)), longest, limits)
    tokens = settings.steps * sum(sum(map(len, pool)) / max(1, len(pool)) for pool in pools)

    def make(names: list[str]) -> MultiLoraTrainer:
        model = new_model(lm, names, settings)
        model.activation_checkpointing = checkpointing
        engine = engine_for(model, tokens)
        return MultiLoraTrainer(model, patience=settings.patience, seed=settings.seed, limits=limits, engine=engine)

    while slots:
        trainer = fitting(partial(make, [task.id for task in tasks[:slots]]))
        if trainer is not None:
            return trainer
        slots //= 2
        if slots:
            limits.fewer_slots(slots)
    return None


def shallower(lm: LoadedLM, settings: TTTSettings) -> tuple[TTTSettings, str]:
    """What to train where the settings do not fit into the memory, even one task by itself; and that in words."""
    layers = len(decoder_layers(lm))
    top = {"full": max(1, layers // 4), "top_m": (settings.top_m or max(1, layers // 4)) // 2, "head": 0}[settings.mode]
    if top and top < layers:
        return replace(settings, mode="top_m", top_m=top), f"adapters in the last {top} of {layers} layers"
    return replace(settings, mode="head", r=1, steps=0), "answered by the untrained base"


def new_model(lm: LoadedLM, names: Sequence[str], settings: TTTSettings) -> MultiLoRAModel:
    """Untrained adapters as the settings say. Raises ValueError, one line, where this base cannot have them."""
    return MultiLoRAModel(
        lm,
        names,
        r=settings.r,
        lora_alpha=settings.alpha,
        use_rslora=settings.use_rslora,
        target_modules=settings.targets,
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
        failure, no_memory = f"{type(error).__name__}: {error}", is_out_of_memory(error)
    # from here on, since `error` held on to all that the group had in memory
    if no_memory:
        release()
    if len(group) == 1:
        return [TaskResult(group[0].id, error=failure)]
    size = -(-len(group) // 2) if no_memory else 1
    parts = [group[i : i + size] for i in range(0, len(group), size)]
    results = [result for part in parts for result in solve_or_split(solve, part, deadline, errors)]
    if no_memory:
        for result in results:
            result.notes.append(f"out of memory with {len(group)} tasks at once: done in two halves")
    return results


def _keep_traceback(errors: Path, group: Sequence[Task]) -> None:
    with open(errors, "a", encoding="utf-8") as file:
        file.write(f"--- {', '.join(task.id for task in group)}\n{traceback.format_exc()}\n")

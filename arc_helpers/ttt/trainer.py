"""K independent trainings in one step."""

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from arc_helpers.engine import TOKENS_AT_ONCE, Engine
from arc_helpers.lm.lora import FP16_LOSS_SCALE
from arc_helpers.lm.prompt import Encoded
from arc_helpers.ttt.cache import Example, slot_losses
from arc_helpers.ttt.jobs import Job, JobRun, SlotState, Trained, endless
from arc_helpers.ttt.limits import CPU_TOKENS, Limits, fitting
from arc_helpers.ttt.merged import merged_losses
from arc_helpers.ttt.meter import Cost, Meter
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.optim import MultiLoraAdamW


@dataclass
class Training:
    """How a training of K slots went."""

    losses: np.ndarray  # [steps, K], nats a token; NaN where a slot did not run
    states: list[SlotState]  # [K]
    steps: np.ndarray  # int [K], steps that moved the slot
    cost: Cost


def train_multi_lora(model: MultiLoRAModel, pools: Sequence[Sequence[Example]], *, steps: int, **options) -> np.ndarray:
    """`train_slots`, of which only the losses matter: float [steps, K] (nats a token)."""
    return train_slots(model, pools, steps=steps, **options).losses


def train_slots(
    model: MultiLoRAModel,
    pools: Sequence[Sequence[Example]],
    *,
    steps: int | Sequence[int],
    lr: float | Sequence[float] = 1e-2,
    on_step: Callable[[int, np.ndarray], None] = lambda step, losses: None,
    **options,
) -> Training:
    """Train every slot on its own pseudo-tasks, from the weights that it has; options as in `MultiLoraTrainer`.

    pools[k] is slot k's pool; steps and lr may be one for all, or one a slot. A slot with an empty pool is left as it
    is. on_step(step, losses [K]) is called after every step.
    """
    slots = model.num_slots
    if len(pools) != slots:
        raise ValueError(f"train_slots: {len(pools)} pools for {slots} slots")
    each: dict[str, Any] = {"steps": steps, "lr": lr}
    for name, value in each.items():
        each[name] = [value] * slots if np.ndim(value) == 0 else list(value)
        if len(each[name]) != slots:
            raise ValueError(f"train_slots: {len(each[name])} {name} for {slots} slots")
    jobs = [
        Job(*given, start=model.bank.flat[k].clone())
        for k, given in enumerate(zip(model.names, pools, each["steps"], each["lr"], strict=True))
    ]
    trainer = MultiLoraTrainer(model, **options)
    done = trainer.run(jobs, on_step)
    if model.num_slots < slots:  # there was no room to train all of them side by side
        trainer.free()
        model.resize([job.name for job in jobs])
        for k, trained in enumerate(done):
            model.bank.flat[k] = trained.weights
    losses = np.full((max(each["steps"]), slots), np.nan)
    for k, trained in enumerate(done):
        losses[: len(trained.losses), k] = trained.losses
    return Training(losses, [t.state for t in done], np.array([t.steps for t in done]), trainer.cost)


class MultiLoraTrainer:
    """Any number of trainings through the slots of a model, as many at a time as there are slots.

    Each step takes `batch` pseudo-tasks a slot. A pool is shuffled each time round, in the same way for all pools of
    its size: of pools that are sorted by length, like lengths are trained side by side. Losses are summed over slots,
    and each slot has its own clock, clip, moments and finite gate, so the result equals separate trainings. The
    learning rate rises over the first `warmup` of a job's steps and then falls linearly to zero. A job that has ended
    costs nothing from then on, and its slot takes the next.

    limits: how many padded tokens go through the model at once; slots beyond that take turns within the step, which
        changes no result. Without one: 1024 on a CPU, whose caches hold no more; 2048 with the engine. Where memory
        runs out, the step is taken again with less: with activation checkpointing, then in smaller turns; then with
        half of the slots, the others waiting with all they have learned; then on a job's shorter sequences. No step is
        taken twice.
    patience: a job ends at the end of a round through its pool when the mean loss of a round, in which every example
        counts once, has not reached a new low for that many steps; and every job that has gone through its pool ends
        with the weights it had after its best round. None: all steps, last weights.
    engine: what computes losses with the adapters merged into the weights (`merged.engine_for`); None: hooks do.
    loss_scale: what losses are multiplied by on the way back, a power of two; None: 1024 over a base in float16,
        whose small gradients would vanish, else 1. Where a slot's gradients overflow, its own scale is halved.
    max_skips: a slot whose loss or gradient is not finite skips the step; after that many (those that only halved
        its scale not counted) its job has failed, and ends with its first weights.
    `cost` tells what all runs of this trainer took. Raises ValueError, one line, on an option that makes no sense.
    """

    def __init__(
        self,
        model: MultiLoRAModel,
        *,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = 1.0,
        warmup: float = 0.1,
        batch: int = 1,
        limits: Limits | None = None,
        patience: int | None = None,
        loss_scale: float | None = None,
        max_skips: int = 5,
        engine: Engine | None = None,
        seed: int = 0,
    ):
        for name, value in (("batch", batch), ("patience", patience)):
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: must be >= 1")
        self.model, self.warmup, self.batch, self.seed = model, warmup, batch, seed
        self.patience, self.max_skips, self.engine = patience, max_skips, engine
        self.device = model.bank.flat.device
        self.limits = limits or Limits()
        if self.limits.activation_checkpointing != "auto":
            model.activation_checkpointing = self.limits.activation_checkpointing == "on"
        if loss_scale is None:
            loss_scale = FP16_LOSS_SCALE if model.lm.dtype == torch.float16 else 1.0
        self.loss_scale = loss_scale
        self.cost = Cost()
        self._new_optimizer = partial(MultiLoraAdamW, lr=0.0, weight_decay=weight_decay, max_grad_norm=max_grad_norm)
        self._set_up()

    def _set_up(self) -> None:
        """Everything that is as long as there are slots."""
        self.optimizer = self._new_optimizer(self.model.bank)
        self.scale = torch.full_like(self.optimizer.lr, self.loss_scale)  # [K]
        self._rows_of = lru_cache(maxsize=64)(self.model.rows)  # mostly the same slots step after step

    def run(
        self, jobs: Sequence[Job], on_step: Callable[[int, np.ndarray], None] = lambda step, losses: None
    ) -> list[Trained]:
        """All jobs, in their order; the first K go to the slots in theirs. on_step(step, losses [K]) is called after
        every step."""
        queue = deque(JobRun(i, job, endless(job.pool, self.seed)) for i, job in enumerate(jobs))
        free, running = deque(range(self.model.num_slots)), {}
        done: dict[int, Trained] = {}
        step = 0
        with Meter(self.device) as meter:
            while queue or running:
                if self.limits.training.passed:
                    for run in (*running.values(), *queue):
                        run.stop()
                while queue and free:
                    running[free[0]] = queue.popleft()
                    self._load(free[0], running[free[0]])
                    free.popleft()
                active = {k: run for k, run in running.items() if run.state is SlotState.ACTIVE}
                losses = self._step(active) if active else None
                if losses is not None:
                    on_step(step, losses)
                    step += 1
                elif active and self.model.num_slots > 1:
                    self._halve_slots(running, queue)
                    free, running = deque(range(self.model.num_slots)), {}
                elif active:
                    self._shorten(*active.values())
                for k in [k for k, run in running.items() if run.state is not SlotState.ACTIVE]:
                    run = running.pop(k)
                    done[run.index] = self._end(k, run)
                    free.append(k)
        self.cost.seconds += meter.seconds
        self.cost.peak_mib, self.cost.utilisation = meter.peak_mib, meter.utilisation
        return [done[i] for i in range(len(jobs))]

    def free(self) -> None:
        """Give up what only training needs, gradients and moments; the weights stay."""
        del self.optimizer
        self.model.bank.free_gradients()

    @torch.no_grad()
    def _load(self, k: int, run: JobRun) -> None:
        """Make slot k ready for a run, or go on with one that was put aside."""
        bank, optimizer = self.model.bank, self.optimizer
        optimizer.reset(k)
        self.model.names[k] = run.job.name
        self.scale[k] = self.loss_scale
        if run.aside is not None:
            parts = (bank.flat, optimizer.mean, optimizer.square, optimizer.steps, self.scale)
            for part, kept in zip(parts, run.aside, strict=True):
                part[k] = kept
            run.aside = None
            return
        if run.job.start is None:
            self.model.reset_slot(k, run.job.name)
        else:
            bank.flat[k] = run.job.start
        run.start = bank.flat[k].to("cpu", copy=True)

    def _halve_slots(self, running: dict[int, JobRun], queue: deque[JobRun]) -> None:
        """Half of the slots: the runs wait in the queue with all they have, and the memory is free."""
        for k, run in sorted(running.items(), reverse=True):
            optimizer = self.optimizer
            parts = (self.model.bank.flat, optimizer.mean, optimizer.square, optimizer.steps, self.scale)
            run.aside = tuple(part[k].to("cpu", copy=True) for part in parts)
            queue.appendleft(run)
        del self.optimizer, self._rows_of, optimizer, parts
        names = self.model.names[: self.model.num_slots // 2]
        self.limits.fewer_slots(len(names))
        self.model.resize(names)
        self._set_up()

    def _shorten(self, run: JobRun) -> None:
        """Go on with sequences of half the length, or end without room."""
        most = max(map(len, run.examples(self.batch))) // 2
        pool = run.job.shorter(most) if run.job.shorter else ()
        if len(pool):
            self.limits.longest = min(most, self.limits.longest or most)
            run.notes.append(
                f"out of memory: trained on sequences of at most {most} tokens from step {len(run.losses)} on"
            )
            run.draws, run.drawn = endless(pool, self.seed), None
        else:
            run.state = SlotState.NO_ROOM

    @torch.no_grad()
    def _end(self, k: int, run: JobRun) -> Trained:
        """A job's last word; slot k holds the same weights."""
        if run.state is SlotState.FAILED:
            self.model.bank.flat[k] = run.start
        elif run.best is not None:
            self.model.bank.flat[k] = run.best
        weights = self.model.bank.flat[k].to("cpu", copy=True)
        return Trained(run.job.name, weights, np.array(run.losses), run.state, run.moved, run.notes)

    def _step(self, running: dict[int, JobRun]) -> np.ndarray | None:
        """One step of all jobs that run; returns losses [K], NaN where there is none. None where it does not fit."""
        losses, rates = self._gradients(running), [0.0] * self.model.num_slots
        if losses is None:
            return None
        for k, run in running.items():
            rates[k] = run.job.lr * _rate(len(run.losses), run.job.steps, self.warmup)
            run.losses.append(losses[k])
            run.drawn = None
            if self.patience is not None:
                run.look(self.patience, self.batch, self.model.bank.flat[k])
        stepping = [k for k, run in running.items() if run.state is SlotState.ACTIVE]
        active = torch.tensor([k in stepping for k in range(self.model.num_slots)], device=self.device)
        self.optimizer.lr.copy_(torch.tensor(rates, dtype=torch.float64))
        moved = self.optimizer.step(active, None if self.loss_scale == 1 else self.scale).tolist()
        for k in stepping:
            run = running[k]
            run.moved += moved[k]
            if not moved[k] and self.scale[k] > 1 and np.isfinite(losses[k]):
                self.scale[k] /= 2
            elif not moved[k]:
                run.skips += 1
            if run.skips >= self.max_skips:
                run.state = SlotState.FAILED
            elif len(run.losses) == run.job.steps:
                run.state = SlotState.FINISHED
        return losses

    def _gradients(self, running: dict[int, JobRun]) -> np.ndarray | None:
        """Fill the bank's gradients with those of every job's next pseudo-tasks; returns losses [K], or None where one
        slot by itself does not fit."""
        losses, waiting = np.full(self.model.num_slots, np.nan), sorted(running)
        examples = {k: running[k].examples(self.batch) for k in waiting}
        self.optimizer.zero_grad()
        longest = max(len(example) for own in examples.values() for example in own)
        while waiting:
            some = waiting[: self._at_once(self.batch * longest)]
            theirs = [example for k in some for example in examples[k]]
            found = fitting(partial(self._turn, some, theirs))
            if found is not None:
                losses[some], waiting = found, waiting[len(some) :]
                self.cost.tokens += sum(map(len, theirs))
                self.cost.padded_tokens += len(theirs) * max(map(len, theirs))
                continue
            self.model.bank.grad[some] = 0  # what the turn had added by then
            if not self._ask_less(len(some), self.batch * longest):
                return None
        return losses

    def _turn(self, some: list[int], examples: list[Example]) -> np.ndarray:
        """Add the gradients of some slots; returns their losses."""
        if self.engine is not None and not self.model.activation_checkpointing:
            losses = merged_losses(self.engine, self.model, cast(list[Encoded], examples), some)
        else:
            losses = slot_losses(self.model, examples, self._rows_of(tuple(some)))
        scaled = losses if self.loss_scale == 1 else losses * self.scale[some]
        _backward(scaled.sum())  # a slot's gradient comes from its own turn alone
        return losses.detach().cpu().numpy()

    def _at_once(self, tokens: int) -> int | None:
        """How many slots take a turn together, with so many tokens each; None for all."""
        usual = TOKENS_AT_ONCE if self.engine else CPU_TOKENS if self.device.type == "cpu" else None
        most = self.limits.tokens_at_once or usual
        return None if most is None else max(1, most // tokens)

    def _ask_less(self, slots: int, tokens: int) -> bool:
        """The next rung, after so many slots with so many tokens each ran out of memory; False where there is none."""
        model, limits = self.model, self.limits
        if model.mode != "head" and not model.activation_checkpointing and limits.activation_checkpointing == "auto":
            model.activation_checkpointing, limits.activation_checkpointing = True, "on"
            limits.say("activation checkpointing")
        elif slots > 1:
            limits.tokens_at_once = slots // 2 * tokens
            limits.say(f"at most {limits.tokens_at_once} tokens at once")
        else:
            return False
        return True


def _rate(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay."""
    return min(1.0, (step + 1) / max(1.0, warmup * steps)) * (1 - step / steps)


def _backward(loss: Tensor) -> None:
    with warnings.catch_warnings():
        # the gradients are views into one matrix on purpose (SlotBank); torch would rather choose their layout
        warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")
        loss.backward()

"""How deep adapters reach, what that brings and what it costs: the same tasks at every depth."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arc_helpers.arc import Task
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import TaskTooLong, encode
from arc_helpers.ttt.cache import answer_logits, prepare
from arc_helpers.ttt.grouping import length_groups
from arc_helpers.ttt.multilora import MultiLoRAModel, decoder_layers, per_slot_cross_entropy
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import train_slots


@dataclass(frozen=True)
class DepthScore:
    """What one depth came to on every task."""

    nll: np.ndarray  # float64 [tasks]: of the right answer, nats a token, mean over a task's test inputs
    exact: np.ndarray  # bool [tasks]: every token of every answer is the likeliest one, so greedy decoding writes it
    seconds: (
        float  # of caching and training, a task: CPU seconds on a CPU, which others do not disturb, else wall clock
    )
    numbers: int  # trained numbers a task

    @property
    def mean_nll(self) -> float:
        """Over the tasks whose answer fits the context; NaN where none does."""
        return float(np.nanmean(self.nll)) if np.isfinite(self.nll).any() else float("nan")


def depths_of(lm: LoadedLM) -> dict[str, dict]:
    """{name: settings} of the depths worth comparing, shallow to deep; "untrained" is the base alone."""
    layers = len(decoder_layers(lm))
    some = sorted({1, max(1, layers // 4), max(1, layers // 2)})
    return {
        "untrained": {"steps": 0, "mode": "head"},
        "head": {"mode": "head"},
        **{f"top {m} of {layers}": {"mode": "top_m", "top_m": m} for m in some if m < layers},
        f"full ({layers} layers)": {"mode": "full"},
    }


def with_held_out_demonstration(task: Task) -> Task | None:
    """The task without its test inputs, asking for its last demonstration instead: an answer that is known without
    any label. None where fewer than two would be left to learn from."""
    if len(task.train) < 3:
        return None
    return Task(task.id, task.train[:-1], task.train[-1:])


def score_depth(lm: LoadedLM, tasks: Sequence[Task], settings: TTTSettings, **depth) -> DepthScore:
    """Train an adapter a task on its demonstrations and score the answers of its test inputs, which have to be known;
    training does not see them. depth: settings that differ, as in `depths_of`. Groups are of `settings.k` tasks."""
    settings = dataclasses.replace(settings, **{"form": "in_context", **depth})
    nll, exact, seconds, numbers = np.full(len(tasks), np.nan), np.zeros(len(tasks), dtype=bool), 0.0, 0
    clock = time.process_time if lm.device.type == "cpu" else time.monotonic
    sizes = [sum(p.input.size + p.output.size for p in task.train) for task in tasks]
    for group in length_groups(range(len(tasks)), sizes, settings.k):
        blind, began = [tasks[i].without_answers() for i in group], clock()
        model = MultiLoRAModel(
            lm,
            [task.id for task in blind],
            mode=settings.mode,
            top_m=settings.top_m,
            r=settings.r,
            lora_alpha=settings.alpha,
            seed=settings.seed,
        )
        if settings.steps:
            pools = prepare(model, [encode_pool(lm, task, settings)[0] for task in blind])
            train_slots(model, pools, steps=settings.steps, lr=settings.lr, seed=settings.seed)
            numbers = model.bank.flat.shape[1]
        seconds += clock() - began
        for slot, i in enumerate(group):
            nll[i], exact[i] = score_answers_of(model, slot, tasks[i])
    return DepthScore(nll, exact, seconds / len(tasks), numbers)


@torch.no_grad()
def score_answers_of(model: MultiLoRAModel, slot: int, task: Task) -> tuple[float, bool]:
    """(nats a token, whether all is exact) of a task's answers with the adapter of a slot; NaN where none fits."""
    losses, exact, slots = [], True, torch.tensor([slot], device=model.lm.device)
    for i in range(len(task.test)):
        try:
            example = encode(task, model.lm.prompt_form, test_index=i, max_len=model.lm.max_len)
        except TaskTooLong:
            exact = False
            continue
        logits, labels = answer_logits(model, prepare(model, [[example]])[0], slots)
        losses.append(per_slot_cross_entropy(logits, labels).item())
        exact &= torch.equal(logits.argmax(dim=-1), labels)
    return float(np.mean(losses)) if losses else float("nan"), exact

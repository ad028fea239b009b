"""The arms of one comparison: everything the same, but for what TRM is told about the task."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from arc_helpers.arc import compare_grids
from arc_helpers.hybrid.backbone import random_twin
from arc_helpers.hybrid.feedback import tokens_to_grid
from arc_helpers.hybrid.model import HybridConfig, HybridModel
from arc_helpers.hybrid.questions import Example, as_batch
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import Deadline
from arc_helpers.trm import TRM, TRMConfig

#: arm → what of the joint model's config differs
ARMS: dict[str, dict[str, Any]] = {
    "joint": {},
    "shuffled": {"control": "shuffled"},  # trained and asked with the states of another task
    "zeroed": {"control": "zeroed"},
    "random_llm": {},  # the same language model before it was trained
    "trm_alone": {"conditioning": "blank"},
    "task_id": {"conditioning": "id"},  # a trained vector a task: there is none for a task that was not learned
}


def trm_shape(hidden_size: int, halt_max_steps: int, rows: int = 1, **fields) -> TRMConfig:
    """A small TRM whose every cycle learns: one cycle of one update, 8 prefix vectors, `rows` task vectors."""
    heads = max(1, hidden_size // 32)
    shape = {"hidden_size": hidden_size, "num_heads": heads, "L_cycles": 1, "prefix_len": 8}
    shape |= {"halt_max_steps": halt_max_steps, "conditioned_rows": rows, "condition_cells": False}
    return TRMConfig.preset("small", **{**shape, **fields})


def build_arm(
    arm: str,
    lm: LoadedLM,
    trm: TRMConfig | TRM,
    config: HybridConfig,
    rows: int,
    seed: int,
    cache_gib: float = 1.0,
) -> HybridModel:
    """A fresh joint model of one arm, on the CPU. Raises ValueError on another arm.

    trm: the shape of a fresh TRM, or a pretrained one, which is copied. rows: of the table of task vectors. A language
    model with a LoRA is copied, too: arms must not train one another's.
    """
    if arm not in ARMS:
        raise ValueError(f"arm = {arm!r}: must be one of {', '.join(ARMS)}")
    lm = random_twin(lm, seed) if arm == "random_llm" else lm
    if any(p.requires_grad for p in lm.model.parameters()):
        lm = replace(lm, model=copy.deepcopy(lm.model))
    torch.manual_seed(seed)
    network = copy.deepcopy(trm) if isinstance(trm, TRM) else TRM(replace(trm, conditioned_rows=1))
    if arm == "task_id":
        fresh = TRM(replace(network.config, conditioned_rows=rows))
        network.conditioner, network.config = fresh.conditioner, fresh.config
    return HybridModel(lm, network, replace(config, **ARMS[arm]), cache_gib)


def solved(
    model: HybridModel, examples: Sequence[Example], batch_size: int = 50, deadline: Deadline | None = None
) -> np.ndarray:
    """bool [n]: is the first attempt exactly right? The only place in this package that scores.

    What is not asked before the deadline is not solved.
    """
    side, found = model.config.canvas_side, []
    for i in range(0, len(examples), batch_size):
        if deadline and deadline.passed:
            return np.array(found + [False] * (len(examples) - len(found)))
        part = examples[i : i + batch_size]
        questions = [example.question for example in part]
        rows = [example.task for example in part] if model.config.conditioning == "id" else ()
        thought = model.think(as_batch(questions, side, rows).to(model.trm.device), model.first_states(questions))
        for example, tokens in zip(part, thought.tokens.cpu(), strict=True):
            found.append(is_right(tokens_to_grid(tokens, width=side), example))
    return np.array(found)


def is_right(grid: np.ndarray | None, example: Example) -> bool:
    """Whether a grid is the answer to an example."""
    return grid is not None and compare_grids(grid, example.answer).correct


def bootstrap(per_seed: Sequence[np.ndarray], draws: int = 4000, seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high): a 95 % interval over seeds and, within a seed, over its tasks, both drawn with replacement.

    per_seed: one number a task for each seed, or the difference of two arms on the same task.
    """
    rng, means = np.random.default_rng(seed), []
    for _ in range(draws):
        chosen = [per_seed[i] for i in rng.integers(len(per_seed), size=len(per_seed))]
        means.append(np.mean([rng.choice(values, len(values)).mean() for values in chosen]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([values.mean() for values in map(np.asarray, per_seed)])), float(low), float(high)

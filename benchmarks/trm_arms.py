"""What makes a small TRM learn ARC faster? Six ways to train and ask the same network, each for the same CPU time.

    recursive    64 channels, otherwise the preset `small`: the rival of all others
    single_pass  the same parameters without recursion
    deepening    a third of the time with a third of the recursion, the next with two thirds (a depth curriculum)
    targets      each segment has a target of its own, the answer with ever fewer cells as in the question
                 (after Deep Improvement Supervision, arXiv 2511.16886)
    convolution  a short depthwise convolution inside the SwiGLU, zero at first (after URM, 2025)
    noise        recursive, asked four times more with noise on the latents between segments (after PTRM)

`--tasks` are learned from nothing by their demonstrations and asked for their test inputs: those of `arcagi1/training`
up to 5 × 5 to choose by, and others, say a file of Mini-ARC, to confirm. Scored are two attempts by votes of 8 views.
Differences to `recursive` have 95 % intervals, bootstrapped over seeds and tasks. There is no bound.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
from torch import Tensor, nn

from arc_helpers.arc import Task, load_tasks, write_tasks
from arc_helpers.hybrid import bootstrap
from arc_helpers.runs import choose_device, has_bfloat16
from arc_helpers.trm import (
    TRM,
    ArcDataset,
    ArcSource,
    Batch,
    Carry,
    Prediction,
    TrainConfig,
    Trainer,
    TRMConfig,
    build_arc_dataset,
    predict,
    score_votes,
    vote,
)
from arc_helpers.trm.canvas import PAD
from arc_helpers.trm.loss import cell_loss
from arc_helpers.trm.model import Segment

SHAPE = {"hidden_size": 64, "num_heads": 2}
WIDTH = 3  # cells that the convolution sees
TURN = 10  # steps
NOISE, NOISY = 0.3, 4  # of a latent's size, which is 1; how many times it is asked with it


class Deepening(Trainer):
    """Begins with less of everything that is done again and again."""

    def _learn(self) -> dict[str, Tensor]:
        whole, share = self.model.config, (1 + int(3 * self.progress)) / 3
        self.model.config = shallower(whole, min(1.0, share))
        try:
            return super()._learn()
        finally:
            self.model.config = whole


def shallower(config: TRMConfig, share: float) -> TRMConfig:
    """The same parameters with a share of the cycles, updates and segments, at least one each."""
    names = ("H_cycles", "L_cycles", "halt_max_steps")
    return replace(config, **{name: max(1, round(share * getattr(config, name))) for name in names})


class Targets(Trainer):
    """Asks early segments for less than the answer. What is exactly right stays what it is."""

    def _loss(self, segment: Segment, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, sums = super()._loss(segment, batch)
        done = segment.carry.steps / self.model.config.halt_max_steps
        nearer = on_the_way(batch.cells, batch.labels, done, self.generator)
        early, late = (cell_loss(segment.logits, labels, self.model.config.loss) for labels in (nearer, batch.labels))
        return loss + early.mean() - late.mean(), sums


def on_the_way(cells: Tensor, labels: Tensor, done: Tensor, generator: torch.Generator) -> Tensor:
    """The answer where a share `done` [B] of the cells is drawn, elsewhere the question. cells, labels: [B, N]."""
    drawn = torch.rand(labels.shape, generator=generator).to(labels.device) < done[:, None]
    return torch.where(drawn | (cells == PAD) | (labels == PAD), labels, cells)


class ConvSwiGLU(nn.Module):
    """A SwiGLU whose inner channels also look at their neighbours along the sequence."""

    def __init__(self, mlp: nn.Module):
        super().__init__()
        self.gate_up, self.down = mlp.gate_up, mlp.down
        inner = self.down.in_features
        self.conv = nn.Conv1d(inner, inner, WIDTH, padding="same", groups=inner, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        inner = nn.functional.silu(gate) * up
        return self.down(inner + self.conv(inner.transpose(1, 2)).transpose(1, 2))


TRAINERS = {
    **{"recursive": Trainer, "single_pass": Trainer, "deepening": Deepening, "targets": Targets},
    **{"convolution": Trainer, "noise": Trainer},
}
ARMS = tuple(TRAINERS)


def build(arm: str, config: TRMConfig) -> TRM:
    """A fresh model of an arm."""
    model = TRM(config.single_pass() if arm == "single_pass" else config)
    if arm == "convolution":
        for block in model.blocks:
            block.mlp = ConvSwiGLU(block.mlp)
    return model


def ask(arm: str, model: TRM, dataset: ArcDataset, seed: int = 0, **how) -> list[Prediction]:
    """Predictions of an arm, as `trm.predict` makes them."""
    found = predict(model, dataset, **how)
    if arm == "noise":
        generator = torch.Generator().manual_seed(seed)
        hook = model.register_forward_pre_hook(lambda _, given: (shaken(given[0], generator), *given[1:]))
        found += [prediction for _ in range(NOISY) for prediction in predict(model, dataset, **how)]
        hook.remove()
    return found


def shaken(carry: Carry, generator: torch.Generator) -> Carry:
    """Latents with noise, but for those that stand at their start."""
    size = NOISE * (carry.steps > 0).to(carry.z_H)[:, None, None]
    z_H, z_L = (z + size * torch.randn(z.shape, generator=generator).to(z) for z in (carry.z_H, carry.z_L))
    return Carry(z_H, z_L, carry.steps, carry.halted)


def run(seed: int, options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, int]]:
    """({arm: what is solved, task by task}, {arm: steps}) of one seed; runs in a process of its own.

    The arms take turns, so that what else the machine does slows all of them down alike.
    """
    torch.set_num_threads(1)
    tasks = small_tasks(options.tasks, options.max_side)
    with TemporaryDirectory() as scratch:
        write_tasks(tasks, Path(scratch) / "evaluation")
        dataset = build_arc_dataset(scratch, Path(scratch) / "built", ("evaluation",), seed=seed)
    dataset.check_guard(tasks)
    trainers = {arm: trainer_of(arm, dataset, seed, options.cpu_seconds) for arm in ARMS if arm != "noise"}
    while any(trainer.progress < 1 for trainer in trainers.values()):
        min(trainers.values(), key=lambda trainer: trainer.seconds).run(steps=TURN)
    found = {}
    for arm in ARMS:  # noise is another way to ask, not to train
        model = trainers["recursive" if arm == "noise" else arm].averaged
        votes = vote(ask(arm, model, dataset, seed, layout="tight", views=8))
        found[arm] = [score_votes(votes, [task], (2,))[0].tasks_solved for task in tasks]
    return found, {arm: trainer.step for arm, trainer in trainers.items()}


def trainer_of(arm: str, dataset: ArcDataset, seed: int, seconds: float) -> Trainer:
    """An arm that has not begun to learn."""
    torch.manual_seed(seed)
    model = build(arm, TRMConfig.preset("small", **SHAPE, conditioned_rows=1 + len(dataset.task_ids)))
    settings = TrainConfig(
        steps=None,
        seconds=seconds,
        **{"batch_tokens": 2048, "lr": 1e-3, "lr_matrices": 0.005, "lr_tasks": 3e-3, "ema_decay": 0.995},
        autocast=has_bfloat16(choose_device("cpu").device),
        seed=seed,
    )

    def report(metrics: dict) -> None:
        shown = {name: round(metrics[name], 3) for name in ("step", "cell_loss", "exact_at_halt", "seconds")}
        if metrics["step"] % 100 == 0:
            print(f"{arm} {seed}: {json.dumps(shown)}", file=sys.stderr, flush=True)

    return TRAINERS[arm](model, ArcSource(dataset, "tight", "symmetries"), settings, None, report, clock=process_time)


def small_tasks(source: str, max_side: int) -> list[Task]:
    """The tasks of a source whose grids are small, answers included."""
    return [
        task
        for task in load_tasks(source)
        if max(task.max_side, *(max(grid.shape) for grid in task.answers())) <= max_side
    ]


def table(solved: Sequence[dict[str, list[float]]]) -> dict:
    """Tasks solved by each arm, a mean over seeds, and its difference to `recursive`; solved: of each seed."""
    found: dict = {"n": len(solved[0]["recursive"])}
    for arm in solved[0]:
        found[arm] = round(float(np.mean([sum(one[arm]) for one in solved])), 2)
        if arm != "recursive":
            more = bootstrap([np.array(one[arm]) - np.array(one["recursive"]) for one in solved])
            mean, low, high = (round(found["n"] * value, 2) for value in more)
            found |= {f"{arm}_minus_recursive": mean, f"{arm}_minus_recursive_low": low}
            found[f"{arm}_minus_recursive_high"] = high
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="arcagi1/training", help="a set's name, a file or a folder, with answers")
    parser.add_argument("--max_side", type=int, default=5, help="largest side of a task's grids")
    parser.add_argument("--cpu_seconds", type=float, default=40.0, help="training time of each run")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, …")
    options = parser.parse_args()
    began, seeds = time.monotonic(), range(options.seeds)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        solved, steps = zip(*pool.map(run, seeds, [options] * len(seeds)), strict=True)
    row = table(solved) | {f"{arm}_steps": round(float(np.mean([one[arm] for one in steps]))) for arm in steps[0]}
    row |= {"seeds": options.seeds, "cpu_seconds_each": options.cpu_seconds}
    print(json.dumps({**row, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()

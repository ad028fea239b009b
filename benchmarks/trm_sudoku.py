"""6 × 6 Sudoku: what recursion is worth, against a single pass with the same parameters, data and time.

Own puzzles of 12 clues, each with one solution; no solution is both trained on and tested, however its digits are
called. The two models are trained at the same time, each on a core of its own, for `--core_minutes` of CPU time: what
else the machine does is no matter. Targets (at 14, which is 7 minutes of two cores): exact ≥ 50 %, and ≥ 30 points
above the single pass.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from arc_helpers.arc import wilson_interval
from arc_helpers.runs import has_bfloat16
from arc_helpers.trm import (
    TRM,
    SudokuSource,
    TrainConfig,
    Trainer,
    TRMConfig,
    as_batch,
    count_parameters,
    make_sudoku,
    solved_after_segments,
)

EXACT, POINTS = 0.50, 0.30
MODEL = TRMConfig.preset("sudoku")


def train(name: str, options: argparse.Namespace) -> dict:
    """Train and test one of the two; runs in a process of its own."""
    torch.set_num_threads(1)
    puzzles = make_sudoku(options.train, options.test, seed=options.seed)
    test = as_batch(puzzles.test)
    torch.manual_seed(options.seed)
    model = TRM(MODEL if name == "recursive" else MODEL.single_pass())
    config = TrainConfig(
        steps=None,
        seconds=60 * options.core_minutes,
        batch_tokens=64 * (36 + MODEL.prefix_len),
        ema_decay=0.995,
        autocast=has_bfloat16(model.device.type),
        seed=options.seed,
        log_every=500,
        evaluate_every=1000,
    )

    def report(metrics: dict) -> None:
        shown = {k: round(metrics[k], 3) for k in ("step", "loss", "exact_at_halt", "segments", "seconds")}
        print(name, json.dumps(shown | {"test": metrics.get("test")}), flush=True)

    def evaluate(averaged: TRM) -> dict:
        return {"test": round(solved_after_segments(averaged, test)[-1], 4)}

    trainer = Trainer(model, SudokuSource(puzzles), config, None, report, evaluate, clock=time.process_time)
    result = trainer.run()
    return {
        "curve": solved_after_segments(trainer.averaged, test),
        "steps": result["step"],
        "examples": result["examples"],
        "core_minutes": result["seconds"] / 60,
        "parameters": sum(count_parameters(model).values()),
        "bfloat16": config.autocast,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core_minutes", type=float, default=14.0, help="CPU time of each of the two models")
    parser.add_argument("--train", type=int, default=1000, help="puzzles before augmentation")
    parser.add_argument("--test", type=int, default=1000, help="puzzles")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began, names = time.monotonic(), ("recursive", "single_pass")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        recursive, control = pool.map(train, names, [options] * 2)
    exact, single = recursive["curve"][-1], control["curve"][-1]
    low, high = wilson_interval(round(exact * options.test), options.test)
    found = {
        "exact": round(exact, 4),
        "exact_low": round(low, 4),
        "exact_high": round(high, 4),
        "exact_after_first_segment": round(recursive["curve"][0], 4),
        "single_pass_exact": round(single, 4),
        "points_above_single_pass": round(100 * (exact - single), 1),
        "n": options.test,
        "train_puzzles": options.train,
        "core_minutes": round(recursive["core_minutes"], 2),
        "single_pass_core_minutes": round(control["core_minutes"], 2),
        "steps": recursive["steps"],
        "single_pass_steps": control["steps"],
        "parameters": recursive["parameters"],
        "single_pass_parameters": control["parameters"],
        "bfloat16": recursive["bfloat16"],
        "seconds": round(time.monotonic() - began, 1),
        "passed": exact >= EXACT and exact - single >= POINTS,
    }
    print(json.dumps(found))
    sys.exit(not found["passed"])


if __name__ == "__main__":
    main()

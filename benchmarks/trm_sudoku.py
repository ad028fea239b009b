"""6 × 6 Sudoku as a curve over time: what recursion is worth, against a single pass with the same parameters and data.

Own puzzles of 12 clues, each with one solution; no solution is both trained on and tested, however its digits are
called. Each of the two models is trained once for each of `--core_minutes`, a run of its own with its own schedule, in
CPU time: what else the machine does is no matter. Two runs at a time, each on a core of its own. `--lr_single` is the
single pass' own learning rate of the matrices.

The last line has the numbers of each time, as `exact_at_2`, and without a number those of the longest. Targets, at 2
minutes: exact ≥ 50 %, and ≥ 30 points above the single pass; what the longer times say is told, not asked for.
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

EXACT, POINTS, AT = 0.50, 30, 2.0
MODEL = TRMConfig.preset("sudoku")


def train(name: str, minutes: float, options: argparse.Namespace) -> dict:
    """Train and test one of the two for so many CPU minutes; runs in a process of its own."""
    torch.set_num_threads(1)
    puzzles = make_sudoku(options.train, options.test, seed=options.seed)
    test = as_batch(puzzles.test)
    torch.manual_seed(options.seed)
    model = TRM(MODEL if name == "recursive" else MODEL.single_pass())
    config = TrainConfig(
        steps=None,
        seconds=60 * minutes,
        batch_tokens=64 * (36 + MODEL.prefix_len),
        lr_matrices=options.lr_recursive if name == "recursive" else options.lr_single,
        ema_decay=0.995,
        autocast=has_bfloat16(model.device.type),
        seed=options.seed,
        log_every=500,
    )

    def report(metrics: dict) -> None:
        shown = {k: round(metrics[k], 3) for k in ("step", "loss", "exact_at_halt", "segments", "seconds")}
        print(f"{name}, {minutes:g} min:", json.dumps(shown), file=sys.stderr, flush=True)

    trainer = Trainer(model, SudokuSource(puzzles), config, None, report, clock=time.process_time)
    result = trainer.run()
    return {
        "curve": solved_after_segments(trainer.averaged, test),
        "steps": result["step"],
        "core_minutes": result["seconds"] / 60,
        "parameters": sum(count_parameters(model).values()),
    }


def row(minutes: float, recursive: dict, single: dict, n: int) -> dict:
    """The numbers of one time."""
    found: dict = {"core_minutes": round(recursive["core_minutes"], 2)}
    for name, share in (("exact", recursive["curve"][-1]), ("single_pass_exact", single["curve"][-1])):
        low, high = wilson_interval(round(share * n), n)
        found |= {name: round(share, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
    found["points_above_single_pass"] = round(100 * (found["exact"] - found["single_pass_exact"]), 1)
    found["exact_after_first_segment"] = round(recursive["curve"][0], 4)
    found |= {"steps": recursive["steps"], "single_pass_steps": single["steps"]}
    print(json.dumps({"minutes": minutes, **found}), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core_minutes", default="0.5,1,2", help="CPU time of each run, separated by commas")
    parser.add_argument("--lr_recursive", type=float, default=0.02, help="rate of the recursive model's matrices")
    parser.add_argument("--lr_single", type=float, default=0.02, help="rate of the single pass' matrices")
    parser.add_argument("--train", type=int, default=1000, help="puzzles before augmentation")
    parser.add_argument("--test", type=int, default=1000, help="puzzles")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began, minutes = time.monotonic(), sorted(float(word) for word in options.core_minutes.split(","))
    jobs = [(name, at) for at in reversed(minutes) for name in ("recursive", "single_pass")]  # the longest first
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        made = dict(zip(jobs, pool.map(train, *zip(*jobs, strict=True), [options] * len(jobs)), strict=True))
    rows = {at: row(at, made["recursive", at], made["single_pass", at], options.test) for at in minutes}
    found = {f"{name}_at_{at:g}": value for at, values in rows.items() for name, value in values.items()}
    found |= {**rows[minutes[-1]], "n": options.test, "train_puzzles": options.train}
    asked = rows.get(AT)
    passed = asked is None or (asked["exact"] >= EXACT and asked["points_above_single_pass"] >= POINTS)
    parameters = {made[job]["parameters"] for job in jobs}
    same = {"parameters": parameters.pop(), "same_parameters": not parameters}
    print(json.dumps({**found, **same, "seconds": round(time.monotonic() - began, 1), "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

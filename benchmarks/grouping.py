"""Which tasks should train together? The five strategies on the same tasks: padding, time and what is learned.

Small evaluation tasks of ARC-AGI-1 without their answers, trained as the laptop profile says but for fewer steps. Rows:
each strategy with adapters of their own from the start, and `length` and `family` with a quarter of the steps spent on
one adapter of the whole group before it is split (`group_steps`), since only then does it matter who is beside whom.
`loss`: nats a token, mean of each task's last ten steps; `held`: of its first demonstration as a question, which the
training did not see. CPU seconds of training, one thread.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from arc_helpers.arc import Task, load_tasks
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import encode
from arc_helpers.runs import load_profile
from arc_helpers.ttt.cache import prepare, slot_losses
from arc_helpers.ttt.features import task_features
from arc_helpers.ttt.group import group_start, new_model
from arc_helpers.ttt.grouping import STRATEGIES, group_tasks, training_length
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import TTTSettings, settings_from
from arc_helpers.ttt.trainer import Job, MultiLoraTrainer

K = 4


def held_out(task: Task) -> tuple[Task, Task]:
    """The task without its first demonstration, and that one as the question behind the others."""
    rest = replace(task, train=task.train[1:])
    return rest, replace(rest, test=task.train[:1])


def train(lm: LoadedLM, group: list[Task], settings: TTTSettings) -> tuple[list[float], list[float], int, int]:
    """Last losses and losses on the held-out demonstrations, a task each; tokens and padded tokens."""
    shown, asked = zip(*map(held_out, group), strict=True)
    model = new_model(lm, [task.id for task in group], settings)
    pools = prepare(model, [sorted(encode_pool(lm, task, settings)[0], key=len) for task in shown])
    start = group_start(lm, shown, pools, settings) if settings.group_steps else None
    trainer = MultiLoraTrainer(model, seed=settings.seed)
    jobs = [Job(t.id, pool, settings.steps, settings.lr, start) for t, pool in zip(group, pools, strict=True)]
    last = [float(np.mean(job.losses[-10:])) for job in trainer.run(jobs)]
    questions = [encode(task, lm.prompt_form, max_len=lm.max_len) for task in asked]
    with torch.no_grad():
        held = slot_losses(model, questions, torch.arange(len(group))).tolist()
    return last, held, trainer.cost.tokens, trainer.cost.padded_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/arc-micro", help="folder of the model")
    parser.add_argument("--tasks", type=int, default=16, help="how many tasks")
    parser.add_argument("--steps", type=int, default=40, help="training steps of a task")
    parser.add_argument("--max-side", type=int, default=10, help="longest side of a grid, in cells")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lm = load_causal_lm(options.model)
    settings = replace(settings_from(load_profile("laptop").multilora_ttt, seed=0), k=K, steps=options.steps)
    tasks = [t.without_answers() for t in load_tasks("arcagi1/evaluation")]
    tasks = [t for t in tasks if t.max_side <= options.max_side and len(t.train) > 2][: options.tasks]
    lengths = [training_length(task, lm.prompt_form) for task in tasks]
    shared = options.steps // 4
    rows = [(strategy, 0) for strategy in STRATEGIES] + [("length", shared), ("family", shared), ("random", shared)]
    result: dict[str, float] = {"tasks": len(tasks), "steps": options.steps}
    print("| grouping | group steps | padding | CPU seconds | loss | held-out loss |\n|---|---|---|---|---|---|")
    by_row: dict[str, dict[str, float]] = {}
    for strategy, steps in rows:
        started = time.process_time()
        groups = group_tasks(tasks, lengths, K, strategy=strategy, features=partial(task_features, lm))
        found = [train(lm, g, replace(settings, group_steps=steps, steps=options.steps - steps)) for g in groups]
        seconds = time.process_time() - started
        last, held = ([x for f in found for x in f[i]] for i in (0, 1))
        name = strategy if not steps else f"{strategy}_shared"
        by_row[name] = dict(zip([t.id for g in groups for t in g], held, strict=True))
        padding = sum(f[3] for f in found) / sum(f[2] for f in found)
        print(f"| {strategy} | {steps} | {padding:.3f} | {seconds:.1f} | {np.mean(last):.3f} | {np.mean(held):.3f} |")
        numbers = {"padding": padding, "seconds": seconds, "loss": np.mean(last), "held": np.mean(held)}
        result |= {f"{name}_{key}": round(float(value), 4) for key, value in numbers.items()}
    # who is beside whom changes no result without shared steps
    apart = max(abs(by_row[s][t] - by_row["length"][t]) for s in STRATEGIES for t in by_row["length"])
    shares = np.array([by_row["length_shared"][t] - by_row["length"][t] for t in by_row["length"]])
    drawn = np.random.default_rng(0).integers(len(shares), size=(2000, len(shares)))
    low, high = np.percentile(shares[drawn].mean(axis=1), [2.5, 97.5])
    result |= {"held_apart": apart, "shared_minus_own": round(float(shares.mean()), 4)}
    result |= {"shared_low": round(float(low), 4), "shared_high": round(float(high), 4)}
    print(json.dumps({**result, "passed": apart < 0.05}))
    sys.exit(apart >= 0.05)


if __name__ == "__main__":
    main()

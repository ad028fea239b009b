"""Which tasks should train together? The five strategies on the same tasks: padding, time and what is learned.

Small evaluation tasks of ARC-AGI-1 without their answers, trained as the laptop profile says but for fewer steps.
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
from arc_helpers.ttt.group import new_model
from arc_helpers.ttt.grouping import STRATEGIES, group_tasks, training_length
from arc_helpers.ttt.jobs import Job
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import TTTSettings, settings_from
from arc_helpers.ttt.trainer import MultiLoraTrainer

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
    trainer = MultiLoraTrainer(model, seed=settings.seed)
    jobs = [Job(t.id, pool, settings.steps, settings.lr) for t, pool in zip(group, pools, strict=True)]
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
    result: dict[str, float] = {"tasks": len(tasks), "steps": options.steps}
    print("| grouping | padding | CPU seconds | loss | held-out loss |\n|---|---|---|---|---|")
    by_row: dict[str, dict[str, float]] = {}
    for name in STRATEGIES:
        started = time.process_time()
        groups = group_tasks(tasks, lengths, K, strategy=name, features=partial(task_features, lm))
        found = [train(lm, g, settings) for g in groups]
        seconds = time.process_time() - started
        last, held = ([x for f in found for x in f[i]] for i in (0, 1))
        by_row[name] = dict(zip([t.id for g in groups for t in g], held, strict=True))
        padding = sum(f[3] for f in found) / sum(f[2] for f in found)
        print(f"| {name} | {padding:.3f} | {seconds:.1f} | {np.mean(last):.3f} | {np.mean(held):.3f} |")
        numbers = {"padding": padding, "seconds": seconds, "loss": np.mean(last), "held": np.mean(held)}
        result |= {f"{name}_{key}": round(float(value), 4) for key, value in numbers.items()}
    # who is beside whom changes no result
    apart = max(abs(by_row[s][t] - by_row["length"][t]) for s in STRATEGIES for t in by_row["length"])
    print(json.dumps({**result, "held_apart": apart, "passed": apart < 0.05}))
    sys.exit(apart >= 0.05)


if __name__ == "__main__":
    main()

"""What each depth of adapters brings at equal budget: head, top_m, full, and full trained task by task with PEFT.

Labelled training tasks that the base was not pretrained on and that no set scores. On each, every side trains an
adapter on the same pseudo-tasks with the same steps, rate, clip and first weights (LoRA alone, no vocabulary), and is
then asked the task's test inputs: nats a token of the right answer, and whether every token of it is the likeliest one
(then greedy decoding writes it). Differences are paired by task, with bootstrap intervals; solved tasks with Wilson's.
The budget is small, so that this ends: few steps, sequences of at most 1024 tokens.

`--shard 0/3 --out FILE` does a third of the tasks and keeps their records; `--merge FILE …` reads such files instead.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft_reference import ALPHA, CLIP, DECAY, R, SequentialPeft
from torch import nn

from arc_helpers.arc import Task, wilson_interval
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import IGNORE, TaskTooLong, encode
from arc_helpers.pretrain.corpus import held_out_tasks
from arc_helpers.runs import choose_device
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.depths import score_answers_of
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import train_slots

OURS = {
    "head": {"mode": "head"},
    "top_m": {"mode": "top_m", "train_vocab": False},
    "full": {"mode": "full", "train_vocab": False},
}
SIDES = ("untrained", *OURS, "separate")
PAIRS = (("full", "separate"), ("top_m", "full"), ("head", "full"), ("top_m", "untrained"), ("full", "untrained"))
TASKS, STEPS, MAX_LEN, K, LR = 200, 10, 1024, 4, 3e-3
BOOTSTRAPS, SAME = 10_000, 1e-4  # nats a token that make no difference to anybody


def chosen_tasks(lm: LoadedLM, n: int) -> list[Task]:
    """The n shortest held-out tasks whose every question fits with its answer, of two demonstrations or more."""

    def fits(task: Task) -> bool:
        try:
            return all(
                len(encode(task, lm.prompt_form, test_index=i, max_len=lm.max_len)) for i in range(len(task.test))
            )
        except TaskTooLong:
            return False

    tasks = [task for task in held_out_tasks(30) if len(task.train) > 1 and fits(task)]
    return sorted(tasks, key=lambda task: (tokens(task), task.id))[:n]


def tokens(task: Task) -> int:
    return sum(grid.size + len(grid) + 1 for pair in task.train for grid in (pair.input, pair.output))


def measured(lm: LoadedLM, twin: LoadedLM, tasks: Sequence[Task], settings: TTTSettings) -> list[dict]:
    """A record a task, of tasks that train together: {"task", and by side "nll", "exact" and CPU "seconds"}. `twin` is
    the same base again, which PEFT changes."""
    records = [{"task": task.id, "nll": {}, "exact": {}, "seconds": {}} for task in tasks]

    def note(side: str, began: float, found: Sequence[tuple[float, bool]]) -> None:
        for record, (nll, exact) in zip(records, found, strict=True):
            record["nll"][side], record["exact"][side] = nll, exact
            record["seconds"][side] = (time.process_time() - began) / len(records)

    for side, options in OURS.items():
        began = time.process_time()
        model = MultiLoRAModel(lm, [task.id for task in tasks], r=R, lora_alpha=ALPHA, **options)
        own = replace(settings, mode=model.mode)
        pools = [encode_pool(lm, task.without_answers(), own)[0] for task in tasks]
        if side == "head":
            note("untrained", began, [score_answers_of(model, k, task) for k, task in enumerate(tasks)])
        if side == "full":
            note("separate", began, separately(twin, model, pools, tasks))
        began = time.process_time()
        train_slots(
            model, prepare(model, pools), steps=STEPS, lr=LR, weight_decay=DECAY, max_grad_norm=CLIP, warmup=0.0
        )
        note(side, began, [score_answers_of(model, k, task) for k, task in enumerate(tasks)])
    return records


def separately(lm: LoadedLM, start: MultiLoRAModel, pools: Sequence[Sequence], tasks: Sequence[Task]) -> list:
    """(nats a token, all exact) of each task after PEFT's own training of one adapter after another."""
    peft, found = SequentialPeft(lm, start), []
    for k, (task, pool) in enumerate(zip(tasks, pools, strict=True)):
        peft.activate(k)
        order = np.random.default_rng(0).permutation(len(pool))  # as train_slots shuffles a pool
        for step in range(STEPS):
            peft.step(k, pool[order[step % len(order)]], LR * (1 - step / STEPS))
        found.append(score_peft(peft, lm, task))
    peft.model.unload()
    return found


@torch.no_grad()
def score_peft(peft: SequentialPeft, lm: LoadedLM, task: Task) -> tuple[float, bool]:
    losses, exact = [], True
    for i in range(len(task.test)):
        example = encode(task, lm.prompt_form, test_index=i, max_len=lm.max_len)
        labels = torch.from_numpy(example.labels)[1:]
        logits = peft.model(input_ids=torch.from_numpy(example.input_ids)[None], use_cache=False).logits[0, :-1]
        losses.append(nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE).item())
        counted = labels != IGNORE
        exact &= bool((logits.argmax(dim=-1) == labels)[counted].all())
    return float(np.mean(losses)), exact


def shard(model: str, n_tasks: int, index: int, of: int) -> list[dict]:
    """The records of every `of`-th group of tasks, from the `index`-th on."""
    torch.set_num_threads(1)
    lm, twin = (load_causal_lm(model, device=choose_device("cpu").device, max_len=MAX_LEN) for _ in range(2))
    tasks, settings = chosen_tasks(lm, n_tasks), TTTSettings(num_pseudo=STEPS)
    records = []
    for first in range(index * K, len(tasks), of * K):
        records += measured(lm, twin, tasks[first : first + K], settings)
        print(f"shard {index}/{of}: {len(records)} tasks", file=sys.stderr, flush=True)
    return records


def bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of their mean."""
    rows = np.random.default_rng(0).integers(0, len(differences), (BOOTSTRAPS, len(differences)))
    return tuple(np.percentile(differences[rows].mean(axis=1), [2.5, 97.5]))


def report(records: Sequence[dict]) -> dict:
    """The flat summary."""
    nll = {side: np.array([record["nll"][side] for record in records]) for side in SIDES}
    result: dict = {"tasks": len(records), "steps": STEPS, "max_len": MAX_LEN}
    for side in SIDES:
        solved = sum(record["exact"][side] for record in records)
        low, high = wilson_interval(solved, len(records))
        result |= {f"{side}_nll": round(nll[side].mean(), 4), f"{side}_solved": solved}
        result |= {f"{side}_solved_low": round(low, 4), f"{side}_solved_high": round(high, 4)}
        seconds = np.mean([record["seconds"][side] for record in records])
        result |= {f"{side}_cpu_seconds_per_task": round(float(seconds), 2)} if side != "untrained" else {}
    for one, other in PAIRS:
        differences = nll[one] - nll[other]
        low, high = bootstrap(differences)
        name = f"{one}_minus_{other}"
        result |= {name: round(differences.mean(), 6), f"{name}_low": round(low, 6), f"{name}_high": round(high, 6)}
    difference = nll["full"] - nll["separate"]
    low, high = bootstrap(difference)
    result["full_minus_separate_max"] = round(float(np.abs(difference).max()), 6)
    result["passed"] = bool(len(records) >= TASKS and (low <= 0 <= high or max(abs(low), abs(high)) < SAME))
    return result


def merged(paths: Iterable[Path]) -> list[dict]:
    """The records of shards, each task once. Raises ValueError where one is in two of them."""
    records = [record for path in paths for record in json.loads(path.read_text())]
    if len({record["task"] for record in records}) < len(records):
        raise ValueError("--merge: a task is in two of the files; shards of one run are needed")
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models/arc-micro")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--shard", help="INDEX/OF: only a part of the tasks")
    parser.add_argument("--out", type=Path, help="where its records go")
    parser.add_argument("--merge", type=Path, nargs="+", help="files that --out wrote")
    options = parser.parse_args()
    if options.merge:
        records = merged(options.merge)
    elif options.shard:
        records = shard(options.model, options.tasks, *map(int, options.shard.split("/")))
    else:
        with ProcessPoolExecutor(2) as pool:
            halves = pool.map(shard, *zip(*((options.model, options.tasks, i, 2) for i in range(2)), strict=True))
            records = [record for half in halves for record in half]
    if options.out:
        options.out.write_text(json.dumps(records))
    result = report(records)
    print(json.dumps(result))
    sys.exit(not result["passed"] and not options.shard)


if __name__ == "__main__":
    main()

"""Does a language model help TRM, and can what it has read replace the task's identity? Does trying again help?

Small tasks of known rules (arc_helpers/hybrid/rules.py) on a 5 × 5 canvas. The frozen arc-micro reads three
demonstrations; TRM sees the test input alone, so what it knows of the rule has come over the bridge. Asked are new
inputs of learned tasks (`seen`), new tasks of learned rule families (`variants`), and families that TRM and bridge have
never seen (`unseen`; arc-micro itself was pretrained on tasks of all of them). Every arm gets the same examples in the
same order, the same steps and the same TRM:

    joint       the states that belong to the task
    shuffled    those of another task, in training and when asked; zeroed: states of zeros
    random_llm  states of the same architecture with random weights
    trm_alone   nothing; task_id: a trained vector a task, which exists for `seen` alone
    llm_alone   not trained: arc-micro's own greedy answer, with the test input in its prompt

Self-correction: the joint model is trained on for a few steps with feedback; then `variants` are attempted 16 times,
each attempt hearing of the one before and none of them of an answer, against 16 independent views with voting.

A piece is an arm of one seed, is kept in --folder, and is not computed again; a call without --arm computes all that
are missing, two at a time, and the table. Intervals: bootstrap over seeds and tasks. Nothing here can fail: the table
is the result, whatever it says.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from arc_helpers.arc import Pair, Task
from arc_helpers.hybrid.ablation import ARMS, bootstrap, build_arm, is_right, solved, trm_shape
from arc_helpers.hybrid.attempts import ranked, solve
from arc_helpers.hybrid.model import HybridConfig, HybridModel
from arc_helpers.hybrid.questions import Example
from arc_helpers.hybrid.rules import RuleSets, draw_rule_sets
from arc_helpers.hybrid.saved import load_hybrid, save_hybrid
from arc_helpers.hybrid.train import JointConfig, JointTrainer
from arc_helpers.lm.loading import load_causal_lm
from arc_helpers.pretrain.held_out import held_out_score
from arc_helpers.runs import RunFolder, atomic_write_json, choose_device, code_fingerprint, has_bfloat16, output_path

SIDE, ASKED, KS = 5, ("seen", "variants", "unseen"), (1, 2, 4, 8, 16)
DEVICE = choose_device("cpu").device  # CPU seconds are what is compared
PIECES = (*ARMS, "llm_alone", "correction")  # correction needs the model of joint


def draw(o: argparse.Namespace, seed: int) -> RuleSets:
    return draw_rule_sets(seed, side=SIDE, tasks=o.tasks, asked=o.asked)


def train(model: HybridModel, examples: list[Example], settings: JointConfig, name: str) -> float:
    """CPU seconds that it took."""

    def report(metrics: dict) -> None:
        shown = {k: round(v, 3) for k, v in metrics.items()}
        print(f"{name}: {json.dumps(shown)}", file=sys.stderr, flush=True)

    return JointTrainer(model, examples, settings, on_metrics=report, clock=time.process_time).run()["seconds"]


def run_arm(arm: str, seed: int, o: argparse.Namespace) -> dict:
    """What an arm solves of each set, question by question."""
    sets, lm = draw(o, seed), load_causal_lm("models/arc-micro", device=DEVICE)
    model = build_arm(arm, lm, trm_shape(64, 2), HybridConfig(canvas_side=SIDE, show_question=False), sets.rows, seed)
    began = time.process_time()
    model.first_states([example.question for example in sets.train])  # read once; its time is told apart
    reading, batch = time.process_time() - began, 64
    autocast = has_bfloat16(DEVICE)
    settings = JointConfig(steps=o.steps, batch_size=batch, max_attempts=1, autocast=autocast, seed=seed, log_every=100)
    row = {"seconds": train(model, sets.train, settings, f"{arm} {seed}"), "reading_seconds": reading}
    row |= {"steps": o.steps, "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}
    for name in ASKED if arm != "task_id" else ASKED[:1]:
        row[name] = solved(model, getattr(sets, name)).tolist()
    row["train"] = solved(model, sets.train[:200]).tolist()
    if arm == "joint":
        for control in ("shuffled", "zeroed"):  # the trained model, its states taken away only now
            model.config = replace(model.config, control=control)
            row[f"variants_then_{control}"] = solved(model, sets.variants).tolist()
        model.config = replace(model.config, control="none")
        save_hybrid(model, output_path(o.folder) / f"joint_{seed}")
    return row


def run_correction(seed: int, o: argparse.Namespace) -> dict:
    """Train joint on with feedback; then right or wrong after k attempts, and after k views, by each rule of choice."""
    sets = draw(o, seed)
    lm = load_causal_lm("models/arc-micro", device=DEVICE)
    model = load_hybrid(output_path(o.folder) / f"joint_{seed}", lm)
    settings = JointConfig(
        steps=o.feedback_steps, batch_size=16, max_attempts=2, feedback_every=1, lr=5e-4, lr_matrices=5e-3, seed=seed
    )
    row = {"feedback_seconds": train(model, sets.train, settings, f"feedback {seed}")}
    examples = sets.variants[: o.corrected]
    questions = [example.question for example in examples]
    for name, how in (("attempts", {"attempts": KS[-1], "stop": False}), ("views", {"attempts": 1, "views": KS[-1]})):
        began = time.process_time()
        answers = solve(model, questions, seed=seed, **how)
        row[f"{name}_seconds"] = time.process_time() - began
        per = len(answers) // len(questions)
        tried = [sum((a.attempts for a in answers[i * per : (i + 1) * per]), ()) for i in range(len(questions))]
        for k in KS:
            for rule in ("votes", "q", "last"):
                best = [ranked(t[:k], rule)[:1] for t in tried]
                row[f"{name}_{k}_{rule}"] = [
                    is_right(*b, e) if b else False for b, e in zip(best, examples, strict=True)
                ]
            any_right = [any(is_right(a.grid, e) for a in t[:k]) for t, e in zip(tried, examples, strict=True)]
            row[f"{name}_{k}_any"] = any_right
        distinct = [len({a.grid.tobytes() for a in t if a.grid is not None}) for t in tried]
        row[f"{name}_distinct"] = distinct
    return row


def run_llm_alone(seed: int, o: argparse.Namespace) -> dict:
    """arc-micro's greedy answers."""
    sets, lm, row = draw(o, seed), load_causal_lm("models/arc-micro", device=DEVICE), {}
    for name in ASKED:
        tasks = [
            Task(e.question.task_id, e.question.demonstrations, (Pair(e.question.input, e.answer),))
            for e in getattr(sets, name)
        ]
        scores = (held_out_score(lm.model, [task], lm.prompt_form, lm.max_len) for task in tasks)
        row[name] = [bool(score["held_out_exact"]) for score in scores]
    return row


def compute(piece: str, seed: int, o: argparse.Namespace) -> None:
    """One piece, unless it is there already."""
    path = output_path(o.folder) / f"{piece}_{seed}.json"
    if not path.exists():
        torch.set_num_threads(1)
        own = {"llm_alone": run_llm_alone, "correction": run_correction}
        row = own[piece](seed, o) if piece in own else run_arm(piece, seed, o)
        atomic_write_json(path, {**row, "cpu_seconds": time.process_time()}, indent=None)


def compute_all(o: argparse.Namespace) -> None:
    """Every piece that is missing, in processes of one thread. None begins after --minutes."""
    began = time.monotonic()

    def alone(task: tuple[str, int]) -> None:
        path = output_path(o.folder) / f"{task[0]}_{task[1]}.json"
        if not path.exists() and time.monotonic() - began < 60 * o.minutes:
            words = [f"--{name}={getattr(o, name)}" for name in vars(o) if name not in ("arm", "seed")]
            command = [sys.executable, __file__, "--arm", task[0], "--seed", str(task[1]), *words]
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)

    for group in (PIECES[:-1], PIECES[-1:]):
        with ThreadPoolExecutor(o.jobs) as pool:
            list(pool.map(alone, [(piece, seed) for seed in range(o.seeds) for piece in group]))


def table(rows: dict[str, list[dict]]) -> dict:
    """The flat result: shares with intervals, and what the joint arm has over each other one, paired by task."""
    found: dict[str, float] = {}

    def enter(name: str, per_seed: list) -> None:
        values = bootstrap([np.asarray(v, dtype=float) for v in per_seed])
        for suffix, value in zip(("", "_low", "_high"), values, strict=True):
            found[name + suffix] = round(value, 4)

    def enter_difference(name: str, ones: list[list], others: list[list]) -> None:
        enter(name, [np.subtract(a, b, dtype=float) for a, b in zip(ones, others, strict=True)])

    arms = [piece for piece in PIECES if piece != "correction"]
    for arm in arms:
        for name in (name for name in (*ASKED, "train") if name in rows[arm][0]):
            enter(f"{arm}_{name}", [row[name] for row in rows[arm]])
            if arm != "joint" and name != "train":
                ours, theirs = ([row[name] for row in rows[which]] for which in ("joint", arm))
                enter_difference(f"joint_minus_{arm}_{name}", ours, theirs)
    for control in ("shuffled", "zeroed"):
        name = f"variants_then_{control}"
        enter(name, [row[name] for row in rows["joint"]])
    tried = {name: [row[name] for row in rows["correction"]] for name in rows["correction"][0]}
    for name, values in tried.items():
        if name.startswith(("attempts_", "views_")) and not name.endswith("seconds"):
            enter(name, values)
    enter_difference("attempts_minus_views_16", tried["attempts_16_votes"], tried["views_16_votes"])
    enter_difference("attempts_16_minus_1", tried["attempts_16_last"], tried["attempts_1_last"])
    found |= {name: round(float(np.mean(tried[name])), 1) for name in ("attempts_seconds", "views_seconds")}
    found |= {f"{arm}_seconds": round(float(np.mean([row["seconds"] for row in rows[arm]])), 1) for arm in ARMS}
    found["cpu_seconds"] = round(sum(row["cpu_seconds"] for piece in PIECES for row in rows[piece]), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm", choices=PIECES, help="only this one, of --seed")
    parser.add_argument("--seed", type=int, default=0, help="of --arm")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, …: tasks, weights and order")
    parser.add_argument("--steps", type=int, default=400, help="training steps of an arm, 64 questions each")
    parser.add_argument("--tasks", type=int, default=600, help="learned tasks, 6 questions each")
    parser.add_argument("--asked", type=int, default=100, help="questions of each test set")
    parser.add_argument(
        "--feedback_steps", type=int, default=100, help="further steps with feedback, 16 questions each"
    )
    parser.add_argument("--corrected", type=int, default=100, help="questions attempted 16 times")
    parser.add_argument("--jobs", type=int, default=2, help="pieces computed at the same time, one thread each")
    parser.add_argument("--minutes", type=float, default=60, help="begin no piece later than this")
    parser.add_argument("--folder", default="artifacts/hybrid_ablation", help="where pieces are kept")
    o = parser.parse_args()
    if o.arm:
        compute(o.arm, o.seed, o)
        return
    deciding = {name: getattr(o, name) for name in ("steps", "tasks", "asked", "feedback_steps", "corrected")}
    own = RunFolder(output_path(o.folder), "hybrid_ablation", deciding, {"code": code_fingerprint()}, goes_on=True)
    print(f"{o.folder}: {own.open().verb}", flush=True)
    compute_all(o)
    own.release()
    wanted = {
        (piece, seed): output_path(o.folder) / f"{piece}_{seed}.json" for piece in PIECES for seed in range(o.seeds)
    }
    missing = [f"{piece} {seed}" for (piece, seed), path in wanted.items() if not path.exists()]
    if missing:
        sys.exit(f"still missing, call again: {', '.join(missing)}")
    rows: dict[str, list[dict]] = {piece: [] for piece in PIECES}
    for (piece, _), path in wanted.items():
        rows[piece].append(json.loads(Path(path).read_text(encoding="utf-8")))
    settings = {name: getattr(o, name) for name in ("seeds", "steps", "tasks", "asked", "corrected")}
    print(json.dumps({**table(rows), **settings, "passed": True}))


if __name__ == "__main__":
    main()

"""Small ARC tasks with a TRM from nothing: pass@2 of the ARC-AGI-1 evaluation tasks, and the control without a task.

Trained on the demonstrations of the evaluation tasks (test-time training, built in), as far as their grids are small;
scored from a saved submission, the only step that reads answers. `--preset cpu`: grids up to 10 × 10, 78 evaluation
tasks by what they show, 77 with their answers, and nothing beside them, since in so little time the training tasks are
a detour; 10 minutes of CPU time of each process (`torchrun --nproc-per-node 2` uses two cores).
`--preset gpu`: also all pairs of the training and ConceptARC tasks, grids up to 16 × 16 and 64 views, for one H200 or,
by torchrun, several. `--arm` trains or asks in another way: `benchmarks/trm_arms.py` says what they are, and compares
them. Target: clearly above the blank control.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

from arc_helpers.arc import SubmissionWriter, load_tasks, num_tests_of, score_submission
from arc_helpers.runs import (
    RunFolder,
    append_record,
    choose_device,
    code_fingerprint,
    has_bfloat16,
    output_path,
    take_gpu,
)
from arc_helpers.trm import (
    TRM,
    ArcDataset,
    ArcSource,
    TrainConfig,
    TRMConfig,
    build_arc_dataset,
    count_parameters,
    predict,
    save_trm,
    score_segments,
    score_votes,
    vote,
    write_votes,
)
from benchmarks.trm_arms import ARMS, TRAINERS, ask, build

SCORED = "arcagi1/evaluation"
PRESETS = {
    "cpu": {
        "model": TRMConfig.preset("small"),
        "data": {"subsets": ("evaluation",), "max_side": 10},
        "source": {"layout": "tight", "augment": "symmetries"},
        # weights that are applied six times over want small steps: with 0.02 and 3e-3 1.52 nats a cell, here 1.19
        "train": {"batch_tokens": 2048, "lr": 1e-3, "lr_matrices": 0.005, "lr_tasks": 3e-3, "ema_decay": 0.995},
        "views": 8,
        "minutes": 10.0,
    },
    "gpu": {
        "model": TRMConfig.preset("compact"),
        "data": {"subsets": ("training", "evaluation", "concept"), "max_side": 16},
        "source": {"layout": "tight", "augment": "colors"},
        "train": {
            "batch_tokens": 200_000,
            "lr": 1e-3,
            "lr_tasks": 1e-2,
            "warmup_steps": 200,
            "autocast": True,
            "compile": True,
        },
        "views": 64,
        "minutes": 22.0,
    },
}


def train(preset: dict, dataset: ArcDataset, options: argparse.Namespace, folder: Path) -> tuple[TRM, dict]:
    """The averaged model and what became of the training."""
    config = replace(preset["model"], conditioned_rows=1 + len(dataset.task_ids))
    device = choose_device().device
    torch.manual_seed(options.seed)
    model = build(options.arm, config).to(device)
    source = ArcSource(dataset, **preset["source"])
    fixed = {"steps": None, "seconds": 60 * options.minutes, "seed": options.seed, "log_every": 100}
    settings = TrainConfig(**{**preset["train"], **fixed})
    settings = replace(settings, autocast=has_bfloat16(device), compile=settings.compile and device == "cuda")
    print(count_parameters(model), f"{source.tokens} tokens of {source.real_tokens} cells", settings, flush=True)

    def report(metrics: dict) -> None:
        append_record(folder / "metrics.jsonl", metrics)
        shown = ("step", "examples", "cell_loss", "exact_at_halt", "segments", "segments_per_second", "seconds")
        print(json.dumps({name: round(metrics[name], 4) for name in shown}), flush=True)

    clock = time.process_time if device == "cpu" else time.monotonic
    trainer = TRAINERS[options.arm](model, source, settings, folder / "checkpoint.pt", report, clock=clock)
    return trainer.averaged, trainer.run()


def evaluate(arm: str, model: TRM, dataset: ArcDataset, preset: dict, folder: Path) -> dict:
    """Vote, write a submission, and score the file; beside it the same without a task, and each segment alone."""
    views, layout = preset["views"], preset["source"]["layout"]
    how = {"layout": layout, "views": views, "colors": preset["source"]["augment"] == "colors"}
    how["batch_tokens"] = max(16384, preset["train"]["batch_tokens"])
    predictions = ask(arm, model, dataset, every_segment=True, **how)
    blank = predict(model, dataset, blank=True, **how)
    labelled = [task for task in load_tasks(SCORED) if task.id in dataset.scored_ids]
    dataset.check_guard(labelled)
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(labelled))
    write_votes(writer, vote(predictions), labelled)
    score = score_submission(writer.path, labelled)
    one, two = score_votes(vote(predictions), labelled, (1, 2))
    single = [p for p in predictions if p.view == "r0f0-c0123456789"]
    fits = [t for t in labelled if all(max(g.shape) <= dataset.options.max_side for g in t.answers())]
    return {
        "pass2_tasks": score.tasks_solved,
        "pass2": round(score.task_score, 4),
        "n": score.n_tasks,
        "ci_low": round(score.ci_low, 4),
        "ci_high": round(score.ci_high, 4),
        "pass1_score_tasks": round(one.tasks_solved, 2),
        "pass2_score_tasks": round(two.tasks_solved, 2),
        "n_answers_fit": len(fits),
        "blank_pass2_tasks": round(score_votes(vote(blank), labelled, (2,))[0].tasks_solved, 2),
        "single_view_pass1": round(score_votes(vote(single), labelled, (1,))[0].tasks_solved, 2),
        "views": views,
        **{f"segment_{n}": round(share, 4) for n, share in score_segments(predictions, labelled).items()},
    }


def opened(folder: Path, options: argparse.Namespace) -> RunFolder:
    """The folder as this run's own. The same preset goes on in it, say with more minutes; another one is set aside."""
    asked = {name: getattr(options, name) for name in ("preset", "arm", "seed")}
    own = RunFolder(folder, "trm_small_arc", asked, {"code": code_fingerprint()}, goes_on=True)
    if int(os.environ.get("RANK", 0)) == 0:
        verdict = own.open()
        print(f"{folder}: {verdict.verb} {verdict.why}", flush=True)
    if dist.is_initialized():
        dist.barrier()  # until then its content is not settled
    return own


def trainer_ranks() -> tuple[int, bool]:
    """How many processes trained, and whether this is the one that goes on."""
    if not dist.is_initialized():
        return 1, True
    size, first = dist.get_world_size(), dist.get_rank() == 0
    dist.destroy_process_group()
    return size, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--minutes", type=float, help="training time: of CPU on one core, of the clock on a GPU")
    parser.add_argument("--arm", choices=ARMS, default="recursive", help="how it is trained and asked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=str, help="keep the data set, the model and the submission here, and resume")
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    options.minutes = options.minutes or preset["minutes"]
    if "RANK" in os.environ:  # torchrun
        dist.init_process_group("nccl" if take_gpu(int(os.environ["LOCAL_RANK"])) else "gloo")
    torch.set_num_threads(1)
    began = time.monotonic()
    with TemporaryDirectory() as scratch:
        folder = output_path(options.out or scratch)
        own = opened(folder, options)
        dataset = build_arc_dataset("arcagi1", folder / "dataset", num_aug=0, seed=options.seed, **preset["data"])
        print(f"{len(dataset.task_ids)} tasks, {len(dataset.scored_ids)} of them scored", flush=True)
        model, result = train(preset, dataset, options, folder)
        processes, first = trainer_ranks()
        if not first:
            return
        if options.arm != "convolution":  # a folder knows no such layer
            save_trm(model, folder / "model", dataset, steps=result["step"])
        found = evaluate(options.arm, model, dataset, preset, folder)
        own.finish()
    found |= {
        "arm": options.arm,
        "parameters": sum(count_parameters(model).values()),
        "steps": result["step"],
        "examples": processes * result["examples"],
        "train_exact_at_halt": round(result["exact_at_halt"], 4),
        "training_minutes": round(result["seconds"] / 60, 2),
        "processes": processes,
        "device": model.device.type,
        "seconds": round(time.monotonic() - began, 1),
        "passed": found["ci_low"] > found["blank_pass2_tasks"] / found["n"],
    }
    print(json.dumps(found))
    sys.exit(not found["passed"])


if __name__ == "__main__":
    main()

"""Make a base model from the command line: what notebook 00 tells, on one device or, by torchrun, on several.

    python -m arc_helpers.pretrain.base_run profile=gpu out_dir=artifacts/base deadline_seconds=900
    python -m arc_helpers.pretrain.base_run profile=laptop out_dir=artifacts/tuned base=models/smollm2-135m
    torchrun --nproc-per-node 8 -m arc_helpers.pretrain.base_run profile=gpu out_dir=artifacts/base

The knobs are the notebook's (`python -m arc_helpers run 00 --help` lists them), and one more: `stop_after`, seconds
after which this call saves and ends although the run is not over. The same command goes on from there.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.pretrain.corpus import build_curriculum, held_out_tasks
from arc_helpers.pretrain.curriculum import Curriculum
from arc_helpers.pretrain.export import model_card, save_model
from arc_helpers.pretrain.finetune import AdapterSettings, FineTuned, merge_adapter
from arc_helpers.pretrain.held_out import held_out_score
from arc_helpers.pretrain.processes import Processes
from arc_helpers.pretrain.settings import PretrainConfig
from arc_helpers.pretrain.trainer import Pretrainer
from arc_helpers.runs import ConfigError, choose_device, has_bfloat16, output_path, resolve, seed_everything, start
from arc_helpers.runs.notebook import parse_words

NOTEBOOK = "00_base_model"
SCORE = ("held_out_loss", "held_out_exact", "held_out_tasks")
TRAINING = 0.9  # of the time that is left is for training; then the model is scored, saved and read again


def corpus_from(
    knobs: Any, prompt_form: PromptForm, seed: int, max_len: int | None = None
) -> tuple[Curriculum, dict[str, int], list[str]]:
    """`build_curriculum` with the knobs of notebook 00; max_len: of a base whose context is shorter than asked for."""
    return build_curriculum(
        prompt_form,
        arc_training=knobs.arc_training,
        re_arc_path=knobs.re_arc,
        concept_arc_path=knobs.concept_arc,
        procedural_share=knobs.procedural_share,
        pair_share=knobs.pair_share,
        enlarge_share=knobs.enlarge_share,
        max_side=knobs.max_side,
        max_len=max_len or knobs.max_len,
        stages=knobs.curriculum,
        seed=seed,
    )


def settings_from(knobs: Any, seed: int, seconds: float | None) -> PretrainConfig:
    """The settings that the knobs of notebook 00 ask for; what only takes or saves time goes by the device.

    seconds: for training, TRAINING of what the run has left; None without a limit.
    """
    same = ("warmup_steps", "batch_tokens", "micro_tokens", "pack", "compile", "lr_muon", "lr_adamw")
    device = choose_device().device
    on_gpu = device == "cuda"
    # an adapter in a base whose activations have the device's own format; averaging would copy the whole base
    tuned = {"optimizer": "adamw", "lr_adamw": knobs.lr_lora, "weight_decay": 0.0, "ema_decay": 0.0, "autocast": False}
    given = {name: getattr(knobs, name) for name in same} | {"autocast": knobs.autocast and has_bfloat16(device)}
    given |= tuned if knobs.base else {}
    return PretrainConfig(
        steps=knobs.max_steps,
        seconds=seconds,
        seed=seed,
        workers=min(8, os.cpu_count() or 1) if on_gpu else 0,  # a GPU takes more documents than one core can draw
        log_every=50 if on_gpu else 10,
        evaluate_every=500 if on_gpu else 100,
        checkpoint_every=500 if on_gpu else 100,
        **given,
    )


def model_from(knobs: Any, seed: int) -> tuple[Any, PromptForm, int]:
    """What the knobs of notebook 00 ask for, on the device: a fresh GridLM, or a language model with a fresh LoRA; its
    prompt form, and the longest document it can read, in tokens."""
    if not knobs.base:
        torch.manual_seed(seed)
        model = GridLMForCausalLM(GridLMConfig.preset(knobs.preset)).to(choose_device().device)
        return model, PromptForm.from_tokenizer(arc_tokenizer()), knobs.max_len
    names = tuple(filter(None, (name.strip() for name in (knobs.target_modules or "").split(","))))
    same = {name: getattr(knobs, name) for name in ("r", "alpha", "use_rslora", "train_rows", "checkpointing")}
    options = {"quantization": knobs.quantization, "prompt_form": knobs.prompt_form, "max_len": knobs.max_len}
    tuned = FineTuned.load(knobs.base, AdapterSettings(target_modules=names, **same), seed=seed, **options)
    return tuned, tuned.prompt_form, tuned.max_len


def save_trained(trainer: Pretrainer, folder: Path, card: str, merge: bool = False) -> Path:
    """Write a trained model, or the adapter of a fine-tuned one, to a folder; and, with `merge`, the model with the
    adapter merged in to another beside it. Returns the folder that 02 is to be given."""
    if not isinstance(trainer.model, FineTuned):
        return save_model(trainer.averaged, folder, card)
    trainer.model.save_adapter(folder, card)
    return merge_adapter(folder, folder.with_name(f"{folder.name}-merged"), card) if merge else folder


def training_facts(trainer: Pretrainer, result: Mapping[str, float], max_side: int) -> dict[str, object]:
    """What a model card says about a run: one line each."""
    config, device = trainer.config, trainer.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    used = f"{result['mfu']:.1%} of the device's peak at the end" if "mfu" in result else "peak not known"
    return {
        "parameters": f"{sum(p.numel() for p in trainer.model.parameters()):,}, of which "
        f"{sum(p.numel() for p in trainer.trained.values()):,} were trained",
        "tokens seen": f"{result['tokens']:,}",
        "training steps": result["step"],
        "minutes": round(result["seconds"] / 60, 1),
        "device": f"{trainer.processes.count} × {name}"
        + (", products in bfloat16" if config.autocast else ", float32"),
        "FLOPs": f"{result['flops']:.2e} in all, {used}",
        "seed": config.seed,
        "grids up to": f"{max_side} × {max_side}",
        **(trainer.model.settings if isinstance(trainer.model, FineTuned) else {}),
    }


def card_of(
    title: str,
    trainer: Pretrainer,
    result: Mapping[str, float],
    left_out: Sequence[str],
) -> str:
    """The card of a run's model. result: what `trainer.run` has returned."""
    mixture = trainer.curriculum.stages[-1][1]
    shares = {name: share for name, (share, _) in mixture.sources.items()}
    facts = training_facts(trainer, result, mixture.max_side)
    facts["held-out loss"] = f"{result['held_out_loss']:.3f} nats a token"
    scores = {
        "ARC-AGI-2 training without what ARC-AGI-1 has (neither trained on nor scored), greedy, one view, no test-time "
        "training": (int(result["held_out_exact"]), int(result["held_out_tasks"]))
    }
    base = trainer.model.base if isinstance(trainer.model, FineTuned) else None
    return model_card(title, shares, list(left_out), facts, scores, base=base)


def main(words: Sequence[str]) -> None:
    """Train, score, save the model with its card and write the run's files."""
    given: dict[str, Any] = dict(parse_words(words))
    stop_after = float(given.pop("stop_after", 0)) or None
    own: dict[str, Any] = {name: given.pop(name) for name in ("profile", "seed", "out_dir", "fresh") if name in given}
    own["seed"] = int(own.get("seed", 0))
    knobs = resolve(NOTEBOOK, own.get("profile", "laptop"), given)
    processes = Processes.from_environment()
    run = start(NOTEBOOK, **own, **given) if processes.first else None
    seed_everything(own["seed"])
    model, prompt_form, max_len = model_from(knobs, own["seed"])
    curriculum, counts, left_out = corpus_from(knobs, prompt_form, own["seed"], max_len)
    watched = held_out_tasks(min(10, knobs.max_side))
    processes.from_first(0.0, model.device)  # until the first one has opened the folder, its content is not settled
    checkpoint = output_path(own.get("out_dir") or f"artifacts/{NOTEBOOK}") / "checkpoint.pt"

    def report(metrics: dict) -> None:
        run.log.metric(**metrics)
        shown = ("step", "loss", "tokens_per_second", "mfu", "held_out_loss")
        print("  ".join(f"{name} {metrics[name]:.4g}" for name in shown if name in metrics), flush=True)

    def evaluate(averaged: torch.nn.Module) -> dict[str, float]:
        return held_out_score(averaged, watched, prompt_form, max_len, run.deadline)

    # one budget for all processes: whoever ended before the others would leave them waiting
    seconds = processes.from_first(run.deadline.part(TRAINING) or 0.0 if run else 0.0, model.device) or None
    settings = settings_from(knobs, own["seed"], seconds)
    trainer = Pretrainer(model, curriculum, settings, checkpoint, report, evaluate, processes)
    if processes.first:
        for metrics in trainer.history:  # of the run's earlier parts
            run.log.metric(**metrics)
        print(prompt_form.description)
        print(*(f"{n} tasks of {name}" for name, n in counts.items()), *left_out, *trainer.notes, sep="\n", flush=True)
        print(f"starts at step {trainer.step}", flush=True)
    result = trainer.run(stop_after)
    if processes.first:
        _finish(run, knobs, trainer, result, left_out)
    processes.close()


def _finish(run, knobs, trainer: Pretrainer, result: Mapping[str, float], left_out) -> None:
    title = f"{Path(knobs.base).name}, fine-tuned on ARC" if knobs.base else f"GridLM {knobs.preset}"
    card = card_of(title, trainer, result, left_out)
    folder = save_trained(trainer, run.model_path, card, knobs.merge)
    rates = [m["tokens_per_second"] for m in trainer.history] or [result["tokens"] / result["seconds"]]
    summary = run.log.close(
        preset=knobs.base or knobs.preset,
        over=trainer.over,
        steps=result["step"],
        tokens=result["tokens"],
        tokens_per_second=round(sorted(rates)[len(rates) // 2]),
        mfu=result.get("mfu"),
        flops=result["flops"],
        training_seconds=round(result["seconds"], 1),
        **{name: result[name] for name in SCORE},
        notes="; ".join(trainer.notes),
        model=str(folder),
    )
    print(f"{'done' if trainer.over else 'stopped; the same command goes on'}: {summary['steps']} steps, {folder}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ConfigError, ValueError) as error:
        sys.exit(str(error))

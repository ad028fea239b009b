"""What fine-tuning a general language model on ARC grids brings, before and below test-time training.

A LoRA in the model learns the pretraining mixture for some minutes (`pretrain.base_run`, as notebook 00 with `base`).
Then the answers to labelled tasks that are neither trained on nor scored are looked at, in nats a token: without the
adapter and with it; and, on a few of them, after test-time training (depth top_m) from either start. Differences are
paired by task, with bootstrap intervals. Bound: the fine-tuned model's loss is lower, interval included.

    python benchmarks/finetune.py                                    ten minutes on one core, nine of training
    python benchmarks/finetune.py adapter=artifacts/finetune/model   measure an adapter that is there
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from arc_helpers.arc import Task
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import encode
from arc_helpers.pretrain.corpus import held_out_tasks
from arc_helpers.pretrain.held_out import held_out_losses
from arc_helpers.runs import choose_device, load_profile, output_path
from arc_helpers.runs.notebook import parse_words
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.depths import score_answers_of
from arc_helpers.ttt.group import new_model
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import settings_from
from arc_helpers.ttt.trainer import train_slots

ROOT = Path(__file__).parents[1]
OPTIONS = {
    **{"base": "models/smollm2-135m", "out_dir": "artifacts/finetune", "adapter": None, "minutes": 10.0},
    **{"tasks": 40, "ttt_tasks": 8, "steps": 12, "max_side": 10, "max_len": 1024, "profile": "laptop"},
}


def finetune(o: dict) -> Path:
    """Train in a process of its own, as a user would; the adapter's folder."""
    words = {name: o[name] for name in ("base", "out_dir", "max_side", "max_len", "profile")}
    words |= {"deadline_seconds": 60 * o["minutes"], "batch_tokens": 2048, "r": 16, "alpha": 32, "lr_lora": 1e-3}
    words |= {"warmup_steps": 5, "out_model": output_path(o["out_dir"]) / "model"}
    command = [sys.executable, "-m", "arc_helpers.pretrain.base_run", *(f"{n}={v}" for n, v in words.items())]
    print("$", *command, flush=True)
    subprocess.run(command, cwd=ROOT, check=True)
    return words["out_model"]


def chosen_tasks(lm: LoadedLM, o: dict) -> list[Task]:
    """The shortest held-out tasks that fit whole, of two demonstrations or more."""
    tasks = [task for task in held_out_tasks(o["max_side"]) if len(task.train) > 1]
    lengths = {
        task.id: max(len(encode(task, lm.prompt_form, test_index=i)) for i in range(len(task.test))) for task in tasks
    }
    fit = [task for task in tasks if lengths[task.id] <= o["max_len"]]
    return sorted(fit, key=lambda task: (lengths[task.id], task.id))[: o["tasks"]]


def after_ttt(lm: LoadedLM, tasks: list[Task], o: dict) -> np.ndarray:
    """Nats a token of each task's answers after its own adapter was trained, float [n]."""
    settings = settings_from(load_profile("laptop").multilora_ttt, seed=0)
    settings = replace(settings, k=1, mode="top_m", steps=o["steps"], lr=1e-3)
    losses = []
    for task in tasks:
        model = new_model(lm, [task.id], settings)
        pools = [sorted(encode_pool(lm, task.without_answers(), settings)[0], key=len)]
        train_slots(model, prepare(model, pools), steps=settings.steps, lr=settings.lr)
        losses.append(score_answers_of(model, 0, task)[0])
        print(f"{lm.name} {task.id}: {losses[-1]:.3f} nats a token after {settings.steps} steps", flush=True)
    return np.array(losses)


def paired(name: str, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Both means, and their difference with a bootstrap interval over tasks."""
    draws = np.random.default_rng(0).choice(after - before, (10_000, len(before))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    means = {f"{name}_before": before.mean(), f"{name}_after": after.mean(), f"{name}_change": (after - before).mean()}
    return {n: round(float(v), 4) for n, v in {**means, f"{name}_change_low": low, f"{name}_change_high": high}.items()}


def measure(o: dict, adapter: Path) -> dict:
    """The adapter's worth, alone and below test-time training."""
    losses, trained, solved = {}, {}, {}
    for side, start in (("before", None), ("after", adapter)):
        lm = load_causal_lm(o["base"], max_len=o["max_len"], trim_vocab=True, start_adapter=start)
        print(lm.name, lm.prompt_form.description, sep="\n", flush=True)
        tasks = chosen_tasks(lm, o)
        losses[side], exact = held_out_losses(lm.model, tasks, lm.prompt_form, lm.max_len)
        solved[side] = int(exact.sum())
        trained[side] = after_ttt(lm, tasks[: o["ttt_tasks"]], o)
    few = losses["after"][: len(trained["after"])]
    return {
        **{"n": len(losses["after"]), **paired("finetune", losses["before"], losses["after"])},
        **{f"exact_{side}": count for side, count in solved.items()},
        **{"ttt_n": len(few), "ttt_steps": o["steps"], **paired("ttt", trained["before"], trained["after"])},
        **paired("ttt_on_tuned", few, trained["after"]),
    }


def main() -> None:
    given = parse_words(sys.argv[1:])
    if unknown := [name for name in given if name not in OPTIONS]:
        sys.exit(f"{unknown[0]}: unknown; allowed are {', '.join(OPTIONS)}")
    o = {name: type(default)(given[name]) if name in given and default is not None else given.get(name, default)
         for name, default in OPTIONS.items()}  # fmt: skip
    adapter = output_path(o["adapter"]) if o["adapter"] else finetune(o)
    result = {"base": o["base"], "device": choose_device().device, **measure(o, adapter)}
    result["passed"] = result["finetune_change_high"] < 0
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

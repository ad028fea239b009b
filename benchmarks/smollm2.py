"""A really pretrained language model, SmolLM2-135M, met at test time: loading, steps, what training brings, PEFT.

`models get smollm2-135m` makes it. Each task's last demonstration is held out (never a test answer); an adapter learns
the others, and the loss of the held-out output is compared before and after, paired by task, with a bootstrap interval:
depth top_m in float32 on all tasks, in 4 bits and at depth full on the first few. Adapters with every number moved are
exported and loaded by PEFT onto the base as transformers loads it. Seconds are CPU seconds of a step of two adapters on
about 300 tokens each. What fine-tuning brings first is `benchmarks/finetune.py`.

Prints `load_seconds`, `load_seconds_4bit`, `step_seconds_top_m`, `step_seconds_full`, `held_out_before`,
`held_out_after`, `held_out_change` with `_low`, `_high`, the same of `four_bit_` and `full_`, `peft_logit_diff`,
`passed`.
Bounds: peft_logit_diff ≤ 1e-4; the loss of held-out demonstrations falls, interval included.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from arc_helpers.arc import Task, load_tasks
from arc_helpers.lm.fetch import get_model
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import encode
from arc_helpers.runs import choose_device
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.depths import score_depth, with_held_out_demonstration
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.peft_io import save_slot
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import train_slots

SETTINGS = TTTSettings(k=1, num_pseudo=8, lr=1e-3)
STEP_TOKENS = 300
FEW = 8  # tasks in 4 bits, and at depth full


def held_out(lm: LoadedLM, count: int) -> list[Task]:
    """The tasks of ARC-AGI-1 evaluation with the shortest prompts, each asking for its last demonstration."""
    asked = [with_held_out_demonstration(task.without_answers()) for task in load_tasks("arcagi1/evaluation")]
    return sorted(filter(None, asked), key=lambda task: (len(encode(task, lm.prompt_form)), task.id))[:count]


def change(name: str, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Both means, and the mean difference with its bootstrap interval over tasks."""
    drawn = np.random.default_rng(0).choice(after - before, (10_000, len(before))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    found = {"before": before.mean(), "after": after.mean(), "change": (after - before).mean()}
    found |= {"change_low": low, "change_high": high}
    return {f"{name}_{what}": round(float(value), 4) for what, value in found.items()} | {f"{name}_n": len(before)}


def worth(name: str, lm: LoadedLM, tasks: Sequence[Task], steps: int, mode: str = "top_m") -> dict[str, float]:
    """Nats a token of the held-out outputs without and with training."""
    began = time.process_time()
    before, after = (score_depth(lm, tasks, SETTINGS, mode=mode, steps=n).nll for n in (0, steps))
    print(f"{name}: {before.round(3)} → {after.round(3)}, {time.process_time() - began:.0f} CPU seconds", flush=True)
    return change(name, before, after)


def step_seconds(lm: LoadedLM, mode: str, repeats: int) -> float:
    """CPU seconds of one training step of two adapters on sequences of some STEP_TOKENS tokens."""
    task = min(held_out(lm, 400), key=lambda task: abs(len(encode(task, lm.prompt_form)) - STEP_TOKENS))
    model = MultiLoRAModel(lm, ["a", "b"], mode=mode)
    pool = encode_pool(lm, task, SETTINGS)[0]
    pools, ends = prepare(model, [pool, pool]), [time.process_time()]
    train_slots(model, pools, steps=repeats + 1, lr=1e-3, on_step=lambda *_: ends.append(time.process_time()))
    return round(median(np.diff(ends[1:])), 3)


@torch.no_grad()
def peft_logit_diff(folder: Path, lm: LoadedLM, ids: torch.Tensor) -> float:
    """The largest difference of a logit between our adapters and PEFT's, over the modes."""
    import peft

    worst = 0.0
    for mode in ("head", "top_m", "full"):
        model = MultiLoRAModel(lm, ["a"], mode=mode, r=8)
        torch.manual_seed(0)
        model.bank.flat.add_(0.01 * torch.randn_like(model.bank.flat))
        with tempfile.TemporaryDirectory() as room, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tied weights
            base, _ = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            theirs = peft.PeftModel.from_pretrained(base, save_slot(model, 0, room)).eval()(input_ids=ids).logits
        moved = (theirs - lm.model(ids).logits).abs().max().item()
        worst = max(worst, (model(ids) - theirs).abs().max().item())
        print(f"{mode}: logits moved by {moved:.3f}, largest difference so far {worst:.1e}", flush=True)
    return worst


def loaded(folder: Path, **options) -> tuple[LoadedLM, float]:
    """The model, and the seconds that loading took, the comparison with itself included."""
    began, device = time.monotonic(), choose_device("cpu").device
    lm = load_causal_lm(folder, device=device, trim_vocab=True, max_len=1024, **options)
    return lm, time.monotonic() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", type=int, default=24)
    options.add_argument("--steps", type=int, default=16)
    given = options.parse_args()
    folder = get_model("smollm2-135m", say=print)
    lm, seconds = loaded(folder)
    result = {"load_seconds": round(seconds, 2)}
    tasks = held_out(lm, given.tasks)
    result |= worth("held_out", lm, tasks, given.steps)
    result |= worth("full", lm, tasks[:FEW], max(1, given.steps // 3), mode="full")
    result["step_seconds_top_m"] = step_seconds(lm, "top_m", 3)
    result["step_seconds_full"] = step_seconds(lm, "full", 2)
    lm, seconds = loaded(folder, quantization="4bit")
    result["load_seconds_4bit"] = round(seconds, 2)
    result |= worth("four_bit", lm, tasks[:FEW], given.steps)
    whole = load_causal_lm(folder, device=choose_device("cpu").device)
    ids = torch.from_numpy(encode(tasks[0], whole.prompt_form).input_ids)[None]
    result["peft_logit_diff"] = peft_logit_diff(folder, whole, ids)
    result["passed"] = result["peft_logit_diff"] <= 1e-4 and result["held_out_change_high"] < 0
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

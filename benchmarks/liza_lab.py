"""What each part of LiZA's recipe costs or brings, against LoRA alone: an ablation on a small text model.

    recipe   the original's: MaG 0.01 → 0.5 over 100 steps, r 8, lr 5e-4
    scaled   the same, LiZA's output given the size of the softmax branch (tptt's base_scale_attn)
    gated    scaled, and instead of the schedule a share that is learned for each channel, from 0 on

All arms of a seed start from the same adapters and see the same documents in the same order. What is compared are nats
a token on held-out windows beyond the trained length, full attention; intervals are Student's over the seeds, of paired
differences to LoRA alone (below 0: LiZA is better). The gated model of seed 0 is saved and loaded by the original's
line in a fresh process. On SmolLM2 nothing is measured here: its fields are null.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from arc_helpers import liza
from arc_helpers.lm.door import open_tokenizer
from arc_helpers.runs import output_path

MODE = "delta_rule"
ARMS: dict[str, dict] = {
    "lora": {},
    "recipe": {"transition_step": 100},
    "scaled": {"transition_step": 100, "base_scale_attn": True},
    "gated": {"mag_final": 1.0, "base_scale_attn": True, "learned_gate": True},
}
NEUTRAL = 0.06  # nats a token that the best arm may cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps of an arm")
    parser.add_argument("--length", type=int, default=128, help="longest training document, in tokens")
    parser.add_argument("--windows", type=int, default=8, help="held-out windows, each four times as long")
    parser.add_argument("--base-steps", type=int, default=400, help="training steps of the text model")
    parser.add_argument("--base", help="folder of a Llama or Qwen2; by default a text model is made, and kept")
    o = parser.parse_args()
    torch.set_num_threads(1)
    made = output_path("artifacts/liza_lab/base")
    base = o.base or liza.make_text_model(made, length=o.length, steps=o.base_steps)
    tokenizer, documents = open_tokenizer(base), liza.load_documents("offline")
    rows = liza.windows(liza.held_out_documents("stdlib"), tokenizer, 4 * o.length, o.windows)
    within, beyond, gated = {}, {}, None
    for seed in range(o.seeds):
        for arm, switches in ARMS.items():
            name = liza.CONTROL if arm == "lora" else MODE
            options = {"seed": seed, "steps": o.steps, "max_length": o.length, "lr": 5e-4, "r": 8, **switches}
            with tempfile.TemporaryDirectory() as room:
                model, _ = liza.train_arm(name, base, tokenizer, documents, Path(room), **options)
            nll = liza.nll_by_position(model, rows)
            within.setdefault(arm, []).append(float(nll[:, : o.length - 1].mean()))
            beyond.setdefault(arm, []).append(float(nll[:, o.length - 1 :].mean()))
            print(f"seed {seed}, {arm}: within {within[arm][-1]:.3f}, beyond {beyond[arm][-1]:.3f}", flush=True)
            gated = model if (seed, arm) == (0, "gated") else gated
    result: dict = {"lora": sum(beyond["lora"]) / o.seeds}
    for arm in ("recipe", "scaled", "gated"):
        found = liza.paired_interval(beyond[arm], beyond["lora"])
        result |= {f"{arm}_diff": found.mean, f"{arm}_low": found.low, f"{arm}_high": found.high}
        result[f"{arm}_within_diff"] = liza.paired_interval(within[arm], within["lora"]).mean
    result |= {
        "smollm2_recipe_diff": None,
        "smollm2_best_diff": None,
        "reload_logit_diff": reloaded(gated, tokenizer, rows),
    }
    result |= {"seeds": o.seeds, "steps": o.steps, "windows": len(rows), "cpu_seconds": round(time.process_time())}
    result["passed"] = min(result["scaled_diff"], result["gated_diff"]) <= NEUTRAL
    result["passed"] &= result["reload_logit_diff"] <= 1e-6
    print(
        json.dumps(
            {name: round(v, 4 if abs(v) > 1e-3 else 9) if isinstance(v, float) else v for name, v in result.items()}
        )
    )
    sys.exit(not result["passed"])


def reloaded(model, tokenizer, rows) -> float:
    """Largest difference of a logit, of a model that was saved and came back by the original's line."""
    rows = rows[:2, :128]
    with tempfile.TemporaryDirectory() as room, torch.no_grad():
        logits, _, _ = liza.fresh_logits(liza.save_liza(model, tokenizer, Path(room) / "m"), rows, original=True)
        return (logits - model(rows).logits).abs().max().item()


if __name__ == "__main__":
    main()

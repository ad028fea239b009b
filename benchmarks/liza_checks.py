"""Is LiZA on, is it exact, does it train, save and load, and how fast is it beside tptt's own operator?

Tiny random Llama and Qwen2 models for everything that is exact; 128 × 4 layers, 8 × 192 tokens for the speed: forward
and backward of the whole titanized model, repaired and as the package comes, in CPU seconds of one thread, in turn,
medians of the paired ratios.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from peft_reference import interleaved, ratio

from arc_helpers import liza
from arc_helpers.liza.checks import lora_gradients
from arc_helpers.liza.delta import chunked_delta_rule
from arc_helpers.lm.door import open_folder, open_model, open_tokenizer

MODES = ("delta_rule", "delta_product")
REPEATS = 7
AT_MOST = {
    "operator_error": 1e-10,
    "decode_gap": 1e-5,
    "length_effect": 0,
    "left_padding_effect": 1e-5,
    "base_difference": 0,
    "reload_max_logit_diff": 1e-6,
    "connection_attempts": 0,
    "accumulation_loss_gap": 1e-3,
    "checkpointing_loss_gap": 1e-3,
    "resume_loss_gap": 1e-5,
}
AT_LEAST = {"speedup_order_1": 1.5, "speedup_order_2": 3.0, "greedy_agreement": 1, "wiping_effect": 1e-3}
TRUE = ("causal", "logits_change_with_mag_weight", "lora_has_gradient", "gradcheck", "mag_exact", "best_model_mag_back")


def exactness(folders: dict[str, Path]) -> dict:
    """Both families, both orders: the worst of each number."""
    ids = torch.randint(1, 300, (2, 128), generator=torch.Generator().manual_seed(0))
    found, gradients, differences = [], [], []
    for family in folders:
        base = open_model(open_folder(folders[family]), attn_implementation="eager")
        for mode in MODES:
            model = liza.titanize_model(folders[family], operator_mode=mode, mag_weight=0.5)
            liza.nudge_adapters(model, 0.05)
            found.append(liza.is_liza_on(model, ids))
            gradients += lora_gradients(model, ids).values()
            differences.append(liza.base_difference(model, base, ids))
    highest = {name: max(row[name] for row in found) for name in found[0]}
    lowest = {name: min(row[name] for row in found) for name in found[0]}
    return {
        "causal": max(highest["future_leak"], highest["future_leak_padded"]) == 0,
        "logits_change_with_mag_weight": lowest["mag_effect"] > 0,
        "lora_has_gradient": min(gradients) > 0,
        "operator_error": max(liza.operator_error(order) for order in (1, 2)),
        "operator_error_library": min(liza.operator_error(order, library=True) for order in (1, 2)),
        "gradcheck": gradcheck(),
        **{name: highest[name] for name in ("decode_gap", "length_effect", "left_padding_effect")},
        **{name: lowest[name] for name in ("greedy_agreement", "wiping_effect")},
        "base_difference": max(differences),
    }


def gradcheck() -> bool:
    x = torch.randn(4, 1, 2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return torch.autograd.gradcheck(lambda x: chunked_delta_rule(*x, chunk=4), (x,))


def training(base: Path, room: Path) -> dict:
    """The seed's schedule over 120 real steps; accumulation, checkpointing, resuming, the best model; a reload."""
    tokenizer = open_tokenizer(base)
    documents, held_out = liza.load_documents("stdlib", 60), liza.held_out_documents("stdlib")[:4]

    def run(name: str, steps: int, **options):
        model = liza.titanize_model(base, operator_mode="delta_rule", lora_dropout=0.0)
        schedule = liza.AdjustMaGWeightCallback(model, 0.01, 0.5, 100)
        options = {"batch_size": 4, "max_length": 32, **options}
        return model, liza.tune(model, tokenizer, documents, room / name, schedule=schedule, steps=steps, **options)

    def gap(a, b) -> float:
        return max(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True))

    model, long = run("long", 120)
    used = {step: weight for step, _, weight in long.mag}
    exact = all(abs(used[s] - (0.01 + 0.49 * (s - 1) / 99 if s <= 100 else 0.5)) < 1e-12 for s in used)
    ids = torch.randint(1, 300, (2, 128), generator=torch.Generator().manual_seed(1))
    logits, mag, attempts = liza.fresh_logits(liza.save_liza(model, tokenizer, room / "model"), ids)
    with torch.no_grad():
        difference = (logits - model(ids).logits).abs().max().item()
    _, plain = run("plain", 12)
    _, split = run("split", 12, batch_size=1, gradient_accumulation_steps=4)
    _, checkpointed = run("checkpointed", 12, gradient_checkpointing=True)
    saving = {"save_steps": 6, "eval_steps": 6, "held_out": held_out, "load_best_model_at_end": True}
    best, whole = run("saved", 12, **saving, metric_for_best_model="eval_loss", greater_is_better=True)
    _, resumed = run("resumed", 12, resume_from=room / "saved" / "checkpoint-6")
    best_step = whole.trainer.state.best_global_step
    return {
        **{f"mag_{name}": used[step] for name, step in (("first", 1), ("at_50", 50), ("last", 100))},
        "mag_exact": exact,
        "mag_after_reload": mag,
        "reload_max_logit_diff": difference,
        "connection_attempts": attempts,
        "accumulation_loss_gap": gap(plain, split),
        "checkpointing_loss_gap": gap(plain, checkpointed),
        "resume_loss_gap": gap(whole, resumed),
        "best_model_mag_back": liza.mag_weight(best) == {s: w for s, _, w in whole.mag}[best_step],
    }


def speed(folder: Path) -> dict:
    """Forward and backward of the whole model on 8 × 192 tokens, as the package comes and repaired."""
    ids = torch.randint(1, 300, (8, 192), generator=torch.Generator().manual_seed(0))

    def step(model):
        def run() -> None:
            model.zero_grad()
            liza.inner_model(model)(input_ids=ids, labels=ids, use_cache=False).loss.backward()

        return run

    sides = {"base": step(liza.lora_only(folder))}
    for order, mode in enumerate(MODES, start=1):
        for name, repaired in (("library", False), ("repaired", True)):
            sides[f"{name}_{order}"] = step(
                liza.titanize_model(folder, operator_mode=mode, repaired=repaired, mag_weight=0.5)
            )
    seconds = interleaved(sides, REPEATS)
    found = {
        f"speedup_order_{order}": ratio(seconds[f"library_{order}"], seconds[f"repaired_{order}"]) for order in (1, 2)
    }
    found |= {f"ms_{name}": 1000 * sorted(values)[len(values) // 2] for name, values in seconds.items()}
    return {name: round(value, 2) for name, value in found.items()} | {"repeats": REPEATS}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        tiny = {"hidden": 64, "layers": 3, "vocab": 320, "steps": 0, "dataset": "stdlib"}
        folders = {family: liza.make_text_model(room / family, family=family, **tiny) for family in ("llama", "qwen2")}
        result = exactness(folders)
        print(result, flush=True)
        result |= training(folders["llama"], room)
        print(result, flush=True)
        result |= speed(liza.make_text_model(room / "wide", steps=0, dataset="stdlib"))
    bounds = [result[name] <= bound for name, bound in AT_MOST.items()]
    bounds += [result[name] >= bound for name, bound in AT_LEAST.items()]
    bounds += [result[name] for name in TRUE] + [result["mag_after_reload"] == result["mag_last"] == 0.5]
    result["passed"] = all(bounds)
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

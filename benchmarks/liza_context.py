"""What LiZA is worth beyond the trained length, and whether windowed decoding is flat in context.

A small Llama is trained on the spot (the laptop profile's), then tuned by LoRA alone and by LoRA with LiZA, for each
seed from the same adapters, on the same documents in the same order. Nats a token on held-out windows four times the
trained length, within it and beyond, with full attention and windowed; intervals are Student's over the seeds, of
paired differences to LoRA alone (below 0: LiZA is better). Decoding: CPU milliseconds a token (one thread, medians over
repeats) and bytes of the cache.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from arc_helpers import liza
from arc_helpers.lm.door import open_tokenizer
from arc_helpers.runs import load_profile, output_path

MODES = ("delta_rule", "delta_product")
KINDS = {"text": "stdlib", "arc": "arc"}
CONTEXTS = (256, 1024, 4096)
MS_AT_MOST, BYTES_AT_MOST, REPEATS = 1.15, 1.1, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="optimizer steps of an arm; by default the laptop profile's")
    parser.add_argument("--modes", default=",".join(MODES), help="LiZA modes, separated by commas")
    parser.add_argument("--windows", type=int, default=4, help="held-out windows of each kind of text")
    parser.add_argument("--only", choices=("worth", "cost"), help="one half of the measurement")
    parser.add_argument("--base", help="folder of a base model; by default one is trained, and kept for the next time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    knobs = load_profile("laptop").tptt_liza
    knobs = knobs.model_copy(update={"steps": options.steps or knobs.steps, "operator_modes": options.modes})
    base = options.base or liza.make_text_model(
        output_path("artifacts/liza_context/base"),
        hidden=knobs.base_hidden,
        length=knobs.max_length,
        steps=knobs.base_steps,
    )
    tokenizer = open_tokenizer(base)
    rows = {
        kind: liza.windows(liza.held_out_documents(name), tokenizer, knobs.eval_length, options.windows)
        for kind, name in KINDS.items()
    }
    result = {"seeds": options.seeds, "steps": knobs.steps, "trained_length": knobs.max_length, "window": knobs.window}
    result |= {f"windows_{kind}": len(x) for kind, x in rows.items()} | {"eval_length": knobs.eval_length}
    if options.only != "cost":
        tuned, found = train(base, tokenizer, rows, knobs, options.seeds)
        result |= compare(found) | sweep(tuned, rows, knobs)
    if options.only != "worth":
        tokens = torch.cat([row for x in rows.values() for row in x])
        result |= decoding(base, tokens.repeat(-(-max(CONTEXTS) // len(tokens)))[None], knobs)
        result["passed"] = result["window_ms_ratio"] <= MS_AT_MOST and result["window_bytes_ratio"] <= BYTES_AT_MOST
    print(json.dumps(result))
    sys.exit(not result.get("passed", True))


def train(base, tokenizer, rows, knobs, seeds: int):
    """(delta_rule's model of seed 0, {(kind, setting, part, arm): one mean a seed})."""
    documents = liza.load_documents(knobs.dataset, knobs.n)
    parts = {"within": slice(0, knobs.max_length - 1), "beyond": slice(knobs.max_length - 1, None)}
    kept, found = None, {}
    for seed in range(seeds):
        for arm in (liza.CONTROL, *knobs.operator_modes.split(",")):
            training = {name: getattr(knobs, name) for name in ("steps", "batch_size", "lr", "max_length")}
            schedule = {} if arm == liza.CONTROL else {"transition_step": knobs.transition_step}
            with tempfile.TemporaryDirectory() as room:
                model, tuned = liza.train_arm(
                    arm, base, tokenizer, documents, Path(room), seed=seed, **training, **schedule
                )
            kept = model if (seed, arm) == (0, knobs.operator_modes.split(",")[0]) else kept
            for kind, x in rows.items():
                for setting, nll in liza.nll_table(model, x, knobs.window, knobs.sinks).items():
                    for part, where in parts.items():
                        found.setdefault((kind, setting, part, arm), []).append(float(nll[:, where].mean()))
            last = {f"{k} {s} {p}": round(v[-1], 4) for (k, s, p, a), v in found.items() if a == arm}
            print(f"seed {seed}, {arm}: loss {sum(tuned.losses[-10:]) / 10:.4f}", last, flush=True)
    return kept, found


def compare(found) -> dict:
    result = {}
    for (kind, setting, part, arm), values in found.items():
        name = f"{kind}_{setting}_{part}_{arm.replace(' ', '_')}"
        result[name] = round(sum(values) / len(values), 4)
        if arm != liza.CONTROL:
            interval = liza.paired_interval(values, found[kind, setting, part, liza.CONTROL])
            result |= {f"{name}_diff": round(interval.mean, 4), f"{name}_low": round(interval.low, 4)}
            result |= {f"{name}_high": round(interval.high, 4)}
            print(name, interval, flush=True)
    return result


def sweep(model, rows, knobs) -> dict:
    """Nats a token beyond the trained length at other MaG weights."""
    result = {}
    for kind, x in rows.items():
        for setting, nll in liza.nll_table(model, x, None, 0, (0, 0.25, 0.5, 1)).items():
            result[f"{kind}_{setting.replace(' ', '_')}_beyond"] = round(
                float(nll[:, knobs.max_length - 1 :].mean()), 4
            )
    return result


def decoding(base, tokens, knobs) -> dict:
    """Milliseconds a token and bytes after each context, and those after the longest over those after the shortest."""
    control, titan = liza.lora_only(base), liza.titanize_model(base, operator_mode=MODES[0], mag_weight=0.5)
    result = {}
    sides = {
        "control": (control, None),
        "full": (titan, None),
        "window": (titan, knobs.window),
        "control_window": (control, knobs.window),
    }
    for name, (model, window) in sides.items():
        liza.set_window(model, window, knobs.sinks)
        runs = [liza.decode_cost(model, tokens, CONTEXTS) for _ in range(REPEATS)]
        for i, context in enumerate(CONTEXTS):
            result[f"{name}_ms_{context}"] = round(sorted(run[i].ms for run in runs)[REPEATS // 2], 3)
            result[f"{name}_bytes_{context}"] = runs[0][i].bytes
        ratios = sorted(run[-1].ms / run[0].ms for run in runs)
        result[f"{name}_ms_ratio"] = round(ratios[REPEATS // 2], 3)
        result[f"{name}_bytes_ratio"] = round(runs[0][-1].bytes / runs[0][0].bytes, 3)
        liza.set_window(model, None)
    return result


if __name__ == "__main__":
    main()

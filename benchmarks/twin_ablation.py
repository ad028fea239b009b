"""What the 3-D rotary embedding is worth: GridLM against its twin with the ordinary 1-D one, on the same data.

Both start from the same weights, to the bit (Qwen3 has GridLM's every tensor under the same name), see the same batches
in the same order and are trained by the same code: the rotation of queries and keys is the only difference. Compared is
the held-out answer loss of the averaged weights, in nats a token, on labelled tasks that are neither trained on nor
scored; a pair of runs for each seed. The published anchor is mdlARC: 44 % of ARC-AGI-1 evaluation with 3-D RoPE, 20 %
without.

    python benchmarks/twin_ablation.py [preset=tiny] [steps=150] [seeds=0,1,2] [max_side=8] [max_len=512] …
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arc_helpers import lm, pretrain
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.runs import atomic_write_json, output_path
from arc_helpers.runs.notebook import parse_words

OPTIONS = {
    **{"preset": "tiny", "steps": 150, "seeds": "0,1,2", "max_side": 8, "max_len": 512, "batch_tokens": 4096},
    **{"procedural_share": 0.5, "task_side": 10, "task_len": 1400, "threads": 1, "autocast": False},
}
THETA = 10_000.0  # Hugging Face's usual speed of the slowest wave, for positions up to thousands


def twin_of(grid: GridLMForCausalLM) -> Qwen3ForCausalLM:
    """A Qwen3 with the weights of `grid`: positions 0, 1, 2 … instead of (column, row, slot)."""
    c = grid.config
    config = Qwen3Config(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_attention_heads,
        head_dim=c.hidden_size // c.num_attention_heads,
        rms_norm_eps=c.rms_norm_eps,
        max_position_embeddings=c.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=False,
        pad_token_id=c.pad_token_id,
        bos_token_id=c.bos_token_id,
        eos_token_id=c.eos_token_id,
        use_cache=False,
    )
    twin = Qwen3ForCausalLM(config)
    twin.load_state_dict(grid.state_dict())  # strict: any tensor too many or too few raises
    return twin


def options(defaults: dict) -> dict:
    """The defaults, with what the command line says instead."""
    given = parse_words(sys.argv[1:])
    unknown = [name for name in given if name not in defaults]
    if unknown:
        sys.exit(f"{unknown[0]}: unknown; allowed: {', '.join(defaults)}")
    kinds = {name: type(value) for name, value in defaults.items()}
    return defaults | {n: v == "true" if kinds[n] is bool else kinds[n](v) for n, v in given.items()}


def held_out_losses(model, tasks, prompt_form, max_len: int) -> np.ndarray:
    """Answer loss of each task, nats a token: [tasks]."""
    return np.array([pretrain.held_out_score(model, [t], prompt_form, max_len)["held_out_loss"] for t in tasks])


def trained_losses(model, mixture, o: dict, tasks) -> tuple[np.ndarray, dict]:
    """Held-out losses [tasks] of a model after its run, and the run's result."""
    config = pretrain.PretrainConfig(
        steps=o["steps"],
        batch_tokens=o["batch_tokens"],
        autocast=o["autocast"],
        ema_decay=0.99,
        log_every=max(1, o["steps"] // 4),
    )
    name = type(model).__name__
    trainer = pretrain.Pretrainer(
        model, mixture, config, on_metrics=lambda m: print(f"{name} {m['step']} {m['loss']:.4f}")
    )
    result = trainer.run()
    return held_out_losses(trainer.averaged, tasks, mixture.prompt_form, o["task_len"]), result


def run_seed(seed: int, o: dict, tasks, prompt_form) -> dict:
    """Both models on the documents of one seed: {name: {"losses": a number a task, "minutes": …, "tokens": …}}."""
    mixture, _, _ = pretrain.build_mixture(
        prompt_form, procedural_share=o["procedural_share"], max_side=o["max_side"], max_len=o["max_len"], seed=seed
    )
    torch.manual_seed(seed)
    grid = GridLMForCausalLM(GridLMConfig.preset(o["preset"]))
    found = {}
    for name, model in (("twin", twin_of(grid)), ("grid", grid)):
        losses, result = trained_losses(model, mixture, o, tasks)
        print(f"seed {seed} {name}: held out {losses.mean():.4f} nats a token", flush=True)
        found[name] = {"losses": losses.tolist(), "minutes": result["seconds"] / 60, "tokens": result["tokens"]}
    return found


def main() -> None:
    o = options(OPTIONS)
    torch.set_num_threads(o["threads"])
    prompt_form = lm.PromptForm.from_tokenizer(lm.arc_tokenizer())
    tasks = [t for t in pretrain.held_out_tasks(o["task_side"]) if len(lm.encode(t, prompt_form)) <= o["task_len"]]
    asked = "-".join(str(value) for name, value in o.items() if name not in ("seeds", "threads"))
    runs = []
    for seed in map(int, o["seeds"].split(",")):
        path = output_path(Path("artifacts/twin_ablation") / asked / f"{seed}.json")  # what is there is not run again
        if not path.exists():
            atomic_write_json(path, run_seed(seed, o, tasks, prompt_form))
        runs.append(json.loads(path.read_text()))
    result = summary(runs, o)
    print(json.dumps(result))
    sys.exit(not result["passed"])


def summary(runs: list[dict], o: dict) -> dict:
    """Means, the difference with a bootstrap interval over tasks, and each seed's difference."""
    grid, twin = (np.array([run[name]["losses"] for run in runs]) for name in ("grid", "twin"))  # [seeds, tasks]
    gain = (twin - grid).mean(axis=0)  # of each task
    draws = np.random.default_rng(0).integers(0, len(gain), (10_000, len(gain)))
    low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
    minutes = {name: np.mean([run[name]["minutes"] for run in runs]) for name in ("grid", "twin")}
    return {
        "held_out_loss": round(float(grid.mean()), 4),
        "twin_held_out_loss": round(float(twin.mean()), 4),
        "gain": round(float(gain.mean()), 4),
        "gain_low": round(float(low), 4),
        "gain_high": round(float(high), 4),
        "gain_by_seed": ", ".join(f"{x:.4f}" for x in (twin - grid).mean(axis=1)),
        "tasks": len(gain),
        "seeds": len(runs),
        "tokens_each": runs[0]["grid"]["tokens"],
        "minutes_each": round(float(minutes["grid"]), 2),
        "twin_minutes_each": round(float(minutes["twin"]), 2),
        **{name: o[name] for name in ("preset", "steps", "max_side", "max_len", "batch_tokens")},
        "passed": bool(low > 0),
    }


if __name__ == "__main__":
    main()

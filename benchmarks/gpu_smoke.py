"""Does everything run on this GPU, and does it hold what was promised? One call of at most 8 minutes.

    python benchmarks/gpu_smoke.py                      on a GPU (on a CPU it runs as well, as a rehearsal)
    python benchmarks/gpu_smoke.py notebooks=01,02      only some notebooks; notebooks= none

Every notebook at `tiny`; the logits of models/arc-micro on the device against the CPU's; for K = 1, 4 and 8 adapters on
all layers of a GridLM of `size` (base; nano on a CPU) the tokens a second of a training step, and its peak memory
against the forecast that trainer and planner go by (on a CPU nothing is counted). What fails is said and counted, and
the rest goes on. Knobs: notebooks, size, length (tokens of a sequence), steps, out_dir.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from arc_helpers.lm import load_causal_lm
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import DTYPES, LoadedLM
from arc_helpers.runs import HOST, choose_device, output_path
from arc_helpers.runs.notebook import list_notebooks, parse_words
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.group import new_model
from arc_helpers.ttt.jobs import Job
from arc_helpers.ttt.limits import footprint_of
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import MultiLoraTrainer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from peft_reference import random_sequences  # noqa: E402

LIMIT = 420  # seconds for the notebooks together, so that all of it takes at most 8 minutes
CLOSE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}  # of a logit: how far a dtype may be from float32
SHORT = {  # what makes a notebook shorter than `tiny` does
    "00": ["max_steps=4", "deadline_seconds=20"],
    "03": ["max_steps=4", "sudoku_seconds=2"],
    "07": ["base_steps=8", "steps=4", "transition_step=3", "n=30"],
}


def run_notebooks(wanted: list[str], out_dir: Path) -> tuple[int, list[str]]:
    """How many ran to the end, and a line for each that did not."""
    failed, began = [], time.monotonic()
    names = [path.stem for path in list_notebooks() if not wanted or path.stem[:2] in wanted]
    for name in names:
        words = ["profile=tiny", f"out_dir={out_dir / name}", "fresh=true", *SHORT.get(name[:2], [])]
        left = LIMIT - (time.monotonic() - began)
        try:
            command = [sys.executable, "-m", "arc_helpers", "run", name, *words]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, left))
            why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]
        except subprocess.TimeoutExpired:
            why = f"not done after {LIMIT} s of all notebooks"
        print(f"{name}: {why or 'ran to the end'}", flush=True)
        failed += [f"{name}: {why}"] if why else []
    return len(names) - len(failed), failed


@torch.no_grad()
def logit_diff(length: int) -> float:
    """Largest difference of a logit of arc-micro between the chosen device, in its dtype, and the CPU in float32."""
    ids = torch.as_tensor(random_sequences(2, min(length, 512), seed=1)[0].input_ids).long()[None]
    there = load_causal_lm("models/arc-micro").model
    here = load_causal_lm("models/arc-micro", device=choose_device("cpu").device).model
    found = there(ids.to(there.device)).logits.to(HOST).float()
    return float((found - here(ids).logits).abs().max())


def step(slots: int, lm: LoadedLM, length: int, steps: int) -> dict[str, float | None]:
    """Tokens a second of a training step of `slots` adapters, its peak GiB beside the weights, and the forecast's."""
    settings = TTTSettings(mode="full", k=slots, num_pseudo=2, activation_checkpointing="off")
    names = [f"task{k}" for k in range(slots)]
    on_gpu = lm.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    adapters = new_model(lm, names, settings)
    pools = prepare(adapters, [random_sequences(2, length, seed=k) for k in range(slots)])
    trainer = MultiLoraTrainer(adapters, seed=0)
    jobs = lambda n: [Job(name, pool, n) for name, pool in zip(names, pools, strict=True)]  # noqa: E731
    trainer.run(jobs(1))  # warm
    trainer.cost.seconds = trainer.cost.tokens = 0
    trainer.run(jobs(steps))
    found = {"tokens_per_second": trainer.cost.tokens / trainer.cost.seconds, "peak_gib": None, "forecast_gib": None}
    if on_gpu:
        found["peak_gib"] = (torch.cuda.max_memory_allocated() - before) / 2**30
        found["forecast_gib"] = footprint_of(lm, settings).training(slots, length, False) / 2**30
    return found


def grid_lm(size: str) -> LoadedLM:
    """A frozen GridLM with random weights on the chosen device, in its dtype."""
    loaded, chosen = load_causal_lm("models/arc-micro"), choose_device()
    torch.manual_seed(0)
    model = GridLMForCausalLM(GridLMConfig.preset(size)).to(DTYPES[chosen.dtype]).eval().requires_grad_(False)
    model = model.to(chosen.device)
    return LoadedLM(model, loaded.tokenizer, loaded.prompt_form, size, 4096, model.device, DTYPES[chosen.dtype])


def main() -> None:
    chosen, began = choose_device(), time.monotonic()
    asked = {"notebooks": None, "length": 1024, "steps": 5, "out_dir": "artifacts/gpu_smoke"}
    asked["size"] = "base" if chosen.device == "cuda" else "nano"  # beside a small one CUDA's own workspace counts
    asked |= parse_words(sys.argv[1:])
    length, steps = int(asked["length"]), int(asked["steps"])
    print(f"{chosen.device}, {chosen.dtype}: {chosen.reason}", flush=True)
    found = {"device": torch.cuda.get_device_name() if chosen.device == "cuda" else chosen.device}
    wanted = [] if asked["notebooks"] is None else asked["notebooks"].split(",")
    found["notebooks_ok"], failed = run_notebooks(wanted, output_path(asked["out_dir"]))
    found["notebooks_failed"] = len(failed)
    found["logit_diff"] = logit_diff(length)
    base, errors = grid_lm(asked["size"]), []
    for k in (1, 4, 8):
        measured = step(k, base, length, steps)
        found |= {
            f"tokens_per_second_k{k}": round(measured["tokens_per_second"], 1),
            f"peak_gib_k{k}": measured["peak_gib"] and round(measured["peak_gib"], 4),
            f"forecast_gib_k{k}": measured["forecast_gib"] and round(measured["forecast_gib"], 4),
        }
        if measured["peak_gib"]:
            errors.append(abs(measured["forecast_gib"] / measured["peak_gib"] - 1))
    found["forecast_error"] = round(max(errors), 4) if errors else None
    found["seconds"] = round(time.monotonic() - began, 1)
    close = found["logit_diff"] <= CLOSE[chosen.dtype]
    found["passed"] = not failed and close and (not errors or max(errors) <= 0.15)
    print(json.dumps(found))
    sys.exit(not found["passed"])


if __name__ == "__main__":
    main()

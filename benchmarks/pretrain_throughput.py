"""Tokens a second of pretraining: GridLM against its plain Hugging Face twin, and packed rows against padded ones.

The twin is Qwen3 with the same widths, weights and data: what differs is Hugging Face's code, and a 1-D rotary
embedding instead of the 3-D one. Both go through the same trainer (batches, optimizers, averaging) in turn; the ratio
is the median of the repeats'. On a CPU the seconds are CPU seconds, of one thread unless asked otherwise. On a GPU this
is the run that matters:

    python benchmarks/pretrain_throughput.py preset=base batch_tokens=131072 max_side=30 max_len=2048 \
        autocast=true compile=true workers=8 steps=20
"""

import json
import sys
import time

import numpy as np
import torch
from twin_ablation import options, twin_of

from arc_helpers import lm, pretrain
from arc_helpers.lm.attention import choose_kernel
from arc_helpers.pretrain.flops import device_peak
from arc_helpers.runs import choose_device

AT_LEAST = 1.0  # times the twin's tokens a second
OPTIONS = {
    **{"preset": "nano", "steps": 2, "repeats": 7, "batch_tokens": 8192, "max_side": 12, "max_len": 1024},
    **{"autocast": False, "compile": False, "workers": 0, "threads": 1},
}


def clock(device: torch.device) -> float:
    """Seconds: of the processor, which other programs do not slow down much, or of the wall beside a GPU."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


class Side:
    """One of the things compared: a trainer that goes on where it stopped."""

    def __init__(self, model, mixture, o: dict, pack: bool):
        config = pretrain.PretrainConfig(
            steps=10**6,
            batch_tokens=o["batch_tokens"],
            autocast=o["autocast"],
            compile=o["compile"],
            workers=o["workers"],
            pack=pack,
            log_every=10**6,
        )
        self.trainer = pretrain.Pretrainer(model, mixture, config)
        self.batches = self.trainer._batches()
        self.rates, self.flops = [], []

    def run(self, steps: int) -> None:
        """`steps` training steps, with the clock on; drawing documents is part of it."""
        device = self.trainer.model.device
        before, done, flops = clock(device), self.trainer.tokens, self.trainer.flops
        for _, batch in zip(range(steps), self.batches, strict=False):
            loss = self.trainer._one_step(batch)
        loss.item()  # waits for the device
        seconds = clock(device) - before
        self.rates.append((self.trainer.tokens - done) / seconds)
        self.flops.append((self.trainer.flops - flops) / seconds)


def main() -> None:
    o = options(OPTIONS)
    torch.set_num_threads(o["threads"])
    device = torch.device(choose_device().device)
    prompt_form = lm.PromptForm.from_tokenizer(lm.arc_tokenizer())
    mixture, _, _ = pretrain.build_mixture(prompt_form, max_side=o["max_side"], max_len=o["max_len"])
    torch.manual_seed(0)
    grid = lm.GridLMForCausalLM(lm.GridLMConfig.preset(o["preset"])).to(device)
    sides = {
        "plain_hf": Side(twin_of(grid).to(device), mixture, o, pack=False),
        "padded": Side(grid, mixture, o, pack=False),
        "packed": Side(lm.GridLMForCausalLM(grid.config).to(device), mixture, o, pack=True),
    }
    for side in sides.values():
        side.run(2)
        side.rates.clear(), side.flops.clear()
    for _ in range(o["repeats"]):
        for name, side in sides.items():
            side.run(o["steps"])
            print(f"{name:<9}{side.rates[-1]:10.0f} tokens/s", flush=True)
    rates = {name: np.array(side.rates) for name, side in sides.items()}
    best = max(("padded", "packed"), key=lambda name: np.median(rates[name]))
    ratios = rates[best] / rates["plain_hf"]
    peak = device_peak(device, o["autocast"])
    heads, width = grid.config.num_attention_heads, grid.config.hidden_size
    dtype = torch.bfloat16 if o["autocast"] else torch.float32
    result = {
        "tokens_per_second": round(float(np.median(rates[best]))),
        "mfu": round(float(np.median(sides[best].flops)) / peak, 4) if peak else None,
        "ratio_to_plain_hf": round(float(np.median(ratios)), 3),
        "ratio_lowest": round(float(ratios.min()), 3),
        "ratio_highest": round(float(ratios.max()), 3),
        "rows": best,
        **{f"{name}_tokens_per_second": round(float(np.median(rate))) for name, rate in rates.items()},
        "flops_per_second": round(float(np.median(sides[best].flops))),
        "kernel": choose_kernel(device, dtype, heads, width // heads)[0],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {o['threads']} thread(s)",
        **{name: o[name] for name in ("preset", "batch_tokens", "max_len", "autocast", "compile", "repeats")},
        "passed": bool(np.median(ratios) >= AT_LEAST),
    }
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

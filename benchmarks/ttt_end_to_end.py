"""The whole test-time training of a task, K = 8 tasks at once, against full LoRA by PEFT, one task after another.

5.8 M Llama, sequences of 512 tokens, a pool of 20 pseudo-tasks a task, 200 steps; CPU seconds of one thread. What is
computed once for the pool is counted. `head` is measured as it is. A step's cost does not depend on its number, so
`top_m` (a quarter of the layers, 10 steps) and PEFT (2 steps a task) are measured on fewer steps and multiplied:
`extrapolated_from` has their steps. Median of 3 repeats, the sides in turn.
"""

import json
import sys
from statistics import median

import torch
from peft_reference import ALPHA, CLIP, DECAY, LR, R, SequentialPeft, interleaved, random_llama, random_sequences

from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.trainer import train_slots

AT_LEAST = {"head_speedup": 20.0, "top_m_speedup": 3.0}
K, LENGTH, POOL, STEPS, REPEATS = 8, 512, 20, 200, 3
MEASURED = {"peft": 2, "top_m": 10, "head": STEPS}  # steps


def main() -> None:
    torch.set_num_threads(1)
    lm = random_llama("5.8M")
    names = [f"task{k}" for k in range(K)]
    pools = [random_sequences(POOL, LENGTH, seed=k) for k in range(K)]
    options = {"r": R, "lora_alpha": ALPHA, "train_vocab": False}
    models = {mode: MultiLoRAModel(lm, names, mode=mode, **options) for mode in ("head", "top_m", "full")}
    peft = SequentialPeft(random_llama("5.8M"), models["full"])
    examples = {}

    def cache(mode: str) -> None:
        examples[mode] = prepare(models[mode], pools)

    def train(mode: str) -> None:
        train_slots(models[mode], examples[mode], steps=MEASURED[mode], lr=LR, weight_decay=DECAY, max_grad_norm=CLIP)

    def train_peft() -> None:
        for k, pool in enumerate(pools):
            peft.activate(k)
            for step in range(MEASURED["peft"]):
                peft.step(k, pool[step])

    sides = {
        "peft": train_peft,
        "head_cache": lambda: cache("head"),
        "head": lambda: train("head"),
        "top_m_cache": lambda: cache("top_m"),
        "top_m": lambda: train("top_m"),
    }
    seconds = {name: median(found) for name, found in interleaved(sides, REPEATS, warm_up=0).items()}
    a_task = {mode: seconds[mode] * STEPS / MEASURED[mode] / K for mode in MEASURED}  # training alone
    for mode in ("head", "top_m"):
        a_task[mode] += seconds[f"{mode}_cache"] / K
    result = {f"{mode}_speedup": round(a_task["peft"] / a_task[mode], 2) for mode in ("head", "top_m")}
    result |= {f"{mode}_seconds_per_task": round(value, 3) for mode, value in a_task.items()}
    result |= {f"{mode}_cache_seconds_per_task": round(seconds[f"{mode}_cache"] / K, 3) for mode in ("head", "top_m")}
    result["extrapolated_from"] = " ".join(f"{mode}:{n}" for mode, n in MEASURED.items() if n != STEPS)
    result["passed"] = all(result[name] >= bound for name, bound in AT_LEAST.items())
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

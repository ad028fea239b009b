"""How many times as fast a task-step (or a token) is with K = 8 adapters in one stack as with one after another.

Both sides in one process on one CPU thread, in CPU seconds, in turn; medians of the paired ratios of 9 repeats.
`full_*`: LoRA on all linear layers, both sides; `head_cached_k8`: a step of cached head adapters against a step of full
LoRA by PEFT, which is another method, not another K; `decode_k8`: greedy answers of 8 tasks together and one at a time.
"""

import json
import sys

import numpy as np
import torch
from peft_reference import ALPHA, CLIP, DECAY, LR, R, SequentialPeft, interleaved, random_llama, random_sequences, ratio

from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.decode import generate_with_lora
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.trainer import train_slots

AT_LEAST = {
    "full_k8_t512": 1.0,
    "full_k8_t64": 1.6,
    "full_k8_tiny_t16": 4.5,
    "head_cached_k8": 1000.0,
    "decode_k8": 4.2,
}
K, REPEATS = 8, 9
NAMES = [f"task{k}" for k in range(K)]
PROMPT, ANSWER = 256, 48  # tokens


def trainer(model: MultiLoRAModel, pools, steps: int):
    """A call that trains all slots for `steps` steps."""
    examples = prepare(model, pools)
    return lambda: train_slots(model, examples, steps=steps, lr=LR, weight_decay=DECAY, max_grad_norm=CLIP)


def sequential(lm_size: str, stacked: MultiLoRAModel, pools, steps: int):
    """A call that trains PEFT's adapters one after another for `steps` steps each."""
    peft = SequentialPeft(random_llama(lm_size), stacked)

    def run() -> None:
        for k, pool in enumerate(pools):
            peft.activate(k)
            for step in range(steps):
                peft.step(k, pool[step % len(pool)])

    return run


def full(size: str, length: int, steps: int) -> tuple[float, float]:
    """(speed-up, CPU seconds of PEFT's task-step)."""
    pools = [random_sequences(2, length, seed=k) for k in range(K)]
    model = MultiLoRAModel(random_llama(size), NAMES, mode="full", r=R, lora_alpha=ALPHA, train_vocab=False)
    seconds = interleaved(
        {"peft": sequential(size, model, pools, steps), "stacked": trainer(model, pools, steps)}, REPEATS
    )
    return ratio(seconds["peft"], seconds["stacked"]), float(np.median(seconds["peft"])) / (K * steps)


def head_cached(full_step: float, steps: int = 100) -> float:
    """Against `full_step` CPU seconds of PEFT's task-step at the same length."""
    pools = [random_sequences(4, 512, seed=k) for k in range(K)]
    run = trainer(MultiLoRAModel(random_llama("5.8M"), NAMES, mode="head", r=R, lora_alpha=ALPHA), pools, steps)
    seconds = interleaved({"head": run}, REPEATS)["head"]
    return full_step / (float(np.median(seconds)) / (K * steps))


def decode() -> float:
    """Answers of `ANSWER` tokens behind prompts of `PROMPT`, with adapters on all linear layers."""
    lm = random_llama("5.8M")
    model = MultiLoRAModel(lm, NAMES, mode="full", r=R, lora_alpha=ALPHA, train_vocab=False)
    with torch.no_grad():  # no token may end an answer early: rows of digits go on to the limit
        lm.head.weight[lm.vocabulary.end] = 0
    prompts = [e.input_ids for k in range(K) for e in random_sequences(1, PROMPT, seed=k)]
    tokens = []

    def answer(slots: range) -> None:
        made = generate_with_lora(model, [prompts[k] for k in slots], slots, [ANSWER] * len(slots))
        tokens.append(sum(len(a.token_ids) for a in made))

    sides = {
        "alone": lambda: [answer(range(k, k + 1)) for k in range(K)],
        "together": lambda: answer(range(K)),
    }
    seconds = interleaved(sides, REPEATS)
    assert sum(tokens) == 2 * (REPEATS + 1) * K * ANSWER, "both sides must write the same number of tokens"
    return ratio(seconds["alone"], seconds["together"])


def main() -> None:
    torch.set_num_threads(1)
    result = {}

    def found(name: str, value: float) -> None:
        result[name] = round(value, 2)
        print(name, result[name], flush=True)

    speed_up, full_step = full("5.8M", 512, steps=1)
    found("full_k8_t512", speed_up)
    found("full_k8_t64", full("5.8M", 64, steps=2)[0])
    found("full_k8_tiny_t16", full("0.28M", 16, steps=10)[0])
    found("head_cached_k8", head_cached(full_step))
    found("decode_k8", decode())
    result["peft_full_step_seconds_t512"] = round(full_step, 4)
    result["repeats"] = REPEATS
    result["passed"] = all(result[name] >= bound for name, bound in AT_LEAST.items())
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

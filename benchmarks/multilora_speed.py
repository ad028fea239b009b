"""How many times as fast a task-step (or a token) is with K = 8 adapters in one stack as with one after another.

Both sides in one process on one CPU thread, in CPU seconds, in turn; medians of the paired ratios of 9 repeats.
`full_*`: LoRA on all linear layers, both sides; `head_cached_k8`: a step of cached head adapters against a step of full
LoRA by PEFT, which is another method, not another K; `decode_k8`, `decode_k16`: a greedily written token of 8 or 16
tasks together and one at a time, the reading of the prompts not counted, which is as much work in a batch as alone
(`answer_k8` counts it).

The four axes on which a speed-up may be claimed, each with all else equal, at 512 tokens: `axis_k` more adapters in the
stack (= `full_k8_t512`), `axis_depth_*` fewer layers that adapt (K = 8, nothing cached), `axis_cache_*` what the frozen
layers compute kept (K = 8, the cache already there), `axis_decode` (= `decode_k8`).
"""

import json
import sys
from functools import partial

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


def axes(repeats: int = 5) -> dict[str, float]:
    """How much depth and cache are worth, K = 8, against what is one step dearer; medians of paired ratios."""
    lm, pools = random_llama("5.8M"), [random_sequences(2, 512, seed=k) for k in range(K)]
    sides = {}
    for mode, cached, steps in (
        ("full", False, 1),
        ("top_m", False, 1),
        ("top_m", True, 2),
        ("head", False, 1),
        ("head", True, 50),
    ):
        model = MultiLoRAModel(lm, NAMES, mode=mode, r=R, lora_alpha=ALPHA, train_vocab=False)
        examples = prepare(model, pools) if cached else pools
        sides[mode, cached] = steps, partial(train_slots, model, examples, steps=steps, lr=LR)
    timed = interleaved({key: run for key, (_, run) in sides.items()}, repeats)
    step = {key: [t / sides[key][0] for t in seconds] for key, seconds in timed.items()}
    return {
        "axis_depth_top_m": ratio(step["full", False], step["top_m", False]),
        "axis_depth_head": ratio(step["full", False], step["head", False]),
        "axis_cache_top_m": ratio(step["top_m", False], step["top_m", True]),
        "axis_cache_head": ratio(step["head", False], step["head", True]),
    }


def decode() -> dict[str, float]:
    """Answers of `ANSWER` tokens behind prompts of `PROMPT`, with adapters on all linear layers."""
    lm = random_llama("5.8M")
    with torch.no_grad():  # no token may end an answer early: rows of digits go on to the limit
        lm.head.weight[lm.prompt_form.end] = 0
    prompts = [e.input_ids for k in range(2 * K) for e in random_sequences(1, PROMPT, seed=k)]
    models = {
        n: MultiLoRAModel(lm, [f"task{k}" for k in range(n)], mode="full", r=R, lora_alpha=ALPHA, train_vocab=False)
        for n in (K, 2 * K)
    }

    def answer(n: int, slots: range, tokens: int) -> None:
        made = generate_with_lora(models[n], [prompts[k] for k in slots], slots, [tokens] * len(slots))
        assert [len(a.token_ids) for a in made] == [tokens] * len(slots), "all sides must write as many tokens"

    def all_alone(tokens: int) -> None:
        for k in range(K):
            answer(K, range(k, k + 1), tokens)

    sides = {
        "alone": partial(all_alone, ANSWER + 1),
        "alone_first": partial(all_alone, 1),  # reads the prompts
        **{f"{n}": partial(answer, n, range(n), ANSWER + 1) for n in models},
        **{f"{n}_first": partial(answer, n, range(n), 1) for n in models},
    }
    seconds = {name: np.array(found) for name, found in interleaved(sides, REPEATS).items()}
    alone = (seconds["alone"] - seconds["alone_first"]) / K  # of ANSWER tokens of one task
    together = {n: (seconds[f"{n}"] - seconds[f"{n}_first"]) / n for n in models}
    return {
        "decode_k8": ratio(alone, together[K]),
        "decode_k16": ratio(alone, together[2 * K]),
        "answer_k8": ratio(seconds["alone"], seconds[f"{K}"]),
        "decode_ms_a_token_alone": 1e3 * float(np.median(alone)) / ANSWER,
        "decode_ms_a_token_k8": 1e3 * float(np.median(together[K])) / ANSWER,
    }


def main() -> None:
    torch.set_num_threads(1)
    result = {}

    def found(name: str, value: float) -> None:
        result[name] = round(value, 2)
        print(name, result[name], flush=True)

    speed_up, full_step = full("5.8M", 512, steps=1)
    found("full_k8_t512", speed_up)
    found("full_k8_t64", full("5.8M", 64, steps=6)[0])
    found("full_k8_tiny_t16", full("0.28M", 16, steps=10)[0])
    found("head_cached_k8", head_cached(full_step))
    for name, value in (*decode().items(), *axes().items()):
        found(name, value)
    result["axis_k"], result["axis_decode"] = result["full_k8_t512"], result["decode_k8"]
    result["peft_full_step_seconds_t512"] = round(full_step, 4)
    result["repeats"] = REPEATS
    result["passed"] = all(result[name] >= bound for name, bound in AT_LEAST.items())
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

"""K = 4 adapters trained in one stack against 4 separate trainings by PEFT; and one slot full of NaN.

Both sides: every linear layer, sequences of 20-100 tokens, loss on the answer, clip 1.0 an adapter, AdamW with weight
decay, 20 steps.
"""

import json
import sys

import numpy as np
import torch
from peft_reference import ALPHA, CLIP, DECAY, LR, R, SequentialPeft, random_llama, random_sequences

from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.trainer import train_slots

MAX_DIFF_F64, MAX_DIFF_F32 = 1e-10, 1e-5
K, STEPS = 4, 20


def stacked(dtype: torch.dtype, lm=None) -> MultiLoRAModel:
    lm = lm or random_llama("0.28M", dtype)
    names = [f"task{k}" for k in range(K)]
    return MultiLoRAModel(lm, names, mode="full", r=R, lora_alpha=ALPHA, train_vocab=False, dtype=dtype)


def train(model: MultiLoRAModel, pools) -> np.ndarray:
    # without warm-up the rate falls linearly, on both sides
    return train_slots(
        model, pools, steps=STEPS, lr=LR, weight_decay=DECAY, max_grad_norm=CLIP, warmup=0.0, max_skips=STEPS + 1
    ).losses


def largest_difference(dtype: torch.dtype) -> tuple[float, float]:
    """(of parameters, of losses) between the stack and the separate trainings."""
    model = stacked(dtype)
    peft = SequentialPeft(random_llama("0.28M", dtype), model)
    pools = [random_sequences(1, (20, 101), seed=k) for k in range(K)]
    losses = train(model, pools)
    of_losses, of_parameters = 0.0, 0.0
    for k, pool in enumerate(pools):
        peft.activate(k)
        for step in range(STEPS):
            loss = peft.step(k, pool[0], LR * (1 - step / STEPS))
            of_losses = max(of_losses, abs(loss - losses[step, k]))
        of_parameters = max(of_parameters, (peft.flat(k) - model.bank.flat[k]).abs().max().item())
    return of_parameters, of_losses


def nan_slot_leaves_others_identical() -> bool:
    pools = [random_sequences(3, (20, 101), seed=k) for k in range(K)]
    flats = []
    for poisoned in (False, True):
        model = stacked(torch.float32)
        if poisoned:
            model.bank.flat[1] = torch.nan
        train(model, pools)
        flats.append(model.bank.flat)
    others = [0, 2, 3]
    return torch.equal(flats[0][others], flats[1][others]) and bool(flats[1][1].isnan().all())


def main() -> None:
    torch.set_num_threads(1)
    f64, loss_f64 = largest_difference(torch.float64)
    f32, loss_f32 = largest_difference(torch.float32)
    identical = nan_slot_leaves_others_identical()
    result = {
        "max_param_diff_f64": f64,
        "max_param_diff_f32": f32,
        "max_loss_diff_f64": loss_f64,
        "max_loss_diff_f32": loss_f32,
        "nan_slot_others_identical": identical,
        "passed": f64 <= MAX_DIFF_F64 and f32 <= MAX_DIFF_F32 and identical,
    }
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

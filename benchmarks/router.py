"""Two families of adapters with a router against one family: answer NLL on training tasks that no training has seen.

Three adapters in one stack, as many steps each, on labelled ARC-AGI-1 training tasks: `local` on crops, `global` on
whole grids, `one` on both. Then, on held-out training tasks (`lm.corpus.held_out_tasks`), nats an answer token of each
adapter, of the one that the router picks, and of the better one by hindsight. The router is fitted on ARC-AGI-1
training tasks that were left out of the adapters' training. `gain`: `one` minus routed, mean over tasks with its 95 %
bootstrap interval. The controls: the base without adapters, and either family for all tasks. Passed: the family that
was picked most gives the same logits when it is merged into the base.
"""

import argparse
import json
import zlib

import numpy as np
import torch

from arc_helpers.arc import Task, build_pseudo_tasks, load_tasks
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import Encoded, TaskTooLong, encode
from arc_helpers.pretrain.corpus import allowed_for_pretraining, held_out_tasks
from arc_helpers.ttt.cache import slot_losses
from arc_helpers.ttt.features import task_features
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.router import Router, cropped, merged
from arc_helpers.ttt.trainer import train_slots

FAMILIES = ["local", "global", "one"]
CROP, MAX_LEN, RESAMPLES = 5, 1024, 2000


def sequences(lm: LoadedLM, tasks: list[Task], crop: int | None, seed: int = 0) -> list[Encoded]:
    """One pseudo-task of each task in a random view, of a crop of it or of all of it, shortest first."""
    made, rng = [], np.random.default_rng(seed)
    for task in tasks:
        shown = task if crop is None else cropped(task, crop, rng)
        if shown is not None and len(shown.train) > 1:
            pseudo = build_pseudo_tasks(shown, 1, seed)[0].task
            made.append(encode(pseudo, lm.prompt_form, max_len=MAX_LEN, all_outputs=True))
    return sorted(made, key=len)


def trained(lm: LoadedLM, tasks: list[Task], steps: int, batch: int) -> MultiLoRAModel:
    """The three families in one stack."""
    model = MultiLoRAModel(lm, FAMILIES, mode="full", r=16, lora_alpha=32.0)
    rounds = range(-(-steps * batch // len(tasks)))
    local = [s for seed in rounds for s in sequences(lm, tasks, CROP, seed)]
    whole = [s for seed in rounds for s in sequences(lm, tasks, None, seed)]
    training = train_slots(model, [local, whole, local[::2] + whole[::2]], steps=steps, batch=batch, lr=3e-3)
    print("losses, first and last ten steps:", training.losses[:10].mean(axis=0), training.losses[-10:].mean(axis=0))
    return model


@torch.no_grad()
def losses_of(model: MultiLoRAModel, examples: list[Encoded]) -> np.ndarray:
    """Nats an answer token of each example under each family, and under a fresh adapter, which is the base: [n, 4]."""
    fresh = MultiLoRAModel(model.lm, ["base"], mode="full", r=16, lora_alpha=32.0)
    rows = []
    for example in examples:
        families = slot_losses(model, [example] * len(FAMILIES), torch.arange(len(FAMILIES)))
        rows.append([*families.tolist(), slot_losses(fresh, [example], torch.arange(1)).item()])
    return np.array(rows)


def question(lm: LoadedLM, task: Task) -> Encoded | None:
    """A task's first test input with its output, whose tokens count."""
    try:
        return encode(task, lm.prompt_form, max_len=MAX_LEN)
    except TaskTooLong:
        return None


def interval(values: np.ndarray) -> tuple[float, float]:
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/arc-micro", help="folder of the model")
    parser.add_argument("--steps", type=int, default=150, help="training steps of every family")
    parser.add_argument("--batch", type=int, default=2, help="sequences a step of every family")
    parser.add_argument("--max-side", type=int, default=10, help="longest side of a grid, in cells")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lm = load_causal_lm(options.model)
    known = [t for t in allowed_for_pretraining(load_tasks("arcagi1/training"))[0] if t.max_side <= options.max_side]
    known = sorted(known, key=lambda task: zlib.crc32(task.id.encode()))
    for_router, for_families = known[: len(known) // 3], known[len(known) // 3 :]
    model = trained(lm, for_families, options.steps, options.batch)

    asked = [(task, question(lm, task)) for task in held_out_tasks(options.max_side)]
    asked = [(task, example) for task, example in asked if example is not None]
    rehearsed = [(task, question(lm, task)) for task in for_router]
    rehearsed = [(task, example) for task, example in rehearsed if example is not None]
    router = Router.fitted(
        task_features(lm, [task for task, _ in rehearsed]), losses_of(model, [e for _, e in rehearsed])[:, :2], l2=10.0
    )
    losses = losses_of(model, [example for _, example in asked])  # [n, 4]
    picked = router.pick(task_features(lm, [task for task, _ in asked]))
    routed = losses[np.arange(len(asked)), picked]
    popular = int(np.bincount(picked, minlength=2).argmax())
    one = merged(model, popular)
    example = asked[0][1]
    ids = torch.from_numpy(example.input_ids)[None]
    with torch.no_grad():
        apart = float((one.model(ids).logits - model(ids, torch.tensor([popular]))).abs().max())
    gain = losses[:, 2] - routed
    low, high = interval(gain)
    print("| adapter | nats an answer token |\n|---|---|")
    for name, values in (*zip([*FAMILIES, "base"], losses.T, strict=True), ("routed", routed)):
        print(f"| {name} | {values.mean():.4f} |")
    result = {
        "tasks": len(asked),
        "router_tasks": len(rehearsed),
        **{f"nll_{name}": round(float(losses[:, i].mean()), 4) for i, name in enumerate([*FAMILIES, "base"])},
        "nll_routed": round(float(routed.mean()), 4),
        "nll_hindsight": round(float(losses[:, :2].min(axis=1).mean()), 4),
        "picked_local": round(float((picked == 0).mean()), 3),
        "right_picks": round(float((picked == losses[:, :2].argmin(axis=1)).mean()), 3),
        "merged": FAMILIES[popular],
        "merged_max_logit_diff": apart,
        "gain": round(float(gain.mean()), 4),
        "gain_low": round(low, 4),
        "gain_high": round(high, 4),
    }
    print(json.dumps({**result, "passed": apart < 1e-3}))


if __name__ == "__main__":
    main()

"""How many times as fast the engine for small bases is: joint training, per-task training, answering; and how exact.

Both sides in one process on one CPU thread, in CPU seconds, in turn; medians of the paired ratios of `REPEATS`.
`joint_ratio`: a GridLM of the nano shape from nothing on single pairs of the demonstrations of all 400 ARC-AGI-1
evaluation tasks, whole steps with optimizer and averaging; the old way is the module's own forward with bfloat16
autocast, a step's 8,192 tokens at once. `ttt_ratio`: a step of 8 adapters on arc-micro, longest sequence about 526
tokens; the old way is hooks in float32, 1,024 tokens at a time. `answer_ratio`: 4 of these tasks in 8 views, product of
experts; the old way reads all prompts in one masked batch, padded on the left, and again for scoring. Compiling is told
beside the ratios (`compile_seconds`, of the first time on a machine or of torch's cache). `max_gradient_diff` and
`max_logit_diff` (a share of the largest logit) compare engine and hooks in float32.
"""

import json
import sys
import time

import numpy as np
import torch
from peft_reference import interleaved, ratio
from transformers.cache_utils import Cache

from arc_helpers.arc import Task, load_tasks
from arc_helpers.engine import Engine
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.pretrain.trainer import Pretrainer
from arc_helpers.runs import choose_device
from arc_helpers.ttt import answer
from arc_helpers.ttt.cache import answer_logits, slot_losses
from arc_helpers.ttt.decode import left_pad
from arc_helpers.ttt.jobs import Job
from arc_helpers.ttt.joint import JointPairs, joint_config, with_task_tokens
from arc_helpers.ttt.merged import merged_losses, merged_weights
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import encode_pool
from arc_helpers.ttt.reading import Reading, RoomyLayer
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.trainer import MultiLoraTrainer

AT_LEAST = {"joint_ratio": 1.8, "ttt_ratio": 1.8, "answer_ratio": 2.0}
AT_MOST = {"max_gradient_diff": 1e-5, "max_logit_diff": 1e-5}
K, REPEATS, LONGEST = 8, 7, 540
SETTINGS = TTTSettings(k=K, num_pseudo=8, mode="full")


class PaddedReading(Reading):
    """The old way: all prompts in one masked batch, and nothing kept."""

    @torch.no_grad()
    def cache(self, prompts, slots, counts=None):
        lm, model = self.model.lm, self.model
        ids, mask = left_pad(prompts, lm.prompt_form.pad, lm.device)
        inputs = {"attention_mask": mask[:, :-1], "position_ids": lm.positions(ids, mask)[:, :-1]}
        cache = model.hidden(ids[:, :-1], torch.tensor(slots), use_cache=True, **inputs).past_key_values
        cache.batch_select_indices(torch.arange(len(prompts)).repeat_interleave(torch.tensor(counts or [1] * len(ids))))
        return Cache(layers=[RoomyLayer.holding(layer.keys, layer.values) for layer in cache.layers])


def joint(lm: LoadedLM, steps: int = 1) -> tuple[float, dict]:
    """Ratio, and what else is worth telling."""
    pools = {task.id: task.without_answers().train for task in load_tasks("arcagi1/evaluation")}
    sides, tokens = {}, {}

    def side(name: str, **changes):
        torch.manual_seed(0)
        model, names = with_task_tokens(GridLMForCausalLM(GridLMConfig.preset("nano")), tuple(pools), 0)
        source = JointPairs(pools, names, lm.prompt_form, lm.max_len, 0, "pairs")
        never = {"log_every": 10**6, "checkpoint_every": 10**6}
        trainer = Pretrainer(model, source, joint_config(choose_device("cpu").device, 10**6, **never, **changes))
        batches, tokens[name] = trainer._batches(), []

        def run() -> None:
            for _ in range(steps):
                batch = next(batches)
                tokens[name].append(batch.tokens)
                trainer._one_step(batch)

        return run, trainer.notes

    sides["old"], _ = side("old", engine=False, compile=False, micro_tokens=None)
    began = time.process_time()
    sides["new"], notes = side("new")
    compiling = time.process_time() - began
    seconds = interleaved(sides, REPEATS, warm_up=1)
    speed = {name: sum(tokens[name][steps:]) / sum(seconds[name]) for name in sides}
    rounded = {f"joint_{name}_tokens_per_second": round(found) for name, found in speed.items()}
    return ratio(seconds["old"], seconds["new"]), {
        **rounded,
        "engine": notes[-1],
        "compile_seconds": round(compiling, 1),
    }


def chosen(lm: LoadedLM) -> tuple[list[Task], list[list[Encoded]]]:
    """K training tasks whose longest pseudo-task is just below LONGEST, and their pools."""
    tasks = [task.without_answers() for task in load_tasks("arcagi1/training")[:120]]
    pools = [sorted(encode_pool(lm, task, SETTINGS)[0], key=len) for task in tasks]
    order = sorted((i for i in range(len(tasks)) if len(pools[i][-1]) <= LONGEST), key=lambda i: -len(pools[i][-1]))
    return [tasks[i] for i in order[:K]], [pools[i] for i in order[:K]]


def adapters(lm: LoadedLM, tasks: list[Task]) -> MultiLoRAModel:
    return MultiLoRAModel(lm, [task.id for task in tasks], mode="full", r=SETTINGS.r)


def per_task(lm: LoadedLM, tasks: list[Task], pools: list[list[Encoded]], steps: int = 2) -> tuple[float, dict]:
    jobs = [Job(task.id, pool, steps) for task, pool in zip(tasks, pools, strict=True)]
    engine = Engine(lm.model.config, lm.device, compile=True)
    sides = {"old": MultiLoraTrainer(adapters(lm, tasks)), "new": MultiLoraTrainer(adapters(lm, tasks), engine=engine)}
    # two turns first: they compile
    seconds = interleaved({name: lambda t=t: t.run(jobs) for name, t in sides.items()}, REPEATS, warm_up=2)
    counted = sides["new"].cost.tokens / (REPEATS + 2)
    rounded = {f"ttt_{name}_tokens_per_second": round(counted / np.median(found)) for name, found in seconds.items()}
    return ratio(seconds["old"], seconds["new"]), {**rounded, "ttt_longest": len(pools[0][-1])}


def answering(lm: LoadedLM, tasks: list[Task], pools: list[list[Encoded]], repeats: int = 3) -> tuple[float, dict]:
    model = adapters(lm, tasks)
    MultiLoraTrainer(model).run([Job(task.id, pool, 12) for task, pool in zip(tasks, pools, strict=True)])
    found = {}

    def side(name: str, kind: type[Reading]):
        def run() -> None:
            results = [TaskResult(task.id) for task in tasks]
            answer.Reading = kind
            answer.answer_group(model, tasks, results, SETTINGS)
            found[name] = [[grid.tolist() for grid in pair] for result in results for pair in result.attempts]

        return run

    seconds = interleaved({"old": side("old", PaddedReading), "new": side("new", Reading)}, repeats)
    answer.Reading = Reading
    rounded = {f"answer_{name}_seconds": round(float(np.median(s)), 2) for name, s in seconds.items()}
    return ratio(seconds["old"], seconds["new"]), {**rounded, "answers_equal": found["old"] == found["new"]}


def differences(lm: LoadedLM, tasks: list[Task], pools: list[list[Encoded]]) -> dict[str, float]:
    """The largest between engine and hooks: of gradients, and of a sequence's logits as a share of its largest."""
    model, engine = adapters(lm, tasks), Engine(lm.model.config, lm.device, products=torch.float32)
    with torch.no_grad():
        model.bank.flat.add_(0.02 * torch.randn(model.bank.flat.shape, generator=torch.Generator().manual_seed(0)))
    slots, examples, gradients = list(range(len(tasks))), [pool[0] for pool in pools], []
    for losses in (
        slot_losses(model, examples, torch.tensor(slots)),
        merged_losses(engine, model, examples, slots),
    ):
        model.bank.grad.zero_()
        losses.sum().backward()
        gradients.append(model.bank.grad.clone())
    largest = 0.0
    for k, example in enumerate(examples):
        ids = torch.from_numpy(example.input_ids)[None]
        positions = lm.model.grid_positions(ids)
        with torch.no_grad():
            weights = merged_weights(model, [k])
            hidden = engine.hidden(weights, ids, positions, lm.model.model.rotary(positions))[0, 0]
            at = torch.from_numpy(example.labels)[1:] != IGNORE
            own, hooks = hidden[:-1][at] @ weights.head[0], answer_logits(model, [example], torch.tensor([k]))[0][0]
        largest = max(largest, ((own - hooks).abs().max() / hooks.abs().max()).item())
    return {"max_gradient_diff": (gradients[0] - gradients[1]).abs().max().item(), "max_logit_diff": largest}


def main() -> None:
    torch.set_num_threads(1)
    lm = load_causal_lm("models/arc-micro", device=choose_device("cpu").device, max_len=2048)
    tasks, pools = chosen(lm)
    result: dict = {}
    for name, (value, more) in (
        ("joint_ratio", joint(lm)),
        ("ttt_ratio", per_task(lm, tasks, pools)),
        ("answer_ratio", answering(lm, tasks[:4], pools[:4])),
    ):
        result |= {name: round(value, 2), **more}
        print(name, result[name], more, flush=True)
    result |= differences(lm, tasks, pools)
    result["repeats"] = REPEATS
    result["passed"] = all(result[name] >= bound for name, bound in AT_LEAST.items()) and all(
        result[name] <= bound for name, bound in AT_MOST.items()
    )
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

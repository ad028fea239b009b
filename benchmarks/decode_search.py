"""Greedy decoding against beams and against depth-first search: is the truth among the candidates, and is it chosen?

Small training tasks that the model has not seen and that no set scores; adapters are trained once, as the laptop
profile says, then each decoder answers with the same adapters, each test input in 8 views (greedy also in 16, as the
use of more time that costs no idea). All candidates are ranked by their product over the same 8 views. Seconds: CPU
time of decoding and scoring, a task, on one thread. Paired with greedy: what a decoder covers that greedy does not, and
the reverse.
The bound: the search covers at least what greedy covers, and at `min_prob` 0.1 within twice greedy's time.
"""

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from arc_helpers.arc import Task, wilson_interval
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import encode
from arc_helpers.pretrain.corpus import held_out_tasks
from arc_helpers.runs import load_profile
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.group import new_model
from arc_helpers.ttt.grouping import length_groups, training_length
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.pools import encode_pool, views_of
from arc_helpers.ttt.ranking import Candidate, product_of_experts, same_size_first, score_answers, two_attempts, vote
from arc_helpers.ttt.search import answers_with_lora
from arc_helpers.ttt.settings import settings_from
from arc_helpers.ttt.trainer import train_multi_lora

SETTINGS = settings_from(load_profile("laptop").multilora_ttt, seed=0)
VIEWS, SCORED = 8, 20  # views that every candidate is scored in; candidates a test input that are scored
MAX_SLOWDOWN = 2.0
DECODERS: dict[str, tuple[int, Callable]] = {  # name: (views, decoder)
    "greedy": (VIEWS, partial(answers_with_lora, "greedy")),
    "greedy_16": (2 * VIEWS, partial(answers_with_lora, "greedy")),
    "beam_2": (VIEWS, partial(answers_with_lora, "beam", width=2)),
    "dfs_0.1": (VIEWS, partial(answers_with_lora, "dfs", min_prob=0.1)),
    "dfs_0.01": (VIEWS, partial(answers_with_lora, "dfs", min_prob=0.01)),
}


@dataclass
class Tally:
    """Of one decoder, over all test inputs."""

    candidates: int = 0
    covered: list[bool] = field(default_factory=list)  # a test input: is the truth among its candidates?
    solved: list[bool] = field(default_factory=list)  # is it one of the two attempts?
    seconds: float = 0.0


def chosen_tasks(n: int, max_side: int) -> list[Task]:
    """n held-out tasks, drawn by the checksum of their ids."""
    return sorted(held_out_tasks(max_side), key=lambda task: zlib.crc32(task.id.encode()))[:n]


def trained(lm: LoadedLM, tasks: list[Task]) -> MultiLoRAModel:
    """One adapter a task."""
    model = new_model(lm, [t.id for t in tasks], SETTINGS)
    pools = [sorted(encode_pool(lm, task, SETTINGS)[0], key=len) for task in tasks]
    train_multi_lora(model, prepare(model, pools), steps=SETTINGS.steps, lr=SETTINGS.lr)
    return model


def questions(lm: LoadedLM, tasks: list[Task], views: int) -> Iterator[tuple]:
    """(slot, test index, view, prompt, room) of each test input of each task in each view."""
    for slot, task in enumerate(tasks):
        for i in range(len(task.test)):
            room = lm.prompt_form.answer_room(task, i)
            for view in views_of(task, views):
                prompt = encode(view.task(task), lm.prompt_form, test_index=i, max_len=lm.max_len, answer_room=room)
                yield slot, i, view, prompt.input_ids, room


def answer(model: MultiLoRAModel, tasks: list[Task], views: int, decoder: Callable) -> dict[tuple[int, int], list]:
    """{(slot, test index): ranked candidates}."""
    prompt_form = model.lm.prompt_form
    asked = list(questions(model.lm, tasks, views))
    slots, indices, transforms, prompts, rooms = zip(*asked, strict=True)
    found: dict[tuple[int, int], list[Candidate]] = {(s, i): [] for s, i in zip(slots, indices, strict=True)}
    for slot, i, view, own in zip(slots, indices, transforms, decoder(model, prompts, slots, rooms), strict=True):
        for generated in own:
            if generated.finished:
                ids = [*generated.token_ids, prompt_form.end]
                grid = view.inverse.grid(prompt_form.answer_grid(ids))
                found[slot, i].append(Candidate(grid, view.name, generated.logprob / len(ids)))
    ranked = {(s, i): vote(own, tasks[s].train)[:SCORED] for (s, i), own in found.items()}
    judges = list(questions(model.lm, tasks, VIEWS))
    written = [[prompt_form.output_ids(view.grid(r.grid)) for r in ranked[slot, i]] for slot, i, view, _, _ in judges]
    scores = score_answers(model, [j[3] for j in judges], [j[0] for j in judges], written)
    for slot, i in ranked:
        logprobs = [score for score, j in zip(scores, judges, strict=True) if j[:2] == (slot, i)]
        ordered = product_of_experts(ranked[slot, i], np.stack(logprobs))
        ranked[slot, i] = same_size_first(ordered, tasks[slot].train, tasks[slot].test[i].input)
    return ranked


def measure(lm: LoadedLM, tasks: list[Task]) -> dict[str, Tally]:
    """Every decoder on every task; the decoders take turns within a group of tasks."""
    tallies = {name: Tally() for name in DECODERS}
    groups = length_groups(tasks, [training_length(task, lm.prompt_form) for task in tasks], SETTINGS.k)
    for n, group in enumerate(groups, start=1):
        hidden = [task.without_answers() for task in group]
        model = trained(lm, hidden)
        for name, (views, decoder) in DECODERS.items():
            start = time.process_time()
            ranked = answer(model, hidden, views, decoder)
            tallies[name].seconds += time.process_time() - start
            for (slot, i), own in ranked.items():
                truth = group[slot].test[i].output
                tallies[name].candidates += len(own)
                tallies[name].covered.append(any(np.array_equal(r.grid, truth) for r in own))
                tallies[name].solved.append(any(np.array_equal(g, truth) for g in two_attempts(own) or ()))
        print(f"group {n} of {len(groups)}", file=sys.stderr)
    return tallies


def table(tallies: dict[str, Tally], n_tasks: int, n_outputs: int) -> str:
    """Markdown; with 95 % intervals, and what is covered or solved that greedy does not, and the reverse."""
    lines = [
        f"{n_tasks} tasks, {n_outputs} test inputs",
        "| decoder | candidates | covered | 95 % | more / less | pass@2 | 95 % | more / less | CPU seconds a task |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, t in tallies.items():
        cells = [f"{t.candidates / n_outputs:.1f}"]
        for ours, greedy in ((t.covered, tallies["greedy"].covered), (t.solved, tallies["greedy"].solved)):
            low, high = wilson_interval(sum(ours), n_outputs)
            more, less = (sum(a > b for a, b in zip(*pair, strict=True)) for pair in ((ours, greedy), (greedy, ours)))
            cells += [f"{sum(ours)}", f"{low:.1%}–{high:.1%}", f"+{more} / −{less}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {t.seconds / n_tasks:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/arc-micro", help="folder of the model")
    parser.add_argument("--tasks", type=int, default=32, help="how many tasks")
    parser.add_argument("--max-side", type=int, default=7, help="longest side of a grid, in cells")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lm = load_causal_lm(options.model)
    tasks = chosen_tasks(options.tasks, options.max_side)
    n_outputs = sum(len(task.test) for task in tasks)
    tallies = measure(lm, tasks)
    print(table(tallies, len(tasks), n_outputs))
    result = {"tasks": len(tasks), "outputs": n_outputs}
    for name, t in tallies.items():
        key = name.replace(".", "_")
        result[f"{key}_coverage"] = round(sum(t.covered) / n_outputs, 4)
        result[f"{key}_pass2"] = round(sum(t.solved) / n_outputs, 4)
        result[f"{key}_seconds"] = round(t.seconds / len(tasks), 3)
    base, search = tallies["greedy"], tallies["dfs_0.1"]
    passed = sum(search.covered) >= sum(base.covered) and search.seconds <= MAX_SLOWDOWN * base.seconds
    print(json.dumps({**result, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

"""How much of a batch is padding when 8 tasks train side by side.

All 400 evaluation tasks of ARC-AGI-1, 16 pseudo-tasks each, nothing cut off; padded over real tokens of all sequences
of a training, each step taking one of each task. `padding_ratio`: groups by length and pools sorted by length, as
`ttt.solve_group` trains them, with the 95 % interval of a bootstrap over groups. Beside it: groups by the other
strategies that need no model, and groups by length with pools as they come.
"""

import json
import sys

import numpy as np

from arc_helpers.arc import Task, build_pseudo_tasks, load_tasks
from arc_helpers.lm.prompt import encode
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.ttt.grouping import group_tasks, padding_ratio, training_length

AT_MOST = 1.10
K, PSEUDO, RESAMPLES = 8, 16, 2000


def pool_lengths(task: Task, prompt_form: PromptForm) -> list[int]:
    """Tokens of a task's pseudo-tasks."""
    return [len(encode(p.task, prompt_form, all_outputs=True)) for p in build_pseudo_tasks(task, PSEUDO)]


def steps_of(pools: list[list[int]]) -> list[tuple[int, ...]]:
    """The lengths that are side by side, step by step."""
    return list(zip(*pools, strict=True))


def interval(groups: list[list[tuple[int, ...]]]) -> tuple[float, float]:
    """95 % of the ratios of groups drawn again and again."""
    padded = np.array([sum(len(step) * max(step) for step in group) for group in groups])
    real = np.array([sum(map(sum, group)) for group in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    low, high = np.percentile(padded[drawn].sum(axis=1) / real[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    prompt_form = PromptForm.from_tokenizer(arc_tokenizer())
    tasks = [task.without_answers() for task in load_tasks("arcagi1/evaluation")]
    lengths = {task.id: pool_lengths(task, prompt_form) for task in tasks}
    longest = [training_length(task, prompt_form) for task in tasks]

    def groups_by(strategy: str, in_order: bool = True) -> list[list[tuple[int, ...]]]:
        groups = group_tasks(tasks, longest, K, strategy=strategy)
        return [steps_of([sorted(lengths[t.id]) if in_order else lengths[t.id] for t in group]) for group in groups]

    def ratio(groups: list[list[tuple[int, ...]]]) -> float:
        return round(padding_ratio([step for group in groups for step in group]), 4)

    best = groups_by("length")
    low, high = interval(best)
    result = {"padding_ratio": ratio(best), "low": round(low, 4), "high": round(high, 4)}
    result["unsorted_pools"] = ratio(groups_by("length", in_order=False))
    result |= {name: ratio(groups_by(name)) for name in ("size", "palette", "random")}
    result |= {"tasks": len(tasks), "groups": len(best), "sequences": sum(map(len, lengths.values()))}
    print(json.dumps({**result, "passed": result["padding_ratio"] <= AT_MOST}))
    sys.exit(result["padding_ratio"] > AT_MOST)


if __name__ == "__main__":
    main()

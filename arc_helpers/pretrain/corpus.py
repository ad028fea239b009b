"""What a base model is pretrained on, and what it must never see."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from arc_helpers.arc import Pair, Task, check_split, concept_arc, find_overlap, load_tasks, re_arc
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.pretrain.curriculum import Curriculum, parse_curriculum
from arc_helpers.pretrain.mixture import Mixture, Sampler, fits, task_pools, task_sampler
from arc_helpers.rules import generate_pairs
from arc_helpers.runs import resolve_path

#: the sets that this project scores; nothing of them enters pretraining
SCORED = ("arcagi1/evaluation", "arcagi2/evaluation")
PAIRS_PER_TASK = 150  # of RE-ARC's ~650: augmentation makes more of each than the other 500 would add


def allowed_for_pretraining(tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """The tasks that share no id and no pair with a scored set, and a line for each that was left out.

    ARC-AGI-1 training itself has two such tasks: 40853293 repeats three pairs of the evaluation task 070dd51e.
    """
    scored = [task for name in SCORED for task in load_tasks(name)]
    overlap = find_overlap(tasks, scored)
    kept = [task for task in tasks if task.id not in overlap]
    check_split(kept, scored)
    return kept, [f"{task_id} left out: it overlaps with {other}" for task_id, other in overlap.items()]


def held_out_tasks(max_side: int) -> list[Task]:
    """Labelled tasks that are neither pretrained on nor scored: ARC-AGI-2 training without what ARC-AGI-1 has.

    Only those whose grids, answers included, are at most `max_side`. For curves and for choosing settings.
    """
    known = [task for name in ("arcagi1/training", *SCORED) for task in load_tasks(name)]
    tasks = load_tasks("arcagi2/training")
    overlap = find_overlap(tasks, known)
    return [t for t in tasks if t.id not in overlap and all(fits(p, max_side) for p in t.train + t.test)]


def procedural_sampler(max_side: int, max_demos: int = 4) -> Sampler:
    """New tasks from our own rule families, two rules at a time now and then."""

    def sample(rng: np.random.Generator) -> list[Pair]:
        n = int(rng.integers(2, max_demos + 1)) + 1
        return [Pair(a, b) for a, b in generate_pairs(rng, max_side=max_side, n_pairs=n)[1]]

    return sample


def build_mixture(prompt_form: PromptForm, **options) -> tuple[Mixture, dict[str, int], list[str]]:
    """The mixture without a curriculum; options and results as in `build_curriculum`."""
    curriculum, counts, notes = build_curriculum(prompt_form, **options)
    return curriculum.stages[-1][1], counts, notes


def build_curriculum(
    prompt_form: PromptForm,
    *,
    arc_training: str = "arcagi1/training",
    re_arc_path: str | None = None,
    concept_arc_path: str | None = None,
    procedural_share: float = 0.25,
    pair_share: float = 0.0,
    enlarge_share: float = 0.0,
    max_side: int = 12,
    max_len: int = 1024,
    stages: str | None = None,
    seed: int = 0,
) -> tuple[Curriculum, dict[str, int], list[str]]:
    """The curriculum, the number of tasks of each source in its last stage, and what was left out (one line each).

    Beside the procedural share, RE-ARC weighs 5, ARC training 2 and ConceptARC 1, where they are given. stages: as in
    `parse_curriculum`, smaller tasks first; None: all sizes from the start.
    """
    sizes = parse_curriculum(stages, (max_side, max_len))  # before the files are read, which takes a while
    tasks, notes = allowed_for_pretraining(load_tasks(arc_training))
    sets = {"arc_training": (2.0, partial(task_pools, tasks))}
    if re_arc_path:
        generated = re_arc(resolve_path(re_arc_path, must_exist=True))
        # RE-ARC carries ARC's ids: what is left out above is left out here, though its pairs are new
        allowed = {task.id for task in tasks}
        generated = {task_id: pairs for task_id, pairs in generated.items() if task_id in allowed}
        sets["re_arc"] = (5.0, partial(_generated_pools, generated))
    if concept_arc_path:
        concepts, more = allowed_for_pretraining(concept_arc(resolve_path(concept_arc_path, must_exist=True)))
        notes += more
        sets["concept_arc"] = (1.0, partial(task_pools, concepts))
    total = sum(weight for weight, _ in sets.values())

    def mixture(side: int, length: int) -> Mixture:
        pools = {name: (weight, pool(side)) for name, (weight, pool) in sets.items()}
        counts.update({name: len(pool) for name, (_, pool) in pools.items()})
        sources = {n: ((1 - procedural_share) * weight / total, task_sampler(p)) for n, (weight, p) in pools.items()}
        sources["procedural"] = (procedural_share, procedural_sampler(side))
        return Mixture(sources, prompt_form, length, seed, side, pair_share, enlarge_share)

    counts: dict[str, int] = {}
    curriculum = Curriculum(tuple((until, mixture(*size)) for until, size in sizes))
    return curriculum, counts, notes


def _generated_pools(generated: dict[str, list[Pair]], max_side: int) -> dict[str, list[Pair]]:
    """The first pairs of each task that fit; a task with fewer than five has only its smallest, odd ones."""
    pools = {i: [p for p in pairs if fits(p, max_side)][:PAIRS_PER_TASK] for i, pairs in generated.items()}
    return {task_id: pairs for task_id, pairs in pools.items() if len(pairs) >= 5}

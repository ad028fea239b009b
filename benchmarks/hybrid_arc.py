"""ARC tasks with a drafter and a TRM that mends its drafts: does it solve more than the language model alone?

Small evaluation tasks of ARC-AGI-1, the first `--tasks` of the 78 up to 10 × 10 by sha256 of their id. Copies of
arc-micro learn the demonstrations jointly and draft (8 views); TRM learns on held-out demonstrations, reads arc-micro's
states of the problem, and mends and weighs the drafts, up to 16 attempts each. No arm sees a test label; scoring reads
the saved submissions. All arms get the same CPU seconds, reading and drafting included, as far as that can be:

    lm_alone        the language model learns for as long as the hybrid takes altogether, then drafts and votes
    lm_same_drafts  the votes of the hybrid's own drafts: what TRM adds to
    hybrid          drafts and TRM's answers, merged by a rule fixed beforehand (`hybrid.merged`)
    shuffled        TRM trained and asked with the drafts of other tasks
    other_text      the hybrid asked with the language model's states of another task
    trm_alone       TRM with a trained vector a task: no text, no drafts
    muted           16 attempts whose changes are not told to the reader; told minus muted is about attempt 16

A single-pair drafter has 8 views and no more, so that equal time goes into learning. Intervals: bootstrap over seeds
and tasks. Bound: the hybrid does not solve fewer than the language model alone; the submissions are valid.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from arc_helpers.arc import (
    SubmissionWriter,
    Task,
    choose_tasks,
    load_tasks,
    num_tests_of,
    score_submission,
    validate_submission,
    write_ranked,
)
from arc_helpers.hybrid import (
    Example,
    HybridConfig,
    HybridModel,
    JointConfig,
    JointTrainer,
    answered_alone,
    bootstrap,
    build_arm,
    canvas_side,
    make_drafters,
    mend,
    mending_examples,
    merged,
    shuffled,
    trm_shape,
    without_last_demonstration,
    write_drafts,
)
from arc_helpers.hybrid.drafts import Drafts
from arc_helpers.lm import load_causal_lm
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import choose_device, has_bfloat16
from arc_helpers.ttt import adapt_jointly, joint_config, vote

DEVICE = choose_device("cpu").device  # CPU seconds are what is compared
VIEWS = 8
Grids = Mapping[tuple[str, int], Sequence[np.ndarray]]


def voted(tasks: Sequence[Task], drafts: Drafts) -> Grids:
    """The language model's own ranking."""
    trains = {task.id: task.train for task in tasks}
    return {key: [ranked.grid for ranked in vote(of, trains[key[0]])] for key, of in drafts.items()}


@dataclass(frozen=True)
class Arms:
    """One seed's tasks without answers, its reader, and how long things take, in CPU seconds."""

    tasks: list[Task]
    lm: LoadedLM
    seed: int
    draft_seconds: float
    mend_seconds: float
    attempts: int

    def examples(self, drafts: Drafts) -> list[Example]:
        """What TRM learns by, from drafts of held-out demonstrations."""
        return mending_examples(self.tasks, {(task.id, 0): [] for task in self.tasks} | dict(drafts))

    def trained(self, arm: str, examples: list[Example], seconds: float) -> HybridModel:
        """A TRM that has learned for so many seconds, reading included."""
        shape = trm_shape(96, 2, mends=arm != "task_id", condition_cells=True)
        joined = HybridConfig(canvas_side=canvas_side(self.tasks))
        model = build_arm(arm, self.lm, shape, joined, 1 + len(self.tasks), self.seed)
        settings = JointConfig(
            steps=None,
            batch_size=32,
            feedback_every=12,
            lr_matrices=0.01,
            seconds=seconds,
            autocast=has_bfloat16(DEVICE),
            seed=self.seed,
            log_every=50,
        )

        def report(metrics: dict) -> None:
            shown = {name: round(value, 3) for name, value in metrics.items()}
            print(f"{arm}: {json.dumps(shown)}", file=sys.stderr, flush=True)

        JointTrainer(model, examples, settings, on_metrics=report, clock=time.process_time).run()
        return model

    def answers(self) -> dict[str, Grids]:
        """What each arm answers, best first."""
        began, tasks, seed = time.process_time(), self.tasks, self.seed
        early, late = make_drafters(self.lm, tasks, seconds=self.draft_seconds, seed=seed, clock=time.process_time)
        shown = write_drafts(early, [held for t in tasks if (held := without_last_demonstration(t))], VIEWS)
        drafts = write_drafts(late, tasks, VIEWS)
        model = self.trained("joint", self.examples(shown), self.mend_seconds)
        told = mend(model, tasks, drafts, attempts=self.attempts)
        spent = time.process_time() - began
        made = {"told": told, "muted": mend(model, tasks, drafts, attempts=self.attempts, told=False)}
        model.config = replace(model.config, control="shuffled")
        made["other_text"] = mend(model, tasks, drafts)
        misled = self.trained("joint", self.examples(shuffled(shown)), self.mend_seconds)
        made["shuffled"] = mend(misled, tasks, shuffled(drafts))
        bare = [replace(e, question=replace(e.question, draft=None)) for e in self.examples(shown)]
        alone = mend(self.trained("task_id", bare, spent), tasks, drafts)
        longer = adapt_jointly(self.lm, tasks, joint_config(DEVICE, None, spent, seed=seed), clock=time.process_time)
        print(f"seed {seed}: {spent:.0f} CPU seconds an arm", file=sys.stderr, flush=True)
        first = {key: [replace(a, attempts=a.attempts[:1]) for a in of] for key, of in told.items()}
        made["first"] = first
        return {
            **{name: {key: merged(drafts[key], of[key]) for key in drafts} for name, of in made.items()},
            **{f"trm_{name}": {key: answered_alone(of[key]) for key in drafts} for name, of in made.items()},
            "trm_alone": {key: answered_alone(alone[key]) for key in drafts},
            "lm_alone": voted(tasks, write_drafts(longer, tasks, VIEWS)),
            "lm_same_drafts": voted(tasks, drafts),
        }


def scored(found: Grids, tasks: Sequence[Task]) -> tuple[np.ndarray, bool]:
    """The score of each task from a saved submission, the only place that reads answers; whether it is valid."""
    with TemporaryDirectory() as scratch:
        writer = SubmissionWriter(Path(scratch) / "submission.json", num_tests_of(tasks))
        write_ranked(writer, found, tasks)
        valid = not validate_submission(writer.path, num_tests_of(tasks))
        return np.array([score_submission(writer.path, [task]).task_score for task in tasks]), valid


#: name of a field: the arm whose tasks it counts
SOLVED = {
    **{"lm_alone": "lm_alone", "hybrid": "first", "shuffled": "shuffled", "muted": "muted", "attempts_16": "told"},
    **{"lm_same_drafts": "lm_same_drafts", "other_text": "other_text", "trm_alone": "trm_alone"},
    **{"mended": "trm_first", "mended_16": "trm_told", "mended_16_muted": "trm_muted"},
}
DIFFERENCES = {
    "hybrid_minus_lm_alone": ("first", "lm_alone"),
    "hybrid_minus_same_drafts": ("first", "lm_same_drafts"),
    "hybrid_minus_shuffled": ("first", "shuffled"),
    "told_minus_muted": ("trm_told", "trm_muted"),
    "attempt_16_minus_1": ("trm_told", "trm_first"),
}


def table(scores: Mapping[str, list[np.ndarray]]) -> dict:
    """Tasks solved by each arm, a mean over seeds, and the differences that count, in tasks, with their intervals."""
    found: dict = {name: round(float(np.mean([s.sum() for s in scores[arm]])), 2) for name, arm in SOLVED.items()}
    n = len(scores["first"][0])
    for name, (one, other) in DIFFERENCES.items():
        values = bootstrap([a - b for a, b in zip(scores[one], scores[other], strict=True)])
        found |= {f"{name}{end}": round(n * value, 2) for end, value in zip(("", "_low", "_high"), values, strict=True)}
    return {**found, "low": found["told_minus_muted_low"], "high": found["told_minus_muted_high"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=16, help="evaluation tasks")
    parser.add_argument("--draft_seconds", type=float, default=45, help="CPU time that each of two drafters learns")
    parser.add_argument("--mend_seconds", type=float, default=30, help="CPU time that TRM learns, reading included")
    parser.add_argument("--attempts", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, …: adapters, weights and order")
    o = parser.parse_args()
    torch.set_num_threads(1)
    began, seconds = time.monotonic(), time.process_time()
    tasks = choose_tasks(load_tasks("arcagi1/evaluation"), max_side=10, limit=o.tasks)
    bare = [task.without_answers() for task in tasks]
    lm = load_causal_lm("models/arc-micro", device=DEVICE)
    scores: dict[str, list[np.ndarray]] = {}
    valid = True
    for seed in range(o.seeds):
        for arm, found in Arms(bare, lm, seed, o.draft_seconds, o.mend_seconds, o.attempts).answers().items():
            right, whole = scored(found, tasks)
            scores.setdefault(arm, []).append(right)
            valid &= whole
    row = {"n": len(tasks), **table(scores), "seeds": o.seeds, "valid": valid}
    row |= {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(time.process_time() - seconds, 1)}
    row["passed"] = valid and row["hybrid_minus_lm_alone"] >= 0
    print(json.dumps(row))
    sys.exit(not row["passed"])


if __name__ == "__main__":
    main()

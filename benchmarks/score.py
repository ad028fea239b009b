"""The score table: one model, one set of tasks, and what each way of training and answering makes of them.

    make score                                                      the default rows: the 77 tasks with grids <= 10 x 10
    make score P="--rows full --rows 'joint, both'"                 other rows, by name, or `all`
    make score SET=arcagi2/evaluation P="--max-side 0"              all tasks of another set
    make score P="--model new:nano --joint-seconds 1200 --rows 'joint, pairs, beside ARC training'"
                                                                    20 minutes from nothing: an untrained model

Each row is a run of its own under artifacts/score/, with a submission, a log and `row.json`. A row that is done is not
run again under the same code and weights, one that was killed goes on. Answers are read by the scoring step alone,
from the saved submission.
"""

import argparse
import json
import re
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from arc_helpers import arc, lm, runs, ttt
from arc_helpers.pretrain.corpus import allowed_for_pretraining
from arc_helpers.pretrain.mixture import fits

#: what differs from the profile's settings of notebook 02. joint: the form in which all tasks are learned together
#: first, once for all rows that ask for the same; background: beside labelled ARC-AGI-1 training tasks
PAIRS = {"joint": "pairs", "form": "pairs", "steps": 0}
SLOTS = {"steps": 40, "lr": 1e-3}
ROWS = {
    "no training, 1 view": {"steps": 0, "views": 1},
    "no training": {"steps": 0},
    "no training, 16 views": {"steps": 0, "views": 16},
    "no training, depth-first": {"steps": 0, "strategy": "dfs"},
    "head": {"mode": "head", "lr": 1e-2},
    "top_m": {"mode": "top_m"},
    "full": {},
    "full, 1 view": {"views": 1},
    "full, 16 views": {"views": 16},
    "full, votes": {"select": "votes"},
    "full, depth-first": {"strategy": "dfs"},
    "joint, in context": {"joint": "in_context", "form": "in_context", "steps": 0},
    "joint, pairs": PAIRS,
    "joint, pairs, 1 view": {**PAIRS, "views": 1},
    "joint, pairs, votes": {**PAIRS, "select": "votes"},
    "joint, pairs, depth-first": {**PAIRS, "strategy": "dfs"},
    "joint, pairs, then full": {**PAIRS, **SLOTS},
    "joint, pairs, beside ARC training": {**PAIRS, "background": True},
    "joint, pairs, beside ARC training, 1 view": {**PAIRS, "background": True, "views": 1},
    "joint, pairs, beside ARC training, then full": {**PAIRS, "background": True, **SLOTS},
    "joint, both": {**PAIRS, "joint": "both", "form": "both"},
    "joint, both, then full": {**PAIRS, "joint": "both", "form": "both", **SLOTS},
}
DEFAULT = ("no training", "joint, pairs", "joint, pairs, then full")
FIELDS = ("set", "n", "solved", "score", "ci_low", "ci_high", "outputs_solved", "seconds_per_task", "cpu_seconds")
FIELDS += ("device", "mode")


def own_folder(path: Path, base: lm.LoadedLM, options: argparse.Namespace) -> runs.RunFolder:
    """The open folder of a row, or of what rows share: gone on with under the same options, weights and code alone."""
    asked = {name: str(value) for name, value in vars(options).items() if name not in ("rows", "out")}
    found = {"code": runs.code_fingerprint(), "weights": ttt.weights_hash(base.model)}
    folder = runs.RunFolder(path, "score", asked, found, goes_on=True)
    verdict = folder.open()
    if verdict.why:
        print(f"{path.name}: {verdict.why}", file=sys.stderr)
    return folder


def run_row(mode: str, base: lm.LoadedLM, tasks: list[arc.Task], options: argparse.Namespace, folder: Path) -> dict:
    """Adapt and answer as the row says, then score the saved file: the row's numbers, flat."""
    changes = {"form": "in_context", **ROWS[mode]}  # a profile's own form may need joint training
    joint, background = changes.pop("joint", None), changes.pop("background", False)
    knobs = runs.load_profile(options.profile).multilora_ttt
    settings = replace(ttt.settings_from(knobs, options.seed), **changes)
    log = runs.RunLog(folder, "score", options.profile, options.seed, {"joint": joint, **asdict(settings)})
    blind = [task.without_answers() for task in tasks]
    joint_seconds, started, cpu = 0.0, time.monotonic(), time.process_time()
    if joint:
        base, joint_seconds = learn_jointly(base, blind, joint, background, options, folder.parent)
        started, cpu = time.monotonic(), time.process_time()  # its own time counts, whichever row or call it ran in
    writer = arc.SubmissionWriter(folder / "submission.json", arc.num_tests_of(blind), resume=True)
    ttt.solve_tasks(base, blind, settings, log, writer, resume=True)
    seconds = joint_seconds + time.monotonic() - started
    score = arc.score_submission(writer.path, tasks)
    return {
        "set": options.set,
        "n": score.n_tasks,
        "solved": score.tasks_solved,
        "score": score.task_score,
        "ci_low": score.ci_low,
        "ci_high": score.ci_high,
        "outputs_solved": score.outputs_solved,
        "seconds_per_task": seconds / len(tasks),
        "joint_seconds": joint_seconds,
        "cpu_seconds": joint_seconds * torch.get_num_threads() + time.process_time() - cpu,
        "device": str(base.device),
        "mode": mode,
        "solved_ids": " ".join(task_id for task_id, share in score.per_task.items() if share == 1),
    }


def learn_jointly(
    base: lm.LoadedLM, blind: list[arc.Task], form: str, background: bool, options: argparse.Namespace, out: Path
) -> tuple[lm.LoadedLM, float]:
    """The base after joint training on the tasks' demonstrations, and its seconds; made once, kept in `out`."""
    folder = out / f"learned-{form}{'-beside' * background}"
    device = str(base.device)
    length = (options.joint_steps, None) if options.joint_steps else (None, options.joint_seconds)
    compiled = {"compile": True} if options.compile else {}  # on a CPU a long training is compiled in any case
    config = ttt.joint_config(device, *length, seed=options.seed, **compiled)
    beside = background_tasks(options.max_side) if background else ()
    own = own_folder(folder, base, options)
    report = lambda metrics: runs.append_record(folder / "metrics.jsonl", metrics)  # noqa: E731
    checkpoint = folder / "joint.pt"
    learned = ttt.adapt_jointly(
        base, blind, config, form=form, background=beside, checkpoint=checkpoint, on_metrics=report
    )
    own.finish()
    _, _, seconds, *_ = runs.load_state(checkpoint)["counters"]
    return learned, seconds


def background_tasks(max_side: int) -> list[arc.Task]:
    """ARC-AGI-1 training tasks of the same size, without the one that repeats pairs of an evaluation task."""
    tasks, _ = allowed_for_pretraining(arc.load_tasks("arcagi1/training"))
    return [task for task in tasks if not max_side or all(fits(p, max_side) for p in task.train + task.test)]


def load_base(model: str, seed: int) -> lm.LoadedLM:
    """The model of a folder; or, for "new:<preset>", a GridLM that has learned nothing yet."""
    if not model.startswith("new:"):
        return lm.load_causal_lm(model, max_len=2048, trim_vocab=True)
    return lm.fresh_gridlm(model.removeprefix("new:"), seed=seed)


def show(row: dict) -> str:
    """A row of a table."""
    interval = f"{row['ci_low']:.3f}–{row['ci_high']:.3f}"
    return (
        f"| {row['mode']} | {row['solved']} of {row['n']} | {row['score']:.3f} ({interval}) "
        f"| {row['seconds_per_task']:.1f} | {row['device']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="arcagi1/evaluation", help="set name, folder or file of labelled tasks")
    parser.add_argument("--max-side", type=int, default=10, help="only tasks whose grids fit; 0 = all")
    parser.add_argument("--max-tasks", type=int, default=0, help="the first by sha256 of the id; 0 = all")
    parser.add_argument("--rows", action="append", help=f"all, or any of: {'; '.join(ROWS)}")
    parser.add_argument("--model", default="models/arc-micro")
    parser.add_argument("--profile", default="laptop", choices=runs.PROFILES)
    parser.add_argument("--joint-seconds", type=float, default=900, help="of joint training")
    parser.add_argument("--joint-steps", type=int, help="of joint training, 8,192 tokens each, in place of seconds")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the joint training: pays from 5 minutes on"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="folder; default artifacts/score/<what was asked>")
    options = parser.parse_args()
    wanted = list(ROWS) if options.rows == ["all"] else options.rows or list(DEFAULT)
    for mode in wanted:
        if mode not in ROWS:
            parser.error(f"--rows {mode!r}: must be all, or one of {'; '.join(ROWS)}")
    tasks = arc.load_tasks(options.set)
    tasks = arc.choose_tasks(tasks, max_side=options.max_side or None, limit=options.max_tasks or None)
    asked = f"{options.set}-{Path(options.model).name}-side{options.max_side}-n{len(tasks)}-seed{options.seed}"
    out = options.out or runs.output_path(Path("artifacts/score") / re.sub(r"[^\w-]+", "-", asked))
    base = load_base(options.model, options.seed)
    print("| mode | solved | score (95 % interval) | s a task | device |", "|---|---|---|---|---|", sep="\n")
    for mode in wanted:
        folder = own_folder(out / re.sub(r"\W+", "-", mode), base, options)
        done = folder.path / "row.json"
        if not runs.usable(done):
            runs.seal_json(done, run_row(mode, base, tasks, options, folder.path))
        folder.finish()
        row = json.loads(done.read_text(encoding="utf-8"))
        print(show(row), flush=True)
    print(json.dumps({name: row[name] for name in FIELDS}))


if __name__ == "__main__":
    main()

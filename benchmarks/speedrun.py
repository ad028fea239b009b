"""The laptop speedrun: all tasks of a set, from nothing, on two CPU cores.

    make speedrun                                    360 core-minutes: three hours of two cores
    make speedrun CORE_MINUTES=40 SEED=1             shorter: 40 and 120 have plans of their own
    make speedrun SET=arcagi2/evaluation
    make bench NAME=speedrun P="--set arcagi1/training --limit 240 --core-minutes 12 --part high=15,layers=2"

The answers are deleted first: the run reads tasks from a folder that holds none. On each core one process at a time
trains a small GridLM from nothing on the demonstrations of its tasks (`PLANS`) and answers them, small ones first; all
that it does is counted in CPU seconds, compiling included, so a busy machine changes the wall clock, and little else
(caches and memory are shared). A valid submission is there from the first second, and a killed run goes on. Scoring is
a separate step at the end, the only one that reads answers. Rules and records: records/README.md.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arc_helpers import arc, lm, runs, ttt

CPU = runs.choose_device("cpu").device
BANDS = ((1, 10), (11, 15), (16, 20), (21, 30))  # by the longest side of all grids, answers included


@dataclass(frozen=True)
class Part:
    """A model of its own for the tasks whose visible grids are from `low` to `high` wide or high.

    share: of one core's time; answering: of the part's, kept for its answers. layers of width 128; dropout and
    task_vectors: as in `ttt.adapt_jointly`; optimizer, lr (of the blocks' matrices), weight_decay and batch_tokens: as
    in `pretrain.PretrainConfig`.
    """

    name: str = "part"
    low: int = 1
    high: int = 30
    share: float = 1.0
    answering: float = 0.15
    layers: int = 3
    views: int = 8
    seed: int = 0
    dropout: float = 0.0
    task_vectors: bool = False
    optimizer: str = "normuon"
    lr: float = 0.02
    weight_decay: float = 0.01
    batch_tokens: int = 8192

    @classmethod
    def read(cls, words: str) -> "Part":
        """A part in words: `high=15,layers=2`. ValueError, one line, for a name or a value that it has not."""
        values: dict[str, Any] = {}
        known = {name: type(value) for name, value in vars(cls()).items()}
        for word in filter(None, words.split(",")):
            name, _, value = word.partition("=")
            if name not in known:
                raise ValueError(f"part {words!r}: {name!r} is none of {', '.join(known)}")
            try:
                values[name] = value == "true" if known[name] is bool else known[name](value)
            except ValueError:
                raise ValueError(f"part {words!r}: {value!r} is no {known[name].__name__}") from None
        return cls(**values)


Plan = tuple[tuple[Part, ...], ...]  # what each core does, in turn
#: core-minutes: the plan for so many, of two cores
PLANS: dict[int, Plan] = {
    40: (
        (Part("small", 1, 15, answering=0.12),),
        (Part("middle", 16, 20, answering=0.2),),  # there is no time for larger ones: they keep the fallback
    ),
    120: (
        (Part("small", 1, 15, answering=0.05),),
        (Part("middle", 16, 20, 0.55, answering=0.1), Part("large", 21, 30, 0.45, answering=0.3)),
    ),
    360: (
        (Part("small", 1, 15, 0.6, answering=0.03), Part("again", 1, 15, 0.4, seed=1, answering=0.05)),
        (Part("middle", 16, 20, 0.5, answering=0.05), Part("large", 21, 30, 0.5, answering=0.1)),
    ),
}


class CpuClock:
    """CPU seconds of this process and of what it has started, those of earlier sittings included (kept in a file).

    Looked at all the time, so it also ends this process where the run that has started it is gone.
    """

    def __init__(self, path: Path, parent: int):
        self.path, self.parent = path, parent
        self.before = json.loads(path.read_text())["cpu_seconds"] if path.is_file() else 0.0
        self.saved = 0.0

    def __call__(self) -> float:
        if os.getppid() != self.parent:
            sys.exit("the run was stopped; the same command goes on")
        now = sum(os.times()[:4])
        if now - self.saved > 2:
            self.saved = now
            runs.atomic_write_json(self.path, {"cpu_seconds": self.before + now})
        return self.before + now


def side(task: arc.Task) -> int:
    """The longest side of a task's grids, those of its answers included where it has them."""
    grids = [grid for pair in (*task.train, *task.test) for grid in (pair.input, pair.output) if grid is not None]
    return max(max(grid.shape) for grid in grids)


def work(out: Path, core: int, parent: int, plan: Plan, minutes: float, seed: int) -> None:
    """What one core does, in a process of its own: its parts, one after another."""
    torch.set_num_threads(1)
    clock = CpuClock(out / f"core{core}.json", parent)
    tasks = arc.load_tasks(out / "tasks")
    assert not any(task.has_answers for task in tasks)
    until = 0.0
    for part in plan[core]:
        until += part.share * minutes / len(plan) * 60
        chosen = tasks_of(part, tasks)
        if chosen and not (out / part.name / "done.json").is_file():
            run_part(part, chosen, out / part.name, clock, until, seed)


def tasks_of(part: Part, tasks: list[arc.Task]) -> list[arc.Task]:
    """The tasks that are a part's, by the grids that anybody may see."""
    return [task for task in tasks if part.low <= side(task.without_answers()) <= part.high]


def run_part(part: Part, tasks: list[arc.Task], folder: Path, clock: CpuClock, until: float, seed: int) -> None:
    """Train on the tasks' demonstrations and answer them, by the time `until` on the clock."""
    log = runs.RunLog(folder, "speedrun", part.name, seed, vars(part))
    budget = folder / "budget.json"
    if not budget.is_file():  # once: a run that goes on keeps to it
        runs.atomic_write_json(budget, {"training_seconds": (1 - part.answering) * (until - clock())})
    learned = learn(part, tasks, folder, seed, clock)
    settings = ttt.TTTSettings(k=4, steps=0, form="pairs", views=part.views, seed=seed)
    writer = arc.SubmissionWriter(folder / "submission.json", arc.num_tests_of(tasks), resume=True)
    deadline = runs.Deadline(max(0.0, until - clock()), clock)
    solved = ttt.solve_tasks(learned, tasks, settings, log, writer, deadline=deadline, resume=True, replan=True)
    runs.atomic_write_json(folder / "done.json", {"counts": vars(solved.counts), "until": until, "clock": clock()})


def learn(part: Part, tasks: list[arc.Task], folder: Path, seed: int, clock: Callable[[], float]) -> lm.LoadedLM:
    """The part's model, trained on; at once where its time is over."""
    seconds = json.loads((folder / "budget.json").read_text())["training_seconds"]
    seed = 1000 * seed + part.seed
    recipe = {"optimizer": part.optimizer, "lr_muon": part.lr, "weight_decay": part.weight_decay, "seed": seed}
    config = ttt.joint_config(CPU, None, seconds, batch_tokens=part.batch_tokens, **recipe)
    log = runs.RunLog(folder / "training", "speedrun", part.name, seed, vars(part))
    return ttt.adapt_jointly(
        lm.fresh_gridlm("nano", layers=part.layers, seed=seed, device=CPU),
        tasks,
        config,
        form="pairs",
        dropout=part.dropout,
        task_vectors=part.task_vectors,
        checkpoint=folder / "joint.pt",
        on_metrics=lambda metrics: log.metric(**{k: v for k, v in metrics.items() if v is not None}),
        clock=clock,
    )


def answer_nats(learned: lm.LoadedLM, task: arc.Task) -> float:
    """Nats of a task's right answers as they stand: it reads them, so only the scoring step may ask."""
    encode = learned.task_tokens.encode
    encoded = (encode(task.id, pair, arc.DIHEDRAL[0], learned.prompt_form) for pair in task.test)
    return float(-sum(lm.answer_logprobs(learned, sequence).sum() for sequence in encoded))


def plan_for(minutes: float) -> Plan:
    """The plan for so many core-minutes: that of the nearest length."""
    return PLANS[min(PLANS, key=lambda known: abs(known - minutes))]


def delete_answers(name: str, limit: int | None, out: Path) -> None:
    """Write the set's tasks without the outputs of their tests, and a submission that is valid."""
    blind = [task.without_answers() for task in arc.load_tasks(name)[:limit]]
    if not (out / "tasks").is_dir():
        arc.write_tasks(blind, out / "tasks")
    arc.SubmissionWriter(out / "submission.json", arc.num_tests_of(blind))
    print(f"{len(blind)} tasks without the outputs of their tests are in {out / 'tasks'}; the run reads nothing else")


def watch(processes: list[subprocess.Popen], out: Path, minutes: float) -> None:
    """A line a minute until all cores are done: CPU minutes gone, and what has been answered."""
    began = time.monotonic()
    while any(process.poll() is None for process in processes):
        time.sleep(5 if minutes < 5 else 60)
        gone = spent(out)
        answered = sum(len(list(folder.glob("results/*.json"))) for folder in out.iterdir() if folder.is_dir())
        print(
            f"{gone:6.1f} of {minutes:g} core-minutes, {(time.monotonic() - began) / 60:.0f} min on the clock, "
            f"{answered} tasks answered",
            flush=True,
        )


def spent(out: Path) -> float:
    """Core-minutes so far."""
    return sum(json.loads(path.read_text())["cpu_seconds"] for path in out.glob("core*.json")) / 60


def merge(out: Path) -> None:
    """One submission of all parts; a task that no part has answered keeps the fallback."""
    blind = arc.load_tasks(out / "tasks")
    merged = arc.SubmissionWriter(out / "fallback.json", arc.num_tests_of(blind)).read()
    made = [json.loads(path.read_text()) for path in sorted(out.glob("*/submission.json"))]
    for task_id in merged:
        own = [{task_id: answers[task_id]} for answers in made if task_id in answers]
        merged |= arc.merge_submissions(own) if len(own) > 1 else (own or [{}])[0]
    runs.atomic_write_text(out / "submission.json", json.dumps(merged, separators=(",", ":")))


def score(out: Path, name: str, limit: int | None, plan: Plan, seed: int) -> dict:
    """The step that reads answers: the score, by size and by part."""
    tasks = arc.load_tasks(name)[:limit]
    if not all(task.has_answers for task in tasks):
        print(f"{name}: has no answers, so nothing is scored")
        return {"solved": None, "n": len(tasks), "score": None, "ci_low": None, "ci_high": None, "by_band": ""}
    result, bands = arc.score_submission(out / "submission.json", tasks), []
    print("| largest side | tasks | solved |", "|---|---|---|", sep="\n")
    for low, high in BANDS:
        ids = [task.id for task in tasks if low <= side(task) <= high]
        right = sum(result.per_task[task_id] == 1 for task_id in ids)
        bands.append(f"{low}-{high}: {right}/{len(ids)}")
        print(f"| {low}–{high} | {len(ids)} | {right} |")
    nats = {}
    for part in (part for parts in plan for part in parts):
        own = tasks_of(part, tasks)
        alone = arc.score_submission(out / part.name / "submission.json", own)
        learned = learn(part, [task.without_answers() for task in own], out / part.name, seed, time.process_time)
        nats[part.name] = {task.id: answer_nats(learned, task) for task in own}
        mean = sum(nats[part.name].values()) / len(own)
        print(f"{part.name}: {alone.tasks_solved} of {alone.n_tasks} tasks; {mean:.2f} nats an answer")
    runs.atomic_write_json(out / "scores.json", {**result.summary(), "per_task": result.per_task, "nats": nats})
    return {
        "solved": result.tasks_solved,
        "n": result.n_tasks,
        "score": round(result.task_score, 4),
        "ci_low": round(result.ci_low, 4),
        "ci_high": round(result.ci_high, 4),
        "by_band": ", ".join(bands),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core-minutes", type=float, default=360)
    parser.add_argument("--set", default="arcagi1/evaluation", help="set name, folder or file of tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="folder; default artifacts/speedrun/<set>-<core-minutes>-seed<seed>")
    parser.add_argument("--limit", type=int, help="the set's first tasks only, to choose a recipe")
    parser.add_argument("--part", action="append", default=[], help="a core's work: high=15,layers=2")
    parser.add_argument("--record", help="also keep what others can check in this folder: records/<date>_<name>")
    parser.add_argument("--core", type=int, nargs=2, help=argparse.SUPPRESS)  # a worker: which, and whose
    options = parser.parse_args()
    try:
        if not 0 < options.core_minutes < float("inf"):
            raise ValueError(f"core-minutes = {options.core_minutes:g}: must be above 0")
        plan = tuple((Part.read(words),) for words in options.part) or plan_for(options.core_minutes)
        name = f"{options.set.replace('/', '-')}-{options.core_minutes:g}-seed{options.seed}"
        out = runs.output_path(options.out or Path("artifacts/speedrun") / name)
        if options.core is None:
            sys.exit(not run(out, plan, options))
        core, parent = options.core
        work(out, core, parent, plan, options.core_minutes, options.seed)
    except (ValueError, OSError) as error:  # what was asked for, or a disk that is full; what is done stays done
        if options.core is None or isinstance(error, OSError):
            sys.exit(f"speedrun: {error}")
        raise
    except KeyboardInterrupt:
        sys.exit("speedrun: stopped; the same command goes on" if options.core is None else 1)


def run(out: Path, plan: Plan, options: argparse.Namespace) -> bool:
    """The whole run: answers away, the cores at work, merged, scored. Whether it kept its time."""
    asked = {name: value for name, value in vars(options).items() if name not in ("out", "core", "record")}
    folder = runs.RunFolder(out, "speedrun", asked, {"code": runs.code_fingerprint()}, goes_on=True)
    print(folder.open().why or f"a new run in {out}")
    for line in machine(len(plan)):
        print(line)
    delete_answers(options.set, options.limit, out)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    words = [sys.executable, __file__, "--out", str(out), "--seed", str(options.seed)]
    words += ["--core-minutes", str(options.core_minutes), *(f"--part={part}" for part in options.part)]
    began = time.monotonic()
    processes = [
        subprocess.Popen([*words, "--core", str(core), str(os.getpid())], env=env) for core in range(len(plan))
    ]
    watch(processes, out, options.core_minutes)
    merge(out)
    if any(process.returncode for process in processes):
        raise OSError(f"a core ended with an error: the same command goes on with what is in {out}")
    minutes = round(spent(out), 1)  # scoring is not the run's
    found = {"core_minutes": minutes, **score(out, options.set, options.limit, plan, options.seed)}
    found |= {
        "seed": options.seed,
        "cpu_seconds": round(60 * spent(out), 1),
        "seconds": round(time.monotonic() - began, 1),
    }
    found["passed"] = minutes <= 1.03 * options.core_minutes
    if options.record:
        keep(out, runs.output_path(options.record), found, options)
    folder.finish()
    print(json.dumps(found))
    return found["passed"]


def machine(cores: int) -> list[str]:
    """What a reader must know of this machine, a line each."""
    lines = [f"{cores} cores at work, CPU seconds counted; {processor()}"]
    if (os.cpu_count() or 1) < cores:
        lines.append(f"this machine has {os.cpu_count()}: they take turns, the same result later")
    if not runs.has_bfloat16(CPU):
        lines.append("this CPU has no bfloat16 products (AVX-512 BF16): in float32, which learns less in the same time")
    return lines


def processor() -> str:
    """What this computer calls its processor."""
    told = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    names = [line.split(": ", 1)[1] for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def keep(out: Path, folder: Path, found: dict, options: argparse.Namespace) -> None:
    """What a record shows (records/README.md): numbers, submission, scores by task and training curves."""
    with runs.replacing_folder(folder, "speedrun") as new:
        for name in ("submission.json", "scores.json"):
            shutil.copy(out / name, new / name)
        for curve in sorted(out.glob("*/training/metrics.jsonl")):
            shutil.copy(curve, new / f"{curve.parents[1].name}.jsonl")
        told = {"command": " ".join(["python benchmarks/speedrun.py", *sys.argv[1:]]), **found}
        told |= {"set": options.set, "asked_core_minutes": options.core_minutes}
        told |= {"machine": machine(2)[0], "torch": torch.__version__, "code": runs.code_fingerprint()}
        told["submission_sha256"] = hashlib.sha256((new / "submission.json").read_bytes()).hexdigest()
        told["date"] = time.strftime("%Y-%m-%d", time.gmtime())
        runs.atomic_write_json(new / "record.json", told)


if __name__ == "__main__":
    main()

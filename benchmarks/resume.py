"""Twelve tasks, twenty runs killed with kill -9 at random moments and resumed: what the submission is afterwards.

Both sides are real processes with files on disk. A run is killed once it works, at a moment drawn uniformly over the
length of the undisturbed run, then started again with the same command, and its submission compared byte by byte
with the undisturbed run's. Its tables and results must be the same bytes, too.
"""

import argparse
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from arc_helpers.arc import SubmissionWriter, choose_tasks, load_tasks, num_tests_of, validate_submission
from arc_helpers.runs import RunLog, choose_device, read_jsonl

MODEL, DATA, TASKS, MAX_SIDE = "models/arc-micro", "arcagi1/evaluation", 12, 6
SETTINGS = {"k": 3, "steps": 4, "num_pseudo": 4, "r": 8, "alpha": 16.0, "lr": 1e-2, "views": 2, "mode": "full"}
SAME = ("submission.json", "tasks.jsonl", "metrics.jsonl", "groups.json")


def chosen_tasks() -> list:
    tasks = [task.without_answers() for task in load_tasks(DATA)]
    return choose_tasks(tasks, ids=None, max_side=MAX_SIDE, limit=TASKS)


def run(out_dir: Path) -> None:
    """The command that is killed, and that resumes."""
    import torch

    from arc_helpers.lm.loading import load_causal_lm
    from arc_helpers.ttt.pipeline import solve_tasks
    from arc_helpers.ttt.settings import TTTSettings

    torch.set_num_threads(1)
    device = choose_device("cpu")  # a GPU's sums are not the same to the last bit from run to run
    base, tasks = load_causal_lm(MODEL, device=device.device, max_len=2048), chosen_tasks()
    log = RunLog(out_dir, "resume", "benchmark", 0, SETTINGS, device=device)
    writer = SubmissionWriter(out_dir / "submission.json", num_tests_of(tasks), resume=True)
    solve_tasks(base, tasks, TTTSettings(**SETTINGS), log, writer, resume=True)


def start(out_dir: Path) -> multiprocessing.process.BaseProcess:
    """A run in its own process, forked from one that has imported everything; returns once it works."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["arc_helpers.ttt.pipeline"])
    process = context.Process(target=run, args=(out_dir,))
    process.start()
    (out_dir / "config.yaml").unlink(missing_ok=True)
    while process.is_alive() and not (out_dir / "config.yaml").exists():
        time.sleep(0.002)
    return process


def finish(out_dir: Path) -> float:
    """Run to the end; seconds of work."""
    process, began = start(out_dir), time.monotonic()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"a run ended with {process.exitcode}")
    return time.monotonic() - began


def contents(out_dir: Path) -> dict[str, bytes]:
    files = [*(out_dir / name for name in SAME), *(out_dir / "results").glob("*.json")]
    return {str(file.relative_to(out_dir)): file.read_bytes() for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments, num_tests, began = random.Random(options.seed), num_tests_of(chosen_tasks()), time.monotonic()
    kills = identical = always_valid = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        seconds = finish(whole)
        expected = contents(whole)
        statuses = [line["status"] for line in read_jsonl(whole / "tasks.jsonl")]
        while kills < options.kills:
            out_dir = Path(tempfile.mkdtemp(dir=folder))
            process = start(out_dir)
            moment = moments.uniform(0, seconds)
            process.join(moment)
            process.kill()
            process.join()
            if process.exitcode != -signal.SIGKILL:
                continue  # it was done before: no kill
            kills += 1
            done = len(list((out_dir / "results").glob("*.json")))
            # before the first file there is nothing that could be wrong
            file = out_dir / "submission.json"
            always_valid += not file.exists() or not validate_submission(file, num_tests)
            finish(out_dir)
            found = contents(out_dir)
            identical += found == expected
            print(
                f"kill {kills} after {moment:.2f} of {seconds:.2f} s, with {done} of {len(num_tests)} tasks recorded;",
                "resumed: identical" if found == expected else "resumed: DIFFERENT",
                flush=True,
            )
    passed = identical == always_valid == kills == options.kills and len(num_tests) == TASKS
    result = {
        "kills": kills,
        "identical": identical,
        "valid_when_killed": always_valid,
        "tasks": len(num_tests),
        "answered": statuses.count("answered"),
        "run_seconds": round(seconds, 2),
        "seconds": round(time.monotonic() - began, 1),
        "passed": passed,
    }
    print(json.dumps(result))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

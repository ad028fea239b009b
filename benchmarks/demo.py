"""`make demo` as a user runs it, installed: seconds, memory of all its processes together, and what it solved."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil  # comes with ipykernel
import yaml

from arc_helpers.arc import load_tasks, num_tests_of, read_submission, score_submission, validate_submission

MAX_SECONDS, MAX_GIB = 300, 4.0
ROOT = Path(__file__).parents[1]
OUT = ROOT / "artifacts/demo"


def tree_rss(process: psutil.Process) -> int:
    """Bytes in memory of a process and all its descendants; what they share counts once for each."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def run_demo() -> tuple[int, float, int]:
    """Exit code, seconds, and the highest sum of resident memory seen, in bytes, looking five times a second."""
    start, peak = time.monotonic(), 0
    demo = psutil.Popen(["make", "--no-print-directory", "demo"], cwd=ROOT)
    while demo.poll() is None:
        try:
            peak = max(peak, tree_rss(demo))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    return demo.wait(), time.monotonic() - start, peak


def main() -> None:
    subprocess.run(["make", "--no-print-directory", "setup"], cwd=ROOT, check=True)  # not part of the claim
    exit_code, seconds, peak = run_demo()
    result = {"seconds": round(seconds, 1), "peak_rss_gib": round(peak / 2**30, 2), "tasks": 0, "solved": 0}
    valid = False
    if exit_code == 0:
        asked = yaml.safe_load((OUT / "in_context/config.yaml").read_text())["config"]["task_ids"].split(",")
        tasks = [task for task in load_tasks("arcagi1/evaluation") if task.id in asked]
        submission = read_submission(OUT / "submission.json")
        valid = not validate_submission(submission, num_tests_of(tasks))
        result["tasks"] = len(tasks)
        result["solved"] = score_submission(submission, tasks).tasks_solved if valid else 0
    passed = valid and result["tasks"] == 12 and seconds <= MAX_SECONDS and peak <= MAX_GIB * 2**30
    print(json.dumps({**result, "valid": valid, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

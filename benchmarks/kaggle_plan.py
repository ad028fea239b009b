"""The planner's forecast against a run: calibrated on 4 tasks, then 12 others, on this machine's CPU.

Tasks: ARC-AGI-1 evaluation, all visible grids at most 12 × 12, by sha256 of the id: the first 12 are run, the next
4 calibrate. Settings: profile laptop. CPU seconds of one thread, model loading not counted in either.
"""

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from arc_helpers.arc import SubmissionWriter, choose_tasks, load_tasks, num_tests_of
from arc_helpers.kaggle.planner import groups_of, measure
from arc_helpers.lm import load_causal_lm
from arc_helpers.runs import RunLog, choose_device, resolve
from arc_helpers.ttt import settings_from, solve_tasks
from arc_helpers.ttt.budget import forecast, size_of

N, CALIBRATE, BOUND = 12, 4, 0.20


def main() -> None:
    torch.set_num_threads(1)
    config = resolve("multilora_ttt", "laptop", {})
    words = dict(word.split("=") for word in sys.argv[1:])  # a dry run: steps=4
    settings = settings_from(config, seed=0)
    settings = dataclasses.replace(settings, **{name: int(value) for name, value in words.items()})
    chosen = choose_tasks(load_tasks("arcagi1/evaluation"), max_side=12, limit=N + CALIBRATE)
    first = {task.id for task in choose_tasks(chosen, limit=N)}
    tasks = [task.without_answers() for task in chosen if task.id in first]
    others = [task.without_answers() for task in chosen if task.id not in first]
    lm = load_causal_lm(config.model_dir, max_len=config.max_len, trim_vocab=True, device=choose_device("cpu").device)

    start = time.process_time()
    costs = measure(lm, others, settings, time.process_time)
    calibration = time.process_time() - start
    groups = groups_of(tasks, settings.k, lm.prompt_form, lm.max_len)
    sizes = [[size_of(task, lm.prompt_form, lm.max_len) for task in group] for group in groups]
    expected = forecast(sizes, settings, costs)

    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(folder, "02_multilora_ttt", "laptop", 0, config)
        writer = SubmissionWriter(Path(folder) / "submission.json", num_tests_of(tasks))
        start = time.process_time()
        solve_tasks(lm, tasks, settings, log, writer)
        measured = time.process_time() - start
    error = expected / measured - 1
    result = {
        "tasks": N,
        "calibration_tasks": CALIBRATE,
        "calibration_seconds": round(calibration, 1),
        "forecast_seconds": round(expected, 1),
        "measured_seconds": round(measured, 1),
        "error": round(error, 3),
        **{name: float(f"{seconds:.3g}") for name, seconds in dataclasses.asdict(costs).items()},
    }
    passed = abs(error) <= BOUND
    print(json.dumps({**result, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

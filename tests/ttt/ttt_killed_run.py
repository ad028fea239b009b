"""A whole run in a process of its own, which a test kills."""

import os
import signal
from pathlib import Path

from arc_helpers.arc import SubmissionWriter, load_tasks, num_tests_of
from arc_helpers.lm.loading import load_causal_lm
from arc_helpers.runs import DeviceChoice, RunLog
from arc_helpers.ttt.pipeline import solve_tasks
from arc_helpers.ttt.settings import TTTSettings

SETTINGS = TTTSettings(k=2, steps=6, num_pseudo=4, r=4, alpha=8.0, lr=2e-2, views=3)


def run(model: Path, data: Path, out_dir: Path, settings: TTTSettings = SETTINGS, die_at: int | None = None) -> None:
    """Solve the tasks of a folder, resuming; with `die_at`, be killed just before or after one of the files that
    are replaced: 2 n is before the n-th, 2 n + 1 after it."""
    import torch

    torch.set_num_threads(1)
    lm = load_causal_lm(model, device="cpu", max_len=512)
    if die_at is not None:
        _kill_at(die_at)
    tasks = load_tasks(data)
    log = RunLog(out_dir, "02", "tiny", 0, {}, device=DeviceChoice("cpu", "float32", "a test"))
    writer = SubmissionWriter(out_dir / "submission.json", num_tests_of(tasks), resume=True)
    counts = solve_tasks(lm, tasks, settings, log, writer, resume=True).counts
    (out_dir / "resumed.txt").write_text(str(counts.resumed))


def _kill_at(moment: int) -> None:
    original, calls = os.replace, 0

    def replace(*args, **options):
        nonlocal calls
        if moment == 2 * calls:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **options)
        if moment == 2 * calls + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1

    os.replace = replace

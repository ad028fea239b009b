"""Past one machine: what 100,000 tasks on 64 cards need, and 1,000 groups on eight workers, two of which are killed.

    python -m benchmarks.scale              the simulation
    python -m benchmarks.scale table        writes the table of docs/scale.md

The table is arithmetic: the models of time and memory that `python -m arc_helpers plan` uses, on the lengths of
ARC-AGI-2's evaluation tasks. The simulation is real but for the training: Ray actors on this machine, the queue of a
run, its submission writer; a group takes a second. Two workers are killed by SIGKILL while they work, one takes three
times as long. Bounds: every task is answered exactly once, the file is a valid submission whenever it is looked at, and
a worker waits for work less than 10 % of the time between its first group and its last.
"""

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

from arc_helpers.arc import Pair, SubmissionWriter, Task, load_tasks, num_tests_of, validate_submission
from arc_helpers.kaggle.planner import GPUS, KNOWN, estimate, groups_of, room_on
from arc_helpers.lm.prompt_form import FORMS
from arc_helpers.runs import HOST, ConfigError, Deadline
from arc_helpers.ttt.budget import forecast, size_of
from arc_helpers.ttt.memory import adapter_numbers
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings

TASKS, CARDS, MAX_LEN = 100_000, 64, 4096
SETTINGS = TTTSettings(k=4, steps=64, views=8, mode="full", r=32)
BASES, SHEETS = ("qwen3-4b", "qwen2-7b", "llama-3-8b"), ("T4", "L4", "H100")
DOCUMENT = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- the table: python -m benchmarks.scale table -->", "<!-- the end of the table -->"

WORKERS, GROUPS, SECONDS, SLOWER = 8, 1000, 1.0, 3
KILLED_AFTER = (150, 450)  # groups
MOST_IDLE = 0.1


def table() -> str:
    """Markdown: a row a base and card."""
    public = [task.without_answers() for task in load_tasks("arcagi2/evaluation")]
    form = FORMS["suite"]
    rows = [
        "| base, 4 bits | card | slots side by side | card-hours | days on 64 cards | adapters in 16 bits |",
        "|---|---|---|---|---|---|",
    ]
    for name in BASES:
        base = KNOWN[name]
        storage = 2 * adapter_numbers(base, SETTINGS.r, base.layers) * TASKS / 1e12
        for card in SHEETS:
            try:
                choice = room_on(GPUS[card], base, SETTINGS, MAX_LEN, four_bit=True).choice
            except ConfigError:
                choice = None
            if choice is None:
                rows.append(f"| {base.name} | {card} | does not fit | – | – | – |")
                continue
            sample = groups_of(list(islice(cycle(public), 10 * len(public))), choice.slots, form, MAX_LEN)
            sizes = [[size_of(task, form, MAX_LEN) for task in group] for group in sample]
            costs = estimate(GPUS[card], base, True, choice.checkpointing)
            seconds = forecast(sizes, replace(SETTINGS, k=choice.slots), costs) / (10 * len(public))
            hours = seconds * TASKS / 3600
            cells = (base.name, card, choice.slots, f"{hours:,.0f}", f"{hours / CARDS / 24:.1f}", f"{storage:.1f} TB")
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def write_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


class Synthetic:
    """A worker that trains nothing; the first one to come is the slow one."""

    def __init__(self, lm, device):
        self.seconds = SECONDS
        try:
            os.close(os.open(Path(lm.folder) / "slow", os.O_CREAT | os.O_EXCL))
            self.seconds *= SLOWER
        except FileExistsError:
            pass

    def ready(self):
        pass

    def solve(self, group, settings, seconds):
        began = time.monotonic()
        time.sleep(self.seconds)
        notes = [f"{os.getpid()} {began} {time.monotonic()}"]
        attempts = [([[1]], [[2]])]
        return [TaskResult(task.id, attempts=attempts, notes=notes) for task in group], "", self.seconds


def simulate(folder: Path) -> dict[str, object]:
    """A run of synthetic groups; see the top of this file."""
    from arc_helpers.ttt.workers import solve_on_workers, start_ray

    ray = start_ray(num_cpus=WORKERS)
    tasks = [Task(f"task{i:04}", (Pair([[1]], [[1]]),), (Pair([[1]]),)) for i in range(GROUPS)]
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(tasks))
    lm = SimpleNamespace(device=SimpleNamespace(type=HOST), folder=str(folder))
    answered, spans, killed, valid, notes = Counter(), {}, [], True, []
    began, cpu = time.monotonic(), time.process_time()
    work = solve_on_workers(
        lm,
        [[task] for task in tasks],
        lambda group: SETTINGS,
        workers=WORKERS,
        errors=folder / "errors.log",
        deadline=Deadline(None),
        say=notes.append,
        worker=Synthetic,
    )
    for n, (_, results) in enumerate(work, 1):
        for result in results:
            answered[result.task_id] += 1
            if result.error:
                notes.append(result.error)
                continue
            writer.set(result.task_id, result.attempts)
            pid, start, end = result.notes[0].split()
            spans.setdefault(int(pid), []).append((float(start), float(end)))
        if n in KILLED_AFTER:
            victim = next(pid for pid in spans if pid not in killed)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        if n % 50 == 0:
            valid &= validate_submission(writer.path, writer.num_tests) == []
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    ray.shutdown()
    valid &= validate_submission(writer.path, writer.num_tests) == []
    complete = set(answered) == {task.id for task in tasks}
    # between its first and its last group, a worker that does not work waits
    alive = sum(own[-1][1] - own[0][0] for own in spans.values())
    busy = sum(end - start for own in spans.values() for start, end in own)
    return {
        "groups": GROUPS,
        "workers": WORKERS,
        "killed": len(killed),
        "processes": len(spans),
        "answered_once": complete and set(answered.values()) == {1},
        "valid_throughout": valid,
        "errors": sum(1 for note in notes if "times" in note),
        "idle_share": 1 - busy / alive,
        "head_cpu_ms_per_group": 1000 * cpu / GROUPS,
        "seconds": seconds,
    }


def seconds_to_write(tasks: int, folder: Path) -> float:
    """How long replacing one task's answers takes in a submission of so many."""
    writer = SubmissionWriter(folder / f"{tasks}.json", {f"task{i:06}": 1 for i in range(tasks)})
    began = time.perf_counter()
    writer.set("task000000", [([[1]], [[2]])])
    return time.perf_counter() - began


def main() -> None:
    if sys.argv[1:] == ["table"]:
        write_table()
        return
    if sys.argv[1:]:
        sys.exit(f"{sys.argv[1]}: must be table, or nothing")
    with tempfile.TemporaryDirectory() as name:
        result = simulate(Path(name))
        result["write_ms_1000_tasks"] = 1000 * seconds_to_write(1000, Path(name))
        result["write_ms_100000_tasks"] = 1000 * seconds_to_write(100_000, Path(name))
    sound = result["answered_once"] and result["valid_throughout"] and not result["errors"] and result["killed"] == 2
    result["passed"] = sound and result["idle_share"] <= MOST_IDLE
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

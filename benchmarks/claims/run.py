"""Run a benchmark as a user does, and write what it printed into the records that name its command."""

import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from arc_helpers.arc.json_file import parse_json
from benchmarks.claims.schema import (
    RESULTS,
    ROOT,
    Record,
    RecordError,
    Value,
    one_line,
    parse_command,
    read_records,
    write_record,
)

#: what a measurement depends on: with changes here that no commit holds, nobody can repeat it
MEASURED = ("arc_helpers", "benchmarks", ":!benchmarks/results", "configs", "models", "notebooks", "kaggle", "Makefile")


def bench(name: str, options: list[str], folder: Path = RESULTS) -> int:
    """The exit code of the script, whose last line must be a JSON object; or 1, with one line on stderr."""
    asked = {
        key: record
        for key, record in read_records(folder).items()
        if record.command.startswith("make bench ") and parse_command(record.command) == (name, options)
    }
    commit, began, cpu = current_commit(), time.monotonic(), _cpu_seconds()
    if asked and (commit is None or commit.endswith("-dirty")):
        print("what is measured is in no commit: the record will be refused by the tests", file=sys.stderr)
    code, line = run_script(name, options)
    printed = last_line(name, line)
    where = {
        "device": device_of(printed),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(printed.get("cpu_seconds", _cpu_seconds() - cpu), 1),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
    }
    problems = []
    for key, record in asked.items():
        try:
            write_record(folder / f"{key}.json", filled(record, printed, where))
            print(f"benchmarks/results/{key}.json is written; `make numbers` brings the text in step", file=sys.stderr)
        except (RecordError, OSError) as error:  # the numbers are on the screen, and the other records are written
            problems.append(f"{key}.json: {error}")
    if not asked:
        print("no record names this command, so nothing is kept: see benchmarks/README.md", file=sys.stderr)
    print(*problems, sep="\n", end="\n" * bool(problems), file=sys.stderr)
    return code or bool(problems)


def run_script(name: str, options: list[str]) -> tuple[int, str]:
    """Exit code and last line of a script, whose output is shown as it comes."""
    script = ROOT / "benchmarks" / f"{name}.py"
    if not script.is_file():
        known = ", ".join(sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
        raise RecordError(f"NAME={name}: there is no such script; there are {known}")
    last = ""
    with subprocess.Popen([sys.executable, script, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.strip() else last
    return process.returncode, last


def last_line(name: str, line: str) -> dict:
    try:
        printed = parse_json(line)
    except ValueError:
        printed = None
    if not isinstance(printed, dict):
        raise RecordError(f"{name}.py: its last line is no JSON object, so nothing was recorded: {line.strip()[:200]}")
    return printed


def filled(record: Record, printed: dict, where: dict) -> Record:
    """The record with what was printed.

    Raises RecordError where a field is missing, or is no number though it once was measured: on a machine without a GPU
    the numbers of a GPU stay.
    """
    values = [read_value(value, printed) for value in record.values]
    changed = record.model_copy(update={"values": values, "by_hand": False, "reason": None, **where})
    missing = [value.what for value in values if value.value is None]
    if missing and record.status != "not measured":
        raise RecordError(f"stays as it was: the command printed no number for {', '.join(missing)}")
    if missing:
        changed.reason = record.reason
    changed.status = changed.judged()
    try:
        return Record.model_validate(changed.model_dump())
    except ValidationError as error:
        raise RecordError(one_line(error)) from None


def read_value(value: Value, printed: dict) -> Value:
    """A value with its number, interval and n. null and "not measured" are no number; what is not there is a fault."""
    if value.field is None:
        raise RecordError(f"{value.what!r} has no field: name the one that the command prints, or take the value out")
    low, high = value.interval or (f"{value.field}_low", f"{value.field}_high")
    needed = [value.field, *(value.interval or ()), *filter(None, [value.n_field])]
    if missing := [field for field in needed if field not in printed]:
        raise RecordError(f"the command did not print {', '.join(map(str, missing))}; it printed {', '.join(printed)}")
    found = {"value": printed[value.field], "low": printed.get(low), "high": printed.get(high)}
    found |= {"n": printed[value.n_field]} if value.n_field else {"n": value.n}
    numbers = {key: None if isinstance(number, str) else number for key, number in found.items()}
    return value.model_copy(update=numbers)


def disagreements(record: Record, printed: dict) -> list[str]:
    """What a new run prints against a record: outside its interval; without one, on the bound's other side."""
    again = [read_value(value, printed) for value in record.values]
    rerun = record.model_copy(update={"values": again})
    found = []
    for old, new in zip(record.values, again, strict=True):
        bounds = [bound for bound in (old.bound, old.aim) if bound]
        if new.value is None:
            found.append(f"{old.field}: no number, and {old.value} in the record")
        elif old.low is not None and not old.low <= new.value <= old.high:
            found.append(f"{old.field}: {new.value} is outside {old.low} to {old.high}")
        elif old.low is None and any(record.holds(old, b) != rerun.holds(new, b) for b in bounds):
            found.append(f"{old.field}: {new.value}, and {old.value} in the record: {', '.join(bounds)}")
        elif old.low is None and not bounds and isinstance(old.value, bool) and new.value != old.value:
            found.append(f"{old.field}: {new.value} in place of {old.value}")
    return found


def device_of(printed: dict) -> str:
    """The processor's name, or "GPU" and its name where a script says that it used one."""
    said = str(printed.get("device", ""))
    if said.startswith("cuda"):
        import torch

        said = torch.cuda.get_device_name(0)
    if said and not said.startswith("cpu"):
        return f"GPU {said}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def current_commit() -> str | None:
    """HEAD, with "-dirty" where it lacks something that a measurement depends on; None without git."""
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", *MEASURED)
    return None if head is None else head[:12] + "-dirty" * bool(changes)


def check_commits(records: dict[str, Record]) -> None:
    """Raises RecordError for a record measured at a commit that HEAD's history lacks.

    Says nothing where the history is not at hand: no git, a shallow clone, or one that knows none of the commits.
    """
    history = _git("rev-list", "HEAD")
    if history is None or _git("rev-parse", "--is-shallow-repository") != "false":
        return
    known = {line[:7] for line in history.splitlines()}
    measured = {name: record.commit for name, record in records.items() if record.commit}
    unknown = {name: commit for name, commit in measured.items() if "-" in commit or commit[:7] not in known}
    if all(commit[:7] not in known for commit in measured.values()):
        return
    for name, commit in unknown.items():
        raise RecordError(f"{name}.json: was measured at an unknown commit, {commit}: commit the code, then measure")


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

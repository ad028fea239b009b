"""Kaggle's submission.json: {task id: [{"attempt_1": grid, "attempt_2": grid} for every test input]}."""

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from arc_helpers.arc.grid import GridError, as_grid, short
from arc_helpers.arc.json_file import parse_json, read_json
from arc_helpers.arc.layouts import data_files, explain, kind_of, stem
from arc_helpers.arc.sources import TaskFault
from arc_helpers.arc.task import Task, TaskError, shown_id

FALLBACK = [[0]]  # the smallest valid answer, for what was never attempted
ATTEMPTS = ("attempt_1", "attempt_2")


class SubmissionError(ValueError):
    """A submission, or something meant for one, is not valid; the message is one line."""


def num_tests_of(tasks: Iterable[Task], faults: Iterable[TaskFault] = ()) -> dict[str, int]:
    """How many answers a submission needs for every task, unreadable ones included: {id: number}."""
    return {task.id: len(task.test) for task in tasks} | {fault.id: fault.num_tests for fault in faults}


class SubmissionWriter:
    """Keeps a file that is a valid submission at every moment, whatever kills the run.

    num_tests: {id: number of test inputs}. The file is written at once, with fallbacks for everything.
    resume: continue an existing file; one that is not valid for these tasks is kept as <name>.damaged, and begun anew.
    """

    def __init__(self, path: str | PathLike, num_tests: Mapping[str, int], resume: bool = False):
        self.path = Path(path)
        self.num_tests = dict(num_tests)
        problems = validate_submission(self.path, self.num_tests) if resume and self.path.is_file() else []
        if problems:
            aside = self.path.rename(self.path.with_name(f"{self.path.name}.damaged"))
            print(f"{self.path}: cannot be gone on with ({problems[0]}): kept as {aside.name}")
        if not (resume and self.path.is_file()):
            fallback = [(FALLBACK, FALLBACK)]
            self._write({task_id: _entry(fallback * n) for task_id, n in self.num_tests.items()})

    def set(self, task_id: str, attempts: Sequence[tuple]) -> None:
        """Replace one task's answers: two grids for every test input. The file is replaced atomically.

        Raises SubmissionError, and leaves the file as it was, for an unknown task, a wrong number of test
        inputs or something that is not a grid.
        """
        where = f"task {shown_id(task_id)}"
        if task_id not in self.num_tests:
            raise SubmissionError(f"{where}: is not one of the submission's {len(self.num_tests)} tasks")
        needed = self.num_tests[task_id]
        if len(attempts) != needed:
            raise SubmissionError(f"{where}: has {len(attempts)} answers, the task has {needed} test inputs")
        try:
            entry = _entry(attempts)
        except GridError as error:
            raise SubmissionError(f"{where}: {error}") from None
        self._write(self.read() | {task_id: entry})

    def read(self) -> dict[str, list[dict[str, list[list[int]]]]]:
        """The submission as it is in the file now."""
        return read_submission(self.path)

    def _write(self, submission: dict) -> None:
        # Here, because a run's tools load more than reading puzzles needs.
        from arc_helpers.runs.checkpoint import atomic_write_text

        atomic_write_text(self.path, json.dumps(submission, separators=(",", ":")))


def write_ranked(
    writer: SubmissionWriter, ranked: Mapping[tuple[str, int], Sequence[np.ndarray]], tasks: Iterable[Task]
) -> int:
    """Write the two best grids for every test input of each task that has any; returns how many tasks.

    ranked: {(task, number of its test input): grids, best first}. The one grid twice where there is one; a test input
    without any keeps the fallback. `tasks` need no answers.
    """
    written, current = 0, writer.read()
    for task in tasks:
        best = [ranked.get((task.id, i), ()) for i in range(len(task.test))]
        if any(len(grids) for grids in best):
            kept = [tuple(old[name] for name in ATTEMPTS) for old in current[task.id]]
            both = [(grids[0], grids[min(1, len(grids) - 1)]) if len(grids) else () for grids in best]
            writer.set(task.id, [new or old for new, old in zip(both, kept, strict=True)])
            written += 1
    return written


def _entry(attempts: Sequence[tuple]) -> list[dict[str, list[list[int]]]]:
    entry = []
    for i, grids in enumerate(attempts):
        if not isinstance(grids, (tuple, list)) or len(grids) != len(ATTEMPTS):
            raise GridError(f"test[{i}]: expected two grids, got {short(grids)}")
        entry.append(
            {name: as_grid(grid, f"test[{i}].{name}").tolist() for name, grid in zip(ATTEMPTS, grids, strict=True)}
        )
    return entry


def read_submission(submission: Mapping | str | PathLike) -> dict:
    """A submission from a file, from a folder of <id>.json in the benchmarking layout (`_benchmark_answers`), or from a
    mapping that could be written to one; SubmissionError otherwise."""
    if not isinstance(submission, Mapping) and Path(submission).is_dir():
        return _read_folder(Path(submission))
    try:
        # A mapping goes through JSON and back: what Kaggle would see, and arrays have no way through.
        content = parse_json(json.dumps(submission)) if isinstance(submission, Mapping) else read_json(Path(submission))
    except TypeError as error:
        raise SubmissionError(f"not valid JSON: {error}") from None
    except ValueError as error:
        raise SubmissionError(str(error)) from None
    if not isinstance(content, dict):
        raise SubmissionError(f"expected a mapping from ids to answers, got {short(content)}")
    return content


def _read_folder(folder: Path) -> dict:
    try:
        files = data_files(folder, (".json",))
        contents = {file: read_json(file) for file in files}
    except TaskError as error:
        raise SubmissionError(str(error)) from None
    answers = {stem(f): _benchmark_answers(content) for f, content in contents.items() if kind_of(content) == "answers"}
    if not answers:
        first = f": {files[0].relative_to(folder)} {explain(contents[files[0]])}" if files else ""
        raise SubmissionError(f"{folder}: 0 of {len(files)} files are answers in the benchmarking layout{first}")
    return answers


def _benchmark_answers(tests: Any) -> list[dict]:
    """Kaggle's form of arc-agi-benchmarking's: a list with {"attempt_1": {"answer": grid, …}, …} for each test input.
    An attempt that is missing or null, as that suite leaves one which failed, becomes the fallback."""

    def grid_of(attempt: object) -> object:
        return (attempt.get("answer") if isinstance(attempt, dict) else attempt) or FALLBACK

    return [{name: grid_of(test.get(name)) for name in ATTEMPTS} for test in tests]


def merge_submissions(submissions: Sequence[Mapping | str | PathLike]) -> dict:
    """One submission out of several: for each test input the two grids that most of them propose.

    Where as many propose one as another, first attempts go before second ones, and among these the order given
    decides: of two submissions that agree on nothing the first attempts of both are kept. The fallback counts only
    where nothing else was proposed. Tasks may be in some of them only. Raises SubmissionError, one line, for fewer
    than two submissions, for one that is not valid, and where they differ in a task's number of test inputs.
    """
    if len(submissions) < 2:
        raise SubmissionError(f"merge: expected at least two submissions, got {len(submissions)}")
    read = [read_submission(submission) for submission in submissions]
    num_tests: dict[str, int] = {}
    for number, submission in enumerate(read, 1):
        for task_id, outputs in submission.items():
            n = num_tests.setdefault(task_id, len(outputs) if isinstance(outputs, list) else 0)
            problems = _entry_problems(f"task {shown_id(task_id)}", outputs, n)
            if problems:
                raise SubmissionError(f"merge: submission {number}: {problems[0]}")
    return {
        task_id: [_most_proposed([s[task_id][i] for s in read if task_id in s]) for i in range(n)]
        for task_id, n in num_tests.items()
    }


def _most_proposed(outputs: Sequence[Mapping[str, list]]) -> dict[str, list]:
    proposed = [output[name] for name in ATTEMPTS for output in outputs]
    proposed = [grid for grid in proposed if grid != FALLBACK] or [FALLBACK]
    proposed.sort(key=lambda grid: -sum(grid in output.values() for output in outputs))  # stable: ties keep their order
    first = proposed[0]
    second = next((grid for grid in proposed if grid != first), first)
    return dict(zip(ATTEMPTS, (first, second), strict=True))


def validate_submission(submission: Mapping | str | PathLike, num_tests: Mapping[str, int]) -> list[str]:
    """Everything Kaggle could refuse, one line a problem; an empty list means valid.

    num_tests: {id: number of test inputs} of the challenge, see `num_tests_of`.
    """
    try:
        submission = read_submission(submission)
    except SubmissionError as error:
        return [str(error)]
    problems = []
    for task_id, n in num_tests.items():
        where = f"task {shown_id(task_id)}"
        if task_id in submission:
            problems += _entry_problems(where, submission[task_id], n)
        else:
            problems.append(f"{where}: is missing")
    extra = [task_id for task_id in submission if task_id not in num_tests]
    return problems + [f"task {shown_id(task_id)}: is not in the challenge" for task_id in extra]


def _entry_problems(where: str, outputs: object, n: int) -> list[str]:
    if not isinstance(outputs, list):
        return [f"{where}: expected a list with an entry for every test input, got {short(outputs)}"]
    if len(outputs) != n:
        return [f"{where}: has {len(outputs)} entries, the task has {n} test inputs"]
    problems = []
    for i, output in enumerate(outputs):
        if not isinstance(output, dict) or set(output) != set(ATTEMPTS):
            problems.append(f"{where}: test[{i}]: expected exactly attempt_1 and attempt_2, got {short(output)}")
            continue
        for name in ATTEMPTS:
            try:
                as_grid(output[name], f"{where}: test[{i}].{name}")
            except GridError as error:
                problems.append(str(error))
    return problems

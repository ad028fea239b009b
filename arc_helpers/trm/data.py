"""ARC data sets for TRM: demonstrations to train on, queries without answers, and named augmentations.

A task that TRM is to answer needs a vector of its own, and that has to be trained: so the demonstrations of the scored
tasks are trained on (test-time training, built in from the start), and nothing else of them. Their test outputs never
get into a data set: `Query` has no field that could hold one, and tasks that share an id or a pair with a scored task
are left out (`arc.find_overlap`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from arc_helpers.arc import (
    MAX_SIDE,
    Pair,
    SplitError,
    Task,
    TaskFault,
    check_split,
    concept_arc,
    find_overlap,
    load_tasks,
)
from arc_helpers.arc.task import read_pairs
from arc_helpers.runs import atomic_write_json, output_path, resolve_path
from arc_helpers.trm.augment import MOST_AUGMENTATIONS, distinct_transforms
from arc_helpers.trm.canvas import EOS, FIRST_COLOR, PAD, VOCAB_SIZE

FORMAT = 1
CONCEPT = "data/concept_arc.jsonl.xz"


class DatasetError(ValueError):
    """A data set cannot be built or read; one line: what, where, what is allowed."""


@dataclass(frozen=True)
class Query:
    """A test input of a task, int8 [H, W]: what is asked. There is no field for an answer."""

    task_id: str
    index: int
    input: np.ndarray


@dataclass(frozen=True)
class DatasetOptions:
    """How a data set was built; a checkpoint remembers it, and works with no other.

    source: a set such as "arcagi1", or a folder. subsets: its parts "training", "evaluation", … or "concept" for
    ConceptARC. test_set_name: the subset that is scored. num_aug: augmentations a task besides itself.
    max_side: tasks with a larger grid are left out, and listed.
    """

    source: str
    subsets: tuple[str, ...]
    test_set_name: str
    num_aug: int
    seed: int
    max_side: int = MAX_SIDE

    def __post_init__(self):
        object.__setattr__(self, "subsets", tuple(self.subsets))
        if self.test_set_name not in self.subsets:
            raise DatasetError(f"test_set_name = {self.test_set_name}: must be one of {', '.join(self.subsets)}")
        if not 0 <= self.num_aug <= MOST_AUGMENTATIONS:
            raise DatasetError(
                f"num_aug = {self.num_aug}: must be 0 to {MOST_AUGMENTATIONS:,}, all symmetries and colour permutations"
            )
        if not 1 <= self.max_side <= MAX_SIDE:
            raise DatasetError(f"max_side = {self.max_side}: must be 1 to {MAX_SIDE}")

    def check_same(self, other: "DatasetOptions", where: str) -> None:
        """Raise DatasetError, naming the first option in which `other`, which `where` holds, differs."""
        for option in fields(self):
            mine, theirs = getattr(self, option.name), getattr(other, option.name)
            if mine != theirs:
                raise DatasetError(
                    f"{option.name} = {mine}: the data set was built with it, but {where} with {theirs}; "
                    "build the data set with the same options"
                )


@dataclass(frozen=True)
class ArcDataset:
    """What TRM is trained on, and what it is asked.

    pairs: {task id: labelled pairs}, of scored tasks the demonstrations. queries: of the scored tasks.
    transforms: {task id: names of its augmentations}, itself first. notes: what was left out, a line each.
    rows, table_rows: {task id: rows of its identifiers} and how many rows a table has, where another numbered them
    (trm/official.py); else they are numbered in order, from 1.
    """

    options: DatasetOptions
    pairs: Mapping[str, Sequence[Pair]]
    queries: Sequence[Query]
    transforms: Mapping[str, Sequence[str]]
    notes: Sequence[str] = field(default=())
    rows: Mapping[str, Sequence[int]] = field(default_factory=dict)
    table_rows: int = 0

    @property
    def task_ids(self) -> list[str]:
        """Every task; number i has row i + 1 of a model's table, for row 0 is blank."""
        return list(self.pairs)

    @property
    def scored_ids(self) -> list[str]:
        """The tasks that are asked."""
        return list(dict.fromkeys(query.task_id for query in self.queries))

    @property
    def identifiers(self) -> list[str]:
        """Names of all (task, augmentation), such as "007bbfb7|||r1f0-c0213456789"; number i: row i + 1, or `rows`."""
        return [f"{task_id}|||{name}" for task_id in self.pairs for name in self.transforms[task_id]]

    @cached_property
    def _numbered(self) -> dict[str, Sequence[int]]:
        numbered: dict[str, Sequence[int]] = {}
        row = 1
        for task_id in self.pairs:
            numbered[task_id] = range(row, row + len(self.transforms[task_id]))
            row += len(self.transforms[task_id])
        return numbered

    def rows_of(self, task_id: str) -> Sequence[int]:
        """The rows of a task's identifiers, in the order of its transforms."""
        return (self.rows or self._numbered)[task_id]

    @property
    def identifier_rows(self) -> int:
        """How many rows a table of identifiers has, the blank one included."""
        return self.table_rows or 1 + sum(map(len, self.transforms.values()))

    def fingerprint(self) -> str:
        """A hash of the pairs and queries: the same for the same data, on any machine."""
        digest = sha256()
        grids = [(i, g) for i, pairs in self.pairs.items() for p in pairs for g in (p.input, p.output)]
        grids += [(query.task_id, query.input) for query in self.queries]
        for task_id, grid in grids:
            digest.update(f"{task_id}{grid.shape}".encode() + grid.tobytes())
        return digest.hexdigest()[:16]

    def check_guard(self, labelled: Sequence[Task]) -> None:
        """Raise SplitError if anything that was trained on is scored by `labelled`, tasks with their answers.

        Of a scored task only its own demonstrations may have been seen; of any other task no common pair.
        """
        scored = set(self.scored_ids)
        check_split([as_task(i, pairs) for i, pairs in self.pairs.items() if i not in scored], labelled)
        for task in labelled:
            unknown = set(self.pairs.get(task.id, ())) - set(task.train)
            if unknown:
                raise SplitError(f"{task.id}: trained on {len(unknown)} pairs that are not among its demonstrations")


def build_arc_dataset(
    source: str,
    out_dir: str | Path,
    subsets: Sequence[str] = ("training", "evaluation"),
    test_set_name: str = "evaluation",
    num_aug: int = 0,
    seed: int = 0,
    max_side: int = MAX_SIDE,
) -> ArcDataset:
    """Read, guard, augment and write a data set into a folder: dataset.json says what the other files hold.

    Options as in DatasetOptions. Where a task has fewer than `num_aug` different augmentations, it gets those and a
    note says so. Raises DatasetError or TaskError, one line.
    """
    options = DatasetOptions(source, tuple(subsets), test_set_name, num_aug, seed, max_side)
    notes: list[str] = []
    scored = read_subset(source, test_set_name, notes)
    pairs: dict[str, list[Pair]] = {}
    for subset in options.subsets:
        if subset != test_set_name:
            for task in without_overlap(read_subset(source, subset, notes), scored, notes):
                if _fits(task, max_side, notes):
                    pairs.setdefault(task.id, []).extend(p for p in task.train + task.test if p.output is not None)
    asked = [task for task in (t.without_answers() for t in scored) if _fits(task, max_side, notes)]
    if not asked:
        raise DatasetError(f"{source}/{test_set_name}: no task fits max_side = {max_side}")
    pairs |= {task.id: list(task.train) for task in asked}
    queries = [Query(task.id, i, pair.input) for task in asked for i, pair in enumerate(task.test)]
    transforms = {}
    for number, (task_id, of_task) in enumerate(pairs.items()):
        found = distinct_transforms(of_task, num_aug, np.random.default_rng([seed, number]))
        transforms[task_id] = [transform.name for transform in found]
        if len(found) - 1 < num_aug:
            notes.append(f"{task_id}: has {len(found) - 1} different augmentations, not num_aug = {num_aug}")
    dataset = ArcDataset(options, pairs, queries, transforms, notes)
    _write(dataset, output_path(out_dir))
    return dataset


def load_arc_dataset(folder: str | Path) -> ArcDataset:
    """Read what `build_arc_dataset` wrote. Raises DatasetError, one line, where it is not whole."""
    folder = resolve_path(folder)
    try:
        head, pairs, queries, transforms = (json.loads((folder / name).read_text()) for name in _FILES)
        options = DatasetOptions(**head["options"])
        dataset = ArcDataset(
            options,
            {task_id: read_pairs(task_id, {"pairs": entries}, "pairs") for task_id, entries in pairs.items()},
            [Query(i, n, p.input) for i, grids in queries.items() for n, p in enumerate(_inputs(i, grids))],
            transforms,
            head["notes"],
        )
        complete = head["format"] == FORMAT and head["fingerprint"] == dataset.fingerprint()
    except FileNotFoundError as error:
        raise DatasetError(f"{folder}: {Path(error.filename).name} is missing; build_arc_dataset writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{folder}: not a whole data set ({error}); build it again") from None
    if not complete:
        raise DatasetError(f"{folder}: its files do not belong together (format or fingerprint); build it again")
    return dataset


_FILES = ("dataset.json", "pairs.json", "queries.json", "transforms.json")


def _write(dataset: ArcDataset, folder: Path) -> None:
    head = {
        "format": FORMAT,
        "options": asdict(dataset.options),
        "vocabulary": {"size": VOCAB_SIZE, "pad": PAD, "ignored_label": PAD, "eos": EOS, "first_color": FIRST_COLOR},
        "files": dict(
            zip(
                _FILES[1:],
                (
                    "labelled pairs of each task; of scored tasks the demonstrations",
                    "test inputs of the scored tasks; there are no answers in these four files",
                    "augmentations of each task by name; arc.Transform.from_name(name).inverse turns answers back",
                ),
                strict=True,
            )
        ),
        "tasks": len(dataset.pairs),
        "scored_tasks": len(dataset.scored_ids),
        "pairs": sum(map(len, dataset.pairs.values())),
        "queries": len(dataset.queries),
        "identifiers": len(dataset.identifiers),
        "fingerprint": dataset.fingerprint(),
        "notes": list(dataset.notes),
    }
    queries: dict[str, list] = {}
    for query in dataset.queries:
        queries.setdefault(query.task_id, []).append(query.input.tolist())
    pairs = {i: [{"input": p.input, "output": p.output} for p in of] for i, of in dataset.pairs.items()}
    for name, value in zip(_FILES, (head, pairs, queries, dict(dataset.transforms)), strict=True):
        atomic_write_json(folder / name, value, indent=2 if name == "dataset.json" else None)


def read_subset(source: str, subset: str, notes: list[str]) -> list[Task]:
    """The tasks of one part of a source, with their answers where it has them; a task that cannot be read is noted."""
    if subset == "concept":
        return concept_arc(resolve_path(CONCEPT, must_exist=True))
    faults: list[TaskFault] = []
    challenges, solutions = (resolve_path(f"{source}_{subset}_{name}.json") for name in ("challenges", "solutions"))
    if challenges.is_file():  # the published builder's --input-file-prefix
        tasks = load_tasks(challenges, solutions=solutions if solutions.is_file() else None, faults=faults)
    else:
        tasks = load_tasks(f"{source}/{subset}", faults=faults)
    notes += [f"{subset}: {fault.message}" for fault in faults]
    return tasks


def without_overlap(tasks: Sequence[Task], scored: Sequence[Task], notes: list[str]) -> list[Task]:
    """Those of `tasks` that share neither id nor pair with a scored one; a note for each of the others."""
    overlap = find_overlap(tasks, scored)
    notes += [f"{task_id}: left out, it overlaps with the scored task {other}" for task_id, other in overlap.items()]
    kept = [task for task in tasks if task.id not in overlap]
    check_split(kept, scored)
    return kept


def _fits(task: Task, max_side: int, notes: list[str]) -> bool:
    known = [p.output for p in task.test if p.output is not None]
    side = max(task.max_side, *(max(grid.shape) for grid in known), 0)
    if side > max_side:
        notes.append(f"{task.id}: left out, a side of {side} is more than max_side = {max_side}")
    return side <= max_side


def _inputs(task_id: str, grids: Sequence) -> tuple[Pair, ...]:
    return read_pairs(task_id, {"queries": [{"input": grid} for grid in grids]}, "queries")


def as_task(task_id: str, pairs: Sequence[Pair]) -> Task:
    """Pairs as a task that demonstrates all of them, for the guard."""
    return Task(task_id, tuple(pairs), (Pair(pairs[0].input),))

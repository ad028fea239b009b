"""The published TRM's data folder, read and written: what `build_arc_dataset.py` makes, of
SamsungSAILMontreal/TinyRecursiveModels.

    identifiers.json      names of the rows of the table: "<blank>", "007bbfb7", "007bbfb7|||t3|||0213456789", …
    test_puzzles.json     {task id: task} of the scored tasks, with their answers: read by scoring alone
    train/, test/         dataset.json, and all__*.npy: inputs and labels uint8 [examples, 900], puzzle_identifiers
                          int32 [puzzles], puzzle_indices (first example of each puzzle), group_indices

A puzzle is a task in one augmentation; a group is all puzzles of one task.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from arc_helpers.arc import DIHEDRAL, MAX_SIDE, Pair, Task, Transform, load_tasks
from arc_helpers.runs import atomic_write_json, output_path, replacing_folder, resolve_path
from arc_helpers.trm.augment import MOST_AUGMENTATIONS
from arc_helpers.trm.canvas import EOS, PAD, VOCAB_SIZE, Canvas, place, read
from arc_helpers.trm.data import (
    ArcDataset,
    DatasetError,
    DatasetOptions,
    Query,
    as_task,
    build_arc_dataset,
    load_arc_dataset,
    read_subset,
    without_overlap,
)

LAYOUTS = ("both", "own", "official")
SEPARATOR, BLANK_NAME = "|||", "<blank>"
CANVAS = Canvas(MAX_SIDE, MAX_SIDE**2)
NO_ANSWER = np.zeros((1, 1), dtype=np.int8)  # what the published builder writes where there is none
#: t0 … t7 of their names; here a grid is mirrored first and then turned
_SYMMETRIES = tuple(
    Transform(k, flip)
    for k, flip in (
        (0, False),
        (1, False),
        (2, False),
        (3, False),
        (0, True),  # left and right change places
        (2, True),  # above and below
        (1, True),  # along the main diagonal
        (3, True),  # along the other one
    )
)


def official_name(task_id: str, transform: Transform) -> str:
    """The published name of a task in an augmentation; the task's own id where nothing is changed."""
    if transform == DIHEDRAL[0]:
        return task_id
    number = _SYMMETRIES.index(Transform(transform.k, transform.flip))
    return SEPARATOR.join([task_id, f"t{number}", "".join(map(str, transform.colors))])


def read_name(name: str) -> tuple[str, Transform]:
    """(task id, augmentation) of a published name. Raises DatasetError, one line, where it is none."""
    task_id, *rest = name.split(SEPARATOR)
    if not rest:
        return task_id, DIHEDRAL[0]
    try:
        turn, colors = rest
        seen = _SYMMETRIES[{f"t{i}": i for i in range(8)}[turn]]
        return task_id, Transform(seen.k, seen.flip, tuple(map(int, colors)))
    except (ValueError, KeyError):
        raise DatasetError(f"{name}: is no name of an augmented task, such as {task_id}|||t3|||0213456789") from None


def is_official(folder: Path) -> bool:
    """Whether a folder has the published layout."""
    return (folder / "identifiers.json").is_file() and not (folder / "pairs.json").is_file()


def open_dataset(folder: str | Path) -> ArcDataset:
    """A built data set in either layout. Raises DatasetError, one line."""
    folder = resolve_path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; `trm build-data` makes one")
    return load_official_dataset(folder) if is_official(folder) else load_arc_dataset(folder)


def load_official_dataset(folder: str | Path) -> ArcDataset:
    """The published folder as a data set whose tasks keep the rows that identifiers.json gives them.

    Without train/ there are the scored tasks alone, which is enough to evaluate. The answers of test_puzzles.json serve
    to leave out training tasks that share a pair with a scored one, as in `build_arc_dataset` (published: they are
    trained on); test/ serves to check that its rows are what the names and the tasks say. Raises DatasetError.
    """
    folder = resolve_path(folder)
    names = _read_json(folder / "identifiers.json", list)
    answered = official_tasks(folder)
    scored = [task.without_answers() for task in answered]
    transforms: dict[str, list[Transform]] = {}
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name != BLANK_NAME:
            task_id, transform = read_name(name)
            transforms.setdefault(task_id, []).append(transform)
            rows.setdefault(task_id, []).append(row)
    unknown = [task.id for task in scored if task.id not in rows]
    if unknown:
        raise DatasetError(
            f"{folder}/identifiers.json: has no row for {', '.join(unknown[:3])}{' …' * (len(unknown) > 3)} of "
            f"test_puzzles.json ({len(unknown)} of {len(scored)}); the two files are of different builds"
        )
    pairs: dict[str, Sequence[Pair]] = _training_pairs(folder, names) if (folder / "train").is_dir() else {}
    others = [as_task(i, p) for i, p in pairs.items() if i not in {task.id for task in scored}]
    notes: list[str] = []
    kept = {task.id: pairs[task.id] for task in without_overlap(others, answered, notes)}
    pairs = kept | {task.id: task.train for task in scored}
    most = max(map(len, transforms.values())) - 1
    options = DatasetOptions(folder.name, ("train", "test"), "test", min(most, MOST_AUGMENTATIONS), 0)
    dataset = ArcDataset(
        options,
        pairs,
        [Query(task.id, i, pair.input) for task in scored for i, pair in enumerate(task.test)],
        {task_id: [transform.name for transform in transforms[task_id]] for task_id in pairs},
        notes,
        rows={task_id: rows[task_id] for task_id in pairs},
        table_rows=len(names),
    )
    if (folder / "test").is_dir():
        check_rows(folder, dataset)
    return dataset


def official_tasks(folder: str | Path) -> list[Task]:
    """The scored tasks, with their answers where the folder has them: for scoring. Raises DatasetError or TaskError."""
    path = Path(folder) / "test_puzzles.json"
    _read_json(path, dict)
    tasks = load_tasks(path)
    answers = [pair.output for task in tasks for pair in task.test]
    dummies = all(answer is None or np.array_equal(answer, NO_ANSWER) for answer in answers)
    return [task.without_answers() for task in tasks] if dummies else tasks


def asked_rows(folder: Path) -> Iterator[tuple[int, np.ndarray]]:
    """(row of the table, tokens uint8 [900]) of each test example, in the folder's order."""
    yield from ((row, tokens) for row, tokens, _ in _examples(folder / "test", with_labels=False))


def check_rows(folder: Path, dataset: ArcDataset) -> int:
    """How many test examples there are; each is a query of its task, seen as its name says, else DatasetError."""
    where = {row: (i, n) for i, numbers in dataset.rows.items() for n, row in enumerate(numbers)}
    asked: dict[str, list[np.ndarray]] = {}
    for query in dataset.queries:
        asked.setdefault(query.task_id, []).append(query.input)
    count, last, expected = 0, -1, set()
    for count, (row, tokens) in enumerate(asked_rows(folder), start=1):
        if row != last:
            task_id, number = where.get(row, ("", 0))
            views = [Transform.from_name(dataset.transforms[task_id][number])] if task_id in asked else []
            expected = {place(view.grid(g), CANVAS).tobytes() for view in views for g in asked[task_id]}
            last = row
        if np.asarray(tokens, dtype=np.uint8).tobytes() not in expected:
            raise DatasetError(
                f"{folder}/test: example {count} is no test input of what row {row} of identifiers.json names; "
                "the files are of different builds"
            )
    return count


def build_folders(
    source: str, out: str | Path, layout: str, subsets: Sequence[str], test_set_name: str, **options: int
) -> list[str]:
    """Build a data set and write it under `out`: own/, official/, or both (layout). Returns a line for each and note.

    An earlier build there is replaced, anything else is refused. Raises DatasetError, TaskError or FolderError.
    """
    lines = []
    with replacing_folder(output_path(out), "a TRM data set") as draft:
        dataset = build_arc_dataset(source, draft / "own", subsets, test_set_name, **options)
        lines += dataset.notes
        if layout != "own":
            scored = [t for t in read_subset(source, test_set_name, []) if t.id in set(dataset.scored_ids)]
            write_official_dataset(dataset, draft / "official", scored, dataset.options.seed)
        if layout == "official":
            shutil.rmtree(draft / "own")
    numbers = f"{len(dataset.task_ids)} tasks, {len(dataset.queries)} queries, {dataset.identifier_rows} identifiers"
    return [*lines, *(f"{output_path(out) / name}: {numbers}" for name in LAYOUTS[1:] if layout in ("both", name))]


def write_official_dataset(dataset: ArcDataset, folder: Path, answered: Sequence[Task] = (), seed: int = 0) -> None:
    """Write a data set in the published layout, its rows numbered as the data set's.

    answered: the scored tasks with their answers, which go to test_puzzles.json and test/ as published; without them
    a dummy stands there. In train/ all pairs of a puzzle but one are moved to a random place of the canvas, as
    published. Examples go to the disk one by one: memory does not grow with num_aug.
    """
    truths = {task.id: [pair.output for pair in task.test] for task in answered}
    inputs: dict[str, list[np.ndarray]] = {}
    for query in dataset.queries:
        inputs.setdefault(query.task_id, []).append(query.input)
    asked = {
        task_id: [
            Pair(grid, NO_ANSWER if truth is None else truth)
            for grid, truth in zip(grids, truths.get(task_id, [None] * len(grids)), strict=True)
        ]
        for task_id, grids in inputs.items()
    }
    rng = np.random.default_rng(seed)
    _write_split(dataset, folder / "train", dataset.pairs, rng)
    _write_split(dataset, folder / "test", asked, None)
    names = {row: name for i in dataset.pairs for row, name in zip(dataset.rows_of(i), _names(dataset, i), strict=True)}
    atomic_write_json(
        folder / "identifiers.json", [names.get(i, BLANK_NAME) for i in range(dataset.identifier_rows)], indent=None
    )
    puzzles = {i: Task(i, tuple(dataset.pairs[i]), tuple(pairs)).to_dict() for i, pairs in asked.items()}
    atomic_write_json(folder / "test_puzzles.json", puzzles, indent=None)


def _names(dataset: ArcDataset, task_id: str) -> list[str]:
    return [official_name(task_id, Transform.from_name(name)) for name in dataset.transforms[task_id]]


def _write_split(
    dataset: ArcDataset, folder: Path, pairs: Mapping[str, Sequence[Pair]], rng: np.random.Generator | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    n = sum(len(of) * len(dataset.transforms[task_id]) for task_id, of in pairs.items())
    sheets = [
        np.lib.format.open_memmap(folder / f"all__{name}.npy", "w+", np.uint8, (n, CANVAS.cells))
        for name in ("inputs", "labels")
    ]
    identifiers, puzzle_indices, group_indices = [], [0], [0]
    example = 0
    for task_id, of in pairs.items():
        for row, name in zip(dataset.rows_of(task_id), dataset.transforms[task_id], strict=True):
            view = Transform.from_name(name)
            stays = None if rng is None else int(rng.integers(len(of)))
            for i, pair in enumerate(of):
                seen = view.pair(pair)
                offset = (0, 0) if rng is None or i == stays else _offset(seen, rng)
                for sheet, grid in zip(sheets, (seen.input, seen.output), strict=True):
                    sheet[example] = _placed(grid, offset)
                example += 1
            identifiers.append(row)
            puzzle_indices.append(example)
        group_indices.append(len(identifiers))
    for sheet in sheets:
        sheet.flush()
    columns = {
        "puzzle_identifiers": identifiers,
        "puzzle_indices": puzzle_indices,
        "group_indices": group_indices,
    }
    for name, values in columns.items():
        np.save(folder / f"all__{name}.npy", np.array(values, dtype=np.int32))
    head = {
        **{"pad_id": PAD, "ignore_label_id": PAD, "blank_identifier_id": 0, "vocab_size": VOCAB_SIZE},
        **{"seq_len": CANVAS.cells, "num_puzzle_identifiers": dataset.identifier_rows, "total_groups": len(pairs)},
        "mean_puzzle_examples": n / len(identifiers),
        **{"total_puzzles": len(identifiers), "sets": ["all"]},
    }
    atomic_write_json(folder / "dataset.json", head, indent=None)


def _offset(pair: Pair, rng: np.random.Generator) -> tuple[int, int]:
    rows, columns = np.maximum(pair.input.shape, pair.output.shape)
    return int(rng.integers(MAX_SIDE - rows + 1)), int(rng.integers(MAX_SIDE - columns + 1))


def _placed(grid: np.ndarray, offset: tuple[int, int]) -> np.ndarray:
    row, column = offset
    sheet = np.full((MAX_SIDE, MAX_SIDE), PAD, dtype=np.uint8)
    at_corner = place(grid, CANVAS).reshape(MAX_SIDE, MAX_SIDE)
    sheet[row:, column:] = at_corner[: MAX_SIDE - row, : MAX_SIDE - column]
    return sheet.ravel()


def _training_pairs(folder: Path, names: Sequence[str]) -> dict[str, Sequence[Pair]]:
    """The pairs of each task as they are, from the puzzles that are not augmented; moved ones are moved back."""
    pairs: dict[str, list[Pair]] = {}
    plain = {row for row, name in enumerate(names) if SEPARATOR not in name and name != BLANK_NAME}
    for row, question, answer in _examples(folder / "train", only=plain):
        grids = [grid for grid in map(_found, (question, answer)) if grid is not None]
        if len(grids) < 2:
            raise DatasetError(f"{folder}/train: an example of {names[row]} holds no grid; build the folder again")
        pairs.setdefault(names[row], []).append(Pair(*grids))
    return dict(pairs)


def _found(tokens: np.ndarray) -> np.ndarray | None:
    sheet = np.asarray(tokens).reshape(MAX_SIDE, MAX_SIDE)
    rows, columns = np.nonzero(sheet > EOS)
    if not len(rows):
        return None
    corner = sheet[rows.min() :, columns.min() :]
    return read(corner.ravel(), corner.shape[1])


def _examples(
    folder: Path, with_labels: bool = True, only: set[int] | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(row of the table, input, label), each uint8 [900], of a split. Raises DatasetError where it is not whole."""
    try:
        head = json.loads((folder / "dataset.json").read_text())
        shape = head["seq_len"], head["vocab_size"], head["sets"]
        inputs = np.load(folder / "all__inputs.npy", mmap_mode="r")
        labels = np.load(folder / "all__labels.npy", mmap_mode="r") if with_labels else inputs
        rows, starts = (np.load(folder / f"all__{name}.npy") for name in ("puzzle_identifiers", "puzzle_indices"))
    except FileNotFoundError as error:
        raise DatasetError(f"{folder}: {Path(error.filename).name} is missing; build the folder again") from None
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise DatasetError(f"{folder}: not a whole split ({error})") from None
    if shape != (CANVAS.cells, VOCAB_SIZE, ["all"]):
        raise DatasetError(
            f"{folder}/dataset.json: seq_len, vocab_size, sets = {shape}; an ARC folder has {CANVAS.cells}, "
            f"{VOCAB_SIZE} and ['all']"
        )
    whole = len(starts) == len(rows) + 1 and inputs.shape == labels.shape == (int(starts[-1]), CANVAS.cells)
    if not whole:
        raise DatasetError(f"{folder}: its arrays do not belong together; build the folder again")
    for number, row in enumerate(rows.tolist()):
        if only is None or row in only:
            for i in range(int(starts[number]), int(starts[number + 1])):
                yield row, inputs[i], labels[i]


def _read_json(path: Path, kind: type):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: is missing; a published TRM data folder has it") from None
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, kind):
        raise DatasetError(f"{path}: must hold a JSON {'list' if kind is list else 'object'}")
    return value

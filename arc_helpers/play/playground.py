"""The kernel's side of the playground: it holds the answers, reads task files and writes tasks that were drawn."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from arc_helpers.arc import GridError, Task, TaskError, as_grid, compare_grids, load_tasks, safe_name
from arc_helpers.play.rows import rows_of, task_for_browser
from arc_helpers.play.script import script, style
from arc_helpers.plot import Picture
from arc_helpers.plot.beside import LIVE, show_beside
from arc_helpers.runs import atomic_write_json, output_path, project_root

OWN = "work/tasks"  # what people draw stays: no `make` target removes it


class Playground(anywidget.AnyWidget):
    """Thumbnails, a task, an editor; see `open_playground`. The browser is given no answer before it is asked for."""

    _esm = script("editor", "playground")
    _css = style()
    sets = traitlets.List(traitlets.Unicode()).tag(sync=True)  # names
    shown = traitlets.Unicode().tag(sync=True)  # the set whose tasks are there
    tasks = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, sets: Mapping[str, Sequence[Task]], answers: Mapping[str, Any], picture: Picture) -> None:
        super().__init__()
        self.add_class(LIVE)
        self._sets, self._answers, self._picture = dict(sets), answers, picture
        self._written: dict[str, Path] = {}  # by name, what this playground has saved
        self._show(next(iter(sets)))
        self.on_msg(lambda _, content, buffers: self.send(self.reply(content)))

    def _ipython_display_(self) -> None:
        first = self._sets[self.shown][0]
        alt = f"Task {first.id}: {len(first.train)} demonstrations, {len(first.test)} test inputs, as coloured grids."
        show_beside(self._repr_mimebundle_()[0], self._picture.to_png(), alt)

    def reply(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What the browser gets for a question {"n", "what", …}: {"n", "said", …}; bad input is told, in one line."""
        questions = {
            "set": self._set,
            "check": self._check,
            "answers": self._tell,
            "open": self._open,
            "save": self._save,
        }
        try:
            return {"n": asked["n"], **questions[asked["what"]](asked)}
        except (TaskError, GridError) as error:
            return {"n": asked["n"], "said": str(error), "failed": True}
        except OSError as error:
            return {"n": asked["n"], "said": f"{error.filename}: {error.strerror}", "failed": True}

    def _show(self, name: str) -> None:
        with self.hold_sync():
            self.sets, self.shown = list(self._sets), name
            self.tasks = [task_for_browser(task) | measures(task) for task in self._sets[name]]

    def _set(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._show(asked["name"])
        return {"said": f"{len(self.tasks)} tasks"}

    def _check(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        truth = self._sets[self.shown][asked["task"]].test[asked["test"]].output
        if truth is None:
            return {"verdict": "the answer is not known here"}
        diff = compare_grids(as_grid(_cells(asked["grid"])), truth)
        if diff.correct:
            return {"verdict": "✓ solved"}
        wrong = "1 cell" if diff.n_wrong == 1 else f"{diff.n_wrong} cells"
        return {"verdict": f"✗ {wrong} wrong" if diff.same_shape else "✗ wrong size"}

    def _tell(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        task, test = self._sets[self.shown][asked["task"]], asked["test"]
        told = []
        for name, own in self._answers.items():
            rows = list(dict.fromkeys(tuple(rows_of(grid)) for grid in own.get(task.id, [()] * (test + 1))[test]))
            told += [(name if len(rows) == 1 else f"{name}, attempt {i}", row) for i, row in enumerate(rows, 1)]
        truth = task.test[test].output
        told += [("truth", tuple(rows_of(truth)))] if truth is not None else []
        return {"answers": told, "said": "" if truth is not None else "the answer is not known here"}

    def _open(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A file from elsewhere, in any layout that notebooks read."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(asked["name"]).name
            file.write_text(asked["text"], encoding="utf-8")
            try:
                tasks = load_tasks(file)
            except TaskError as error:
                raise TaskError(str(error).replace(str(file), file.name)) from None
        self._sets[file.name] = tasks
        self._show(file.name)
        return {"said": f"{file.name}: {len(tasks)} tasks"}

    def _save(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Write a task to a file of its own; a file of that name which is not ours stays, and a number is added."""
        pairs = {
            part: [
                {"input": _cells(given), **({} if output is None else {"output": _cells(output)})}
                for given, output in asked["task"][part]
            ]
            for part in ("train", "test")
        }
        task = Task.from_dict(asked["task"]["id"], pairs)
        path = self._written.get(task.id) or _free(output_path(OWN) / f"{safe_name(task.id)}.json")
        atomic_write_json(path, task.to_dict(), indent=None)
        self._written[task.id] = path
        shown = path.relative_to(project_root()) if path.is_relative_to(project_root()) else path
        return {"path": str(shown), "said": f'saved. In notebook 02: data_dir = "{shown}"'}


def _free(path: Path) -> Path:
    """The path, or the first `<name>-2.json` and so on that no file has."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}.json")
    return free


def measures(task: Task) -> dict[str, int]:
    """What thumbnails are filtered by: largest side, number of colours, demonstrations; of what one may look at."""
    seen = [pair.input for pair in task.train + task.test] + [pair.output for pair in task.train]
    colors = np.unique(np.concatenate([grid.ravel() for grid in seen]))
    return {"side": task.max_side, "colors": len(colors), "pairs": len(task.train)}


def _cells(rows: Any) -> list[list[int]]:
    """Rows of digits as a browser sends them. Raises GridError."""
    if not (isinstance(rows, list) and all(isinstance(row, str) and row.isdecimal() for row in rows)):
        raise GridError(f"a grid is rows of digits, not {json.dumps(rows)[:60]}")
    return [[int(cell) for cell in row] for row in rows]

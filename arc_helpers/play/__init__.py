"""Puzzles to play with, drawn in the browser: a set of tasks, an editor, answers side by side, a task of your own.

Where there is no front end, or no anywidget, there is a picture instead.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arc_helpers.arc import Task, TaskError
from arc_helpers.play.learning import Learning, watch_learning
from arc_helpers.plot import Picture, plot_prediction, plot_task
from arc_helpers.runs import detect

if TYPE_CHECKING:
    from arc_helpers.play.playground import Playground

__all__ = ["Learning", "open_playground", "watch_learning"]

#: {name, such as "adapter": {task id: for each test input its attempts, grids}}
Answers = Mapping[str, Mapping[str, Sequence[Sequence[Any]]]]


def open_playground(
    tasks: Sequence[Task] | Mapping[str, Sequence[Task]], answers: Answers | None = None
) -> "Playground | Picture":
    """Browse tasks, or several named sets of them, and solve them yourself; compare with what models have answered.

    answers: what models said, by their names, and shown when asked for, as are the tasks' own test outputs. A task
    that is drawn there is saved as `work/tasks/<name>.json`, which every notebook reads. Without a front end: a picture
    of the first task.
    Raises TaskError without a task.
    """
    sets = {name: list(own) for name, own in (tasks if isinstance(tasks, Mapping) else {"tasks": tasks}).items()}
    if not sets or not all(sets.values()):
        raise TaskError("nothing to play with: no task was given")
    first, said = next(iter(sets.values()))[0], dict(answers or {})
    picture = _picture(first, said)
    if detect().headless:
        return picture
    try:
        from arc_helpers.play.playground import Playground
    except ImportError as error:
        print(f"{error.name} is not installed, so this is a picture: pip install anywidget")
        return picture
    return Playground(sets, said, picture)


def _picture(task: Task, answers: Answers) -> Picture:
    """A task; or, where models have answered it, the answers of the last of them."""
    said = [own[task.id] for own in answers.values() if task.id in own]
    return (
        plot_prediction(task, said[-1], task.answers() if task.has_answers else None)
        if said
        else plot_task(task.without_answers())
    )

"""What a task's adapter trains on and what it is asked: demonstrations in context, or single pairs behind the task's
own token. (How either is spelled is the model's `PromptForm`.)"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from arc_helpers.arc import DIHEDRAL, Task, Transform, build_pseudo_tasks, color_permutation
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import Encoded, TaskTooLong, encode
from arc_helpers.lm.task_tokens import TaskTokens
from arc_helpers.ttt.settings import TTTSettings

FORMS = ("in_context", "pairs", "both")


def views_of(task: Task, n: int, seed: int = 0) -> list[Transform]:
    """The views a task is answered in: the 8 symmetries of the square, then the same 8 with other colours."""
    recolored = color_permutation(seed)
    return [*DIHEDRAL, *(Transform(d.k, d.flip, recolored) for d in DIHEDRAL)][:n]


def encode_pool(lm: LoadedLM, task: Task, settings: TTTSettings) -> tuple[list[Encoded], str | None]:
    """What a task's adapter trains on, as far as it fits; and a note where something was shortened or left out.

    In context: the task's pseudo-tasks. Pairs: every demonstration in every symmetry.
    """
    pool, too_long, shortened = [], 0, 0
    for make in _sequences(lm, task, settings):
        try:
            pool.append(make())
        except TaskTooLong:
            too_long += 1
        else:
            shortened += pool[-1].dropped > 0
    if not too_long and not shortened:
        return pool, None
    return pool, f"{shortened} pseudo-tasks lost demonstrations and {too_long} were left out (max_len {lm.max_len})"


def _sequences(lm: LoadedLM, task: Task, settings: TTTSettings) -> Iterator[Callable[[], Encoded]]:
    if settings.form != "pairs":
        for pseudo in build_pseudo_tasks(task, settings.num_pseudo, settings.seed, colors=settings.colors):
            yield partial(encode, pseudo.task, lm.prompt_form, max_len=lm.max_len, all_outputs=settings.mode != "head")
    if settings.form != "in_context":
        for pair, view in product(task.train, DIHEDRAL):
            yield partial(_tokens(lm).encode, task.id, pair, view, lm.prompt_form, max_len=lm.max_len)


def questions(
    lm: LoadedLM, task: Task, test_index: int, settings: TTTSettings, answer_room: int
) -> Iterator[tuple[Transform, Encoded]]:
    """One test input in every view and form asked for, with the view to turn the answer back by. TaskTooLong where a
    question does not fit."""
    options = {"max_len": lm.max_len, "answer_room": answer_room}
    views = views_of(task, settings.views, settings.seed)
    if settings.form != "pairs":
        for view in views:
            yield view, encode(view.task(task), lm.prompt_form, test_index=test_index, **options)
    if settings.form != "in_context":
        for view in views[: len(DIHEDRAL)]:  # with other colours it would be another task's token
            yield view, _tokens(lm).encode(task.id, task.test[test_index], view, lm.prompt_form, **options)


def _tokens(lm: LoadedLM) -> TaskTokens:
    if lm.task_tokens is None:
        raise ValueError(f"form: {lm.name} has no task tokens; 'pairs' and 'both' need joint training first")
    return lm.task_tokens

"""Single pairs that say whose they are: the task's and the view's token stand behind what opens a document.

A pair alone does not show its rule. So each task of a run gets a token of its own, whose embedding is learned with
the weights, and each of the eight views another, shared by all tasks: what TRM calls a puzzle embedding and mdlARC a
task embedding. The tokens are rows of the embedding behind the vocabulary (`GridLMConfig.task_names`); they are only
read, the head never writes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from arc_helpers.arc import DIHEDRAL, Pair, Transform
from arc_helpers.lm.prompt import IGNORE, Encoded, encode_pair
from arc_helpers.lm.prompt_form import PromptForm


@dataclass(frozen=True)
class TaskTokens:
    """Which embedding row belongs to which view and task."""

    LENGTH: ClassVar[int] = 2  # tokens before a pair: the task's and the view's

    first: int  # the row of the first view: the size of the vocabulary
    names: tuple[str, ...]  # task ids, in the order of their rows

    @staticmethod
    def rows(names: Sequence[str]) -> int:
        """How many rows the tokens of these tasks take."""
        return len(DIHEDRAL) + len(names) if names else 0

    def ids(self, task_id: str, view: Transform) -> np.ndarray:
        """int64 [2]: the task's token, then the view's. ValueError for a task that has none, or for a view that
        is not one of the eight symmetries of the square."""
        if task_id not in self.names:
            raise ValueError(f"task {task_id}: the model has no token for it; adapt it jointly on this task, too")
        symmetry = Transform(view.k, view.flip)
        if symmetry.name != view.name:
            raise ValueError(f"view {view.name}: single pairs have only the 8 symmetries of the square as views")
        task = self.first + len(DIHEDRAL) + self.names.index(task_id)
        return np.array([task, self.first + DIHEDRAL.index(symmetry)], dtype=np.int64)

    def encode(self, task_id: str, pair: Pair, view: Transform, prompt_form: PromptForm, **options) -> Encoded:
        """Encode a pair of a task, turned into a view; options as in `encode_pair`. The labels count the output."""
        if options.get("max_len") is not None:
            options["max_len"] -= self.LENGTH
        encoded, tokens = encode_pair(view.pair(pair), prompt_form, **options), self.ids(task_id, view)
        at = len(prompt_form.prefix)
        return Encoded(
            np.insert(encoded.input_ids, at, tokens),
            np.insert(encoded.labels, at, [IGNORE] * self.LENGTH),
            encoded.prompt_length + self.LENGTH,
        )

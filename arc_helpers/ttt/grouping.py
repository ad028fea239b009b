"""Which tasks train together: those of like length, so that little of a batch is padding; or those that are alike."""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from arc_helpers.arc import Task
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.task_tokens import TaskTokens

T = TypeVar("T")
STRATEGIES = ("length", "size", "palette", "family", "random")


def group_tasks(
    tasks: Sequence[Task],
    lengths: Sequence[int],
    max_slots: int,
    *,
    group_tokens: int | None = None,
    strategy: str = "length",
    features: Callable[[Sequence[Task]], np.ndarray] | None = None,
    seed: int = 0,
) -> list[list[Task]]:
    """Groups of at most `max_slots` tasks and, where it is given, `group_tokens` padded tokens a step.

    lengths: tokens of each task's longest sequence. strategy: what tasks of a group have in common: "length"; "size",
    the largest side of a grid; "palette", the colours; "family", a cluster of their `features` (tasks → float [n, H],
    such as `features.task_features`); or "random", nothing. Tasks that are equal in that are ordered by length. Groups
    with short tasks come first. Raises ValueError, one line, on an option that makes no sense.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"grouping = {strategy!r}: must be one of {', '.join(STRATEGIES)}")
    if strategy == "family" and features is None:
        raise ValueError("grouping = 'family': needs the features of the tasks")
    length_of = dict(zip([task.id for task in tasks], lengths, strict=True))
    if strategy == "family":
        clusters = clustered(features(tasks), -(-len(tasks) // max(1, max_slots))) if tasks else []
        cluster_of = {task.id: int(c) for task, c in zip(tasks, clusters, strict=True)}
    keys: dict[str, Callable[[Task], object]] = {
        "length": lambda task: 0,
        "size": lambda task: task.max_side,
        "palette": _palette,
        "family": lambda task: cluster_of[task.id],
        # by name, so that a task's place does not depend on which others there are
        "random": lambda task: random.Random(zlib.crc32(f"{task.id}:{seed}".encode())).random(),
    }
    ordered = sorted(tasks, key=lambda task: (keys[strategy](task), length_of[task.id]))
    groups = filled(ordered, [length_of[task.id] for task in ordered], max_slots, group_tokens)
    return sorted(groups, key=lambda group: max(length_of[task.id] for task in group))


def training_length(task: Task, prompt_form: PromptForm, max_len: int | None = None, form: str = "in_context") -> int:
    """Tokens of the longest sequence that a task's adapter trains on, at most `max_len`. form: one of `pools.FORMS`.

    In context these are all demonstrations, turned so that they have more rows. (Test inputs are not trained on; with
    them in the sum, groups have twice the padding.)"""
    lengths = []
    if form != "pairs":
        lengths.append(prompt_form.length(task.train))
    if form != "in_context":
        lengths += [prompt_form.length([pair]) + TaskTokens.LENGTH for pair in task.train]
    return min(max(lengths), max_len or max(lengths))


def length_groups(items: Sequence[T], lengths: Sequence[int], k: int, group_tokens: int | None = None) -> list[list[T]]:
    """Groups of k items (the last may be smaller), shortest first; ties keep their order. `group_tokens` as in
    `filled`."""
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    return filled([items[i] for i in order], [lengths[i] for i in order], k, group_tokens)


def filled(items: Sequence[T], lengths: Sequence[int], k: int, group_tokens: int | None = None) -> list[list[T]]:
    """Items in their order in groups of at most k, and of at most `group_tokens` when all are padded to the longest;
    one item that is longer is a group by itself."""
    for name, value in (("k", k), ("group_tokens", group_tokens)):
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value}: must be >= 1")
    groups: list[list[T]] = []
    longest = 0
    for item, length in zip(items, lengths, strict=True):
        longest = max(longest, length)
        full = groups and len(groups[-1]) == k
        if not groups or full or (group_tokens is not None and (len(groups[-1]) + 1) * longest > group_tokens):
            groups.append([])
            longest = length
        groups[-1].append(item)
    return groups


def padding_ratio(groups: Sequence[Sequence[int]]) -> float:
    """Padded tokens over real tokens, of groups given as lengths: 1.0 is no padding."""
    real = sum(sum(group) for group in groups)
    return sum(max(group) * len(group) for group in groups if group) / real if real else 1.0


def clustered(features: np.ndarray, n: int, rounds: int = 20) -> np.ndarray:
    """The cluster of each row of features [N, H], int [N], by k-means from far-apart rows on the unit sphere."""
    points = features - features.mean(axis=0)
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    centres = points[:1]
    while len(centres) < min(n, len(points)):  # the row that is farthest from all centres so far
        nearest = (points @ centres.T).max(axis=1)
        centres = np.concatenate([centres, points[[nearest.argmin()]]])
    for _ in range(rounds):
        owner = (points @ centres.T).argmax(axis=1)
        sums = np.stack([points[owner == c].sum(axis=0) for c in range(len(centres))])
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return owner


def _palette(task: Task) -> tuple[int, tuple[int, ...]]:
    """Colours that a task shows, few first."""
    grids = [grid for pair in task.train for grid in (pair.input, pair.output)] + [pair.input for pair in task.test]
    colors = tuple(np.unique(np.concatenate([grid.ravel() for grid in grids])).tolist())
    return len(colors), colors

"""Evaluate a checkpoint on a data folder: answers in every listed view, votes as published, a submission, a score."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from arc_helpers.arc import SubmissionWriter, Task, safe_name
from arc_helpers.runs import (
    RunFolder,
    atomic_write_json,
    choose_device,
    code_fingerprint,
    fingerprint,
    output_path,
    resolve_path,
)
from arc_helpers.trm.canvas import choose_canvas
from arc_helpers.trm.checkpoint import Opened, open_trm
from arc_helpers.trm.data import ArcDataset, Query, read_subset
from arc_helpers.trm.evaluate import PassAtK, score_votes, vote, write_votes
from arc_helpers.trm.official import is_official, official_tasks, open_dataset
from arc_helpers.trm.prediction import (
    Prediction,
    check_canvas,
    check_known,
    load_predictions,
    predict,
    save_predictions,
)

SHOWN = (1, 2, 5, 100)


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    views: int = 0,
    segments: int = 0,
    device: str | None = None,
    batch_tokens: int = 16384,
    say: Callable[[str], None] = print,
    **changes: int | None,
) -> list[PassAtK]:
    """pass@1, 2, 5, 100 of a TRM (see `open_trm`) on a data folder in either layout; empty without answers.

    Writes predictions/<task>.jsonl one by one, so that a stopped evaluation goes on; submission.json; scores.json.
    views: of each query; 0 = all that are listed (published), or 8 where tasks share their vectors. segments: 0 = the
    model's halt_max_steps, as published. device: what `runs.choose_device` prefers. An answer without a cell gets no
    vote (published: it takes a place).
    Raises SavedModelError, DatasetError or FolderError, one line, before anything is computed.
    """
    dataset = open_dataset(data)
    opened = open_trm(checkpoint, dataset, **changes)
    check_known(opened.model, dataset, dataset.scored_ids)
    check_canvas(opened.model, dataset, opened.layout, dataset.queries)
    for note in opened.notes:
        say(note)
    if segments and segments != opened.model.config.halt_max_steps:
        say(f"segments = {segments}: the model was trained with halt_max_steps = {opened.model.config.halt_max_steps}")
    device = choose_device(device).device
    asked = {"views": views, "segments": segments, "device": device, **changes}
    found = {"code": code_fingerprint(), "checkpoint": fingerprint(resolve_path(checkpoint))}
    folder = RunFolder(output_path(out), "trm-eval", asked, {**found, "data": dataset.fingerprint()}, goes_on=True)
    verdict = folder.open()
    if verdict.why:
        say(verdict.why)
    try:
        predictions = _answer(opened, dataset, folder.path, views, segments, device, batch_tokens, say)
        scores = _conclude(opened, dataset, resolve_path(data), folder.path, predictions, say)
        folder.finish()
        return scores
    finally:
        folder.release()


def scored_tasks(dataset: ArcDataset, folder: Path) -> list[Task]:
    """The tasks that a data set asks, with their answers where its folder or its source has them: for scoring alone."""
    if is_official(folder):
        return official_tasks(folder)
    wanted = set(dataset.scored_ids)
    return [t for t in read_subset(dataset.options.source, dataset.options.test_set_name, []) if t.id in wanted]


def _answer(
    opened: Opened,
    dataset: ArcDataset,
    out: Path,
    views: int,
    segments: int,
    device: str,
    batch_tokens: int,
    say: Callable[[str], None],
) -> list[Prediction]:
    shared = opened.model.config.conditioning == "shared"
    most = max(len(dataset.transforms[task_id]) for task_id in dataset.scored_ids)
    model = opened.model.to(device)
    how: dict[str, Any] = {
        **{"layout": opened.layout, "colors": opened.colors, "batch_tokens": batch_tokens, "checkpoint": opened.name},
        "log": say,
        **{"views": views or (8 if shared else most), "segments": segments or None},
    }
    queries: dict[str, list[Query]] = {}
    for query in dataset.queries:
        queries.setdefault(query.task_id, []).append(query)
    predictions: list[Prediction] = []
    for number, (task_id, asked) in enumerate(queries.items(), start=1):
        path = out / "predictions" / f"{safe_name(task_id)}.jsonl"
        if not path.is_file():
            save_predictions(path, predict(model, dataset, queries=asked, **how))
            say(f"{number} of {len(queries)} tasks: {task_id}")
        predictions += load_predictions(path)
    return predictions


def _conclude(
    opened: Opened,
    dataset: ArcDataset,
    folder: Path,
    out: Path,
    predictions: Sequence[Prediction],
    say: Callable[[str], None],
) -> list[PassAtK]:
    votes = vote(predictions)
    labelled = scored_tasks(dataset, folder)
    asked = [task.without_answers() for task in labelled]
    writer = SubmissionWriter(out / "submission.json", {task.id: len(task.test) for task in asked})
    say(f"{writer.path}: {write_votes(writer, votes, asked)} of {len(asked)} tasks have an answer")
    if any(pair.output is None for task in labelled for pair in task.test):
        say("not scored: the data hold no answers")
        return []
    for line in too_large(labelled, opened.layout):
        say(line)
    scores = score_votes(votes, labelled, SHOWN)
    for at in scores:
        say(
            f"pass@{at.k:<4}{at.tasks_solved:7.2f} of {at.n_tasks} tasks ({at.task_score:.1%}, 95 % interval "
            f"{at.ci_low:.1%} to {at.ci_high:.1%}), {at.outputs_solved} of {at.n_outputs} outputs"
        )
    atomic_write_json(out / "scores.json", {f"pass@{at.k}": vars(at) for at in scores})
    return scores


def too_large(tasks: Sequence[Task], layout: str) -> list[str]:
    """A line for each answer that does not fit the canvas its question gets: it cannot be right."""
    lines = []
    for task in tasks:
        for i, pair in enumerate(task.test):
            canvas = choose_canvas(layout, task.train, pair.input)
            height, width = task.answers()[i].shape
            if height > canvas.height or width > canvas.width:
                lines.append(
                    f"{task.id}, test {i}: the answer of {height} × {width} cannot fit its {layout} canvas of "
                    f"{canvas.height} × {canvas.width}"
                )
    return lines

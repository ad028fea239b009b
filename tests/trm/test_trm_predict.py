"""Predictions come back in the task's own orientation, know no answers, and name what they cannot do."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from trm_models import EVALUATION, small_model

from arc_helpers.arc import Transform
from arc_helpers.runs import Deadline
from arc_helpers.trm.canvas import Canvas, place
from arc_helpers.trm.data import DatasetError, Query, build_arc_dataset
from arc_helpers.trm.model import Segment
from arc_helpers.trm.prediction import load_predictions, predict, save_predictions


def model_for(dataset, conditioning="shared", **fields):
    rows = len(dataset.task_ids if conditioning == "shared" else dataset.identifiers)
    return small_model(conditioned_rows=1 + rows, conditioning=conditioning, **fields)


class Oracle(torch.nn.Module):
    """Stands in for a TRM: it answers with the question itself, surer after each segment."""

    def __init__(self, config):
        super().__init__()
        self.config, self.device, self.seen = config, torch.device("cpu"), []
        self.start = small_model().start

    def forward(self, carry, batch):
        self.seen.append(batch)
        carry.steps = carry.steps + 1
        tokens = batch.cells.clone()
        logits = torch.nn.functional.one_hot(tokens, 12).float()
        return Segment(carry, logits, torch.full((len(batch),), float(carry.steps[0])))


@pytest.mark.parametrize("conditioning", ["shared", "identifier"])
def test_views_are_turned_back(dataset, conditioning):
    """Whoever answers with the question gives the original question in every view."""
    oracle = Oracle(dataclasses.replace(model_for(dataset, conditioning).config))
    found = predict(oracle, dataset, views=4, every_segment=True)
    assert len(found) == 2 * 4 * 3 and {p.segment for p in found} == {1, 2, 3}
    inputs = {(q.task_id, q.index): q.input for q in dataset.queries}
    for p in found:
        assert np.array_equal(p.grid, inputs[p.task_id, p.index])
        assert p.q == pytest.approx(1 / (1 + np.exp(-p.segment)))
    for batch in oracle.seen:
        for i in range(len(batch)):
            task_id = dataset.task_ids[batch.task[i] - 1]
            if conditioning == "identifier":
                name = dataset.identifiers[batch.identifier[i] - 1]
                view = Transform.from_name(name.split("|||")[1])
                assert name.startswith(task_id) and view.colors == tuple(batch.colors[i].tolist())
            # the canvas shows the query of the task that the row names, in the view that the row names
            view = Transform(int(batch.symmetry[i]) % 4, bool(batch.symmetry[i] >= 4), tuple(batch.colors[i].tolist()))
            width = int(batch.width[i])
            question = view.grid(inputs[task_id, 0])
            assert np.array_equal(batch.cells[i], place(question, Canvas(width, batch.cells.shape[1])))


def test_the_last_segment_is_enough(dataset):
    model = model_for(dataset)
    every, last = (predict(model, dataset, views=2, every_segment=e) for e in (True, False))
    late = [p for p in every if p.segment == 3]
    assert [(p.task_id, p.view, p.q) for p in late] == [(p.task_id, p.view, p.q) for p in last]
    assert {p.segment for p in predict(model, dataset, views=1, segments=5)} == {5}


def test_what_was_answered_before_the_deadline_is_kept(dataset):
    ticks = iter(range(100))  # the clock: a second a look
    model = model_for(dataset)
    whole = predict(model, dataset, views=2, batch_tokens=1)
    part = predict(model, dataset, views=2, batch_tokens=1, deadline=Deadline(3, lambda: next(ticks)))
    assert 0 < len(part) < len(whole)
    assert list(map(str, part)) == list(map(str, whole[: len(part)]))
    assert predict(model, dataset, deadline=Deadline(0)) == []


def test_memory_that_runs_out_costs_time_not_answers(dataset, monkeypatch):
    model, lines, rows = model_for(dataset), [], []
    whole, plain = predict(model, dataset, views=4), model.forward

    def small(carry, batch):
        rows.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(carry, batch)

    monkeypatch.setattr(model, "forward", small)
    again = predict(model, dataset, views=4, log=lines.append)
    names = [sorted((p.task_id, p.index, p.view, str(p.grid)) for p in found) for found in (whole, again)]
    assert names[0] == names[1] and max(rows) > 2 and rows[-1] <= 2
    assert all(line.startswith("out of memory: ") and line.endswith(" positions at once") for line in lines) and lines
    monkeypatch.setattr(model, "forward", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        predict(model, dataset, views=2, log=str)


def test_the_blank_control_is_given_no_task(dataset):
    oracle = Oracle(model_for(dataset).config)
    predict(oracle, dataset, views=8, blank=True)
    assert not any(batch.task.any() or batch.identifier.any() for batch in oracle.seen)


def test_predictions_do_not_depend_on_answers(folder, tmp_path):
    """Poisoned answers in the source: the same predictions to the last bit."""
    found = []
    for number, poison in enumerate(([[9, 8, 7]], [[0]])):
        for file in (folder / "evaluation").glob("*.json"):
            task = json.loads(file.read_text())
            task["test"][0]["output"] = poison
            file.write_text(json.dumps(task))
        dataset = build_arc_dataset(str(folder), tmp_path / "d", num_aug=1)
        found.append(predict(model_for(dataset), dataset, views=8))
        save_predictions(tmp_path / f"{number}.jsonl", found[-1])
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


def test_predictions_are_read_back(dataset, tmp_path):
    found = predict(model_for(dataset), dataset, views=2, checkpoint="step_10")
    found.append(dataclasses.replace(found[0], grid=None))
    save_predictions(tmp_path / "p.jsonl", found)
    again = load_predictions(tmp_path / "p.jsonl")
    for one, other in zip(found, again, strict=True):
        assert (one.grid is None) == (other.grid is None) and (one.grid is None or np.array_equal(one.grid, other.grid))
        assert {**vars(one), "grid": 0} == {**vars(other), "grid": 0}
    with open(tmp_path / "p.jsonl", "a") as file:
        file.write('{"grid": [[12]]}\n')
    with pytest.raises(ValueError, match=rf"p\.jsonl, line {len(found) + 1}: not a prediction"):
        load_predictions(tmp_path / "p.jsonl")


def test_an_unknown_task_is_explained(dataset):
    query = Query("stranger", 0, EVALUATION[0].test[0].input)
    message = (
        "stranger: unknown to the checkpoint, and TRM cannot answer a task it has no vector for; .*test-time inclusion"
    )
    with pytest.raises(DatasetError, match=message):
        predict(model_for(dataset), dataset, queries=[query])
    with pytest.raises(DatasetError, match="conditioned_rows = 4: the data set has 5 tasks, the blank one included"):
        predict(small_model(), dataset)
    fixed = model_for(dataset, mixer="mlp", rope="none", canvas_cells=81)
    with pytest.raises(DatasetError, match=r"its official canvas has 900 cells, this TRM \(mlp mixer\) one of 81; use"):
        predict(fixed, dataset, layout="official")

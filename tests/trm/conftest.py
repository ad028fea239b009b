"""A handful of little tasks as a source, and the data set that is built from them."""

import json
from pathlib import Path

import pytest
from trm_models import EVALUATION, TRAINING

from arc_helpers.trm.data import ArcDataset, build_arc_dataset


@pytest.fixture
def folder(tmp_path) -> Path:
    """A source with the subsets training and evaluation."""
    for subset, tasks in (("training", TRAINING), ("evaluation", EVALUATION)):
        (tmp_path / "sets" / subset).mkdir(parents=True)
        for task in tasks:
            (tmp_path / "sets" / subset / f"{task.id}.json").write_text(json.dumps(task.to_dict()))
    return tmp_path / "sets"


@pytest.fixture
def dataset(folder, tmp_path) -> ArcDataset:
    return build_arc_dataset(str(folder), tmp_path / "dataset", num_aug=3)

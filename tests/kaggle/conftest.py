"""A bundle made once, without a network: third-party wheels are empty files of the right names."""

import json
from pathlib import Path

import pytest
from kaggle_wheels import USER, empty_wheels

from arc_helpers.kaggle import bundle
from arc_helpers.runs import env

COMPETITION = "arc-prize-2026-arc-agi-2"


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> bundle.Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "fetch", empty_wheels)
        return bundle.build(tmp_path_factory.mktemp("kaggle") / "build", user=USER)


@pytest.fixture
def kaggle_root(tmp_path, monkeypatch) -> Path:
    """An empty /kaggle, on which our package is installed without the models that it brings."""
    packaged = tmp_path / "site/arc_helpers/packaged"
    packaged.mkdir(parents=True)
    (packaged / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    monkeypatch.setattr(env, "PACKAGE", packaged.parent)
    monkeypatch.setattr(env, "PACKAGED", packaged)
    for name in ("input", "working", "temp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("ARC_KAGGLE_ROOT", str(tmp_path))
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    for name in ("KAGGLE_IS_COMPETITION_RERUN", "CUDA_VISIBLE_DEVICES", "ARC_KERNEL_STARTED", "ARC_KERNEL_GPUS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(params=["new", "old"])
def challenges(request, kaggle_root) -> Path:
    """A competition's test file under either layout: two tasks, one of which has two test inputs, and two bad ones."""
    folder = kaggle_root / "input" / ("competitions" if request.param == "new" else "") / COMPETITION
    folder.mkdir(parents=True)
    pair = {"input": [[1, 2]], "output": [[2, 1]]}
    tasks = {
        "one": {"train": [pair], "test": [{"input": [[3, 4]]}], "extra": "field"},
        "two": {"train": [pair], "test": [{"input": [[3, 4]]}, {"input": [[5]]}]},
        "bad": {"train": [{"input": [[1, 0], [1]], "output": [[1]]}], "test": [{}, {}, {}]},
        "seven": 7,
    }
    path = folder / "arc-agi_test_challenges.json"
    path.write_text(json.dumps(tasks))
    return path

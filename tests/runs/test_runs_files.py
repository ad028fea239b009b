"""Files that survive a crash: checkpoint.py and records.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_helpers.runs import (
    append_record,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    load_tensors,
    plain,
    read_jsonl,
    replacing,
    save_tensors,
)


def test_writes_and_makes_folders(tmp_path):
    atomic_write_bytes(tmp_path / "a/b/x", b"\x00")
    atomic_write_text(tmp_path / "a/t", "é")
    atomic_write_json(tmp_path / "a/j", {"n": np.int64(3), "x": float("nan"), "g": np.zeros((1, 2), np.int8)})
    assert (tmp_path / "a/b/x").read_bytes() == b"\x00"
    assert (tmp_path / "a/t").read_text(encoding="utf-8") == "é"
    assert json.loads((tmp_path / "a/j").read_text()) == {"n": 3, "x": None, "g": [[0, 0]]}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    atomic_write_json(path, 1)
    with pytest.raises(TypeError, match="cannot write a object as JSON"):
        atomic_write_json(path, object())
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write_json(path, 2)
    assert path.read_text() == "1\n"
    assert os.listdir(tmp_path) == ["x.json"]


def test_killed_while_writing(tmp_path):
    """A process that rewrites its files without a pause is killed; both files are whole, the last line may tear."""
    code = (
        "import sys, itertools; from arc_helpers.runs import append_record, atomic_write_json\n"
        "for i in itertools.count():\n"
        "    atomic_write_json(sys.argv[1] + '/state.json', {'step': i, 'filling': [i] * 50_000})\n"
        "    append_record(sys.argv[1] + '/metrics.jsonl', {'step': i})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while not read_jsonl(tmp_path / "metrics.jsonl"):
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["filling"] == [state["step"]] * 50_000
    steps = [record["step"] for record in read_jsonl(tmp_path / "metrics.jsonl")]
    assert steps == list(range(len(steps)))
    assert state["step"] - 1 <= steps[-1] <= state["step"]


def test_a_torn_last_line_is_tolerated_and_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "x.jsonl"
    assert read_jsonl(path) == []
    append_record(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    assert read_jsonl(path) == [{"a": 1}]
    append_record(path, {"a": 3})
    assert read_jsonl(path) == [{"a": 1}, {"a": 3}]
    path.write_text('{"torn from the fir')
    append_record(path, {"a": 4})
    assert read_jsonl(path) == [{"a": 4}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\noops\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2: not JSON"):
        read_jsonl(tmp_path / "x.jsonl")


def test_plain():
    assert plain((np.float32(0.5), torch.tensor(2), np.bool_(True), Path("a"), float("-inf"), {3: {1}})) == [
        0.5,
        2,
        True,
        "a",
        None,
        {"3": [1]},
    ]
    assert plain(torch.tensor([float("nan"), 1.0])) == [None, 1.0]


def test_tensors_round_trip(tmp_path):
    base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    tensors = {"w": base.T, "shared": base[0], "half": base.to(torch.bfloat16), "step": torch.tensor(4)}
    save_tensors(tmp_path / "run/state.safetensors", tensors, {"step": np.int64(4), "ids": ("a", "b")})
    loaded, meta = load_tensors(tmp_path / "run/state.safetensors")
    assert meta == {"step": 4, "ids": ["a", "b"]}
    assert set(loaded) == set(tensors)
    assert all(loaded[n].dtype == t.dtype and torch.equal(loaded[n], t) for n, t in tensors.items())
    save_tensors(tmp_path / "bare", {})
    assert load_tensors(tmp_path / "bare") == ({}, {})


def test_a_torn_checkpoint_is_an_error_with_its_name(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(FileNotFoundError, match=r"state\.safetensors: no such checkpoint"):
        load_tensors(path)
    save_tensors(path, {"w": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"state\.safetensors: not a whole safetensors file"):
        load_tensors(path)

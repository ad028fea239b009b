"""Two processes under torchrun train one model, and go on from their checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trm_models import small_model
from trm_two_ranks import CONFIG, source

from arc_helpers.trm.loop import CheckpointError
from arc_helpers.trm.train import Trainer

SCRIPT = Path(__file__).with_name("trm_two_ranks.py")


def test_two_processes_end_with_one_model(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    weights = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert same(weights[0]["straight"], weights[1]["straight"]), "one model"
    for rank in (0, 1):
        assert same(weights[rank]["straight"], weights[rank]["resumed"]), "2 + 2 steps are the same 4 steps"
    assert not same(weights[0]["straight"], weights[0]["start"])
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert len(state["ranks"]) == 2
    assert not torch.equal(state["ranks"][0]["generator"], state["ranks"][1]["generator"]), (
        "each draws its own examples"
    )
    # one process cannot go on from two
    with pytest.raises(CheckpointError, match="was made by 2 processes, this run has 1; start as many"):
        Trainer(small_model(canvas_cells=36), source(), CONFIG, tmp_path / "checkpoint.pt")


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))

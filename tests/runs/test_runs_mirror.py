"""W&B is offered, never needed."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from arc_helpers.runs.mirror import Mirror, open_mirror

RECORD = {"notebook": "trm-pretrain"}


class FakeRun:
    def __init__(self, options):
        self.options, self.logged, self.summary, self.finished = options, [], {}, False

    def log(self, record):
        self.logged.append(record)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A W&B that keeps what it is told."""
    runs = []

    def init(**options):
        runs.append(FakeRun(options))
        return runs[-1]

    fake = SimpleNamespace(init=init, Settings=lambda **options: options)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return runs


def test_offline(wandb, tmp_path):
    mirror = open_mirror(tmp_path, {**RECORD, "seed": 1}, "offline")
    mirror.log({"step": 1, "loss": 2.0, "watched": None})
    mirror.close({"exact": 0.5})
    [run] = wandb
    assert run.options["project"] == "arc-trm-pretrain" and run.options["mode"] == "offline"
    assert run.options["dir"] == str(tmp_path) and run.options["config"]["seed"] == 1
    assert run.logged == [{"step": 1, "loss": 2.0}] and run.summary == {"exact": 0.5} and run.finished


def test_online_needs_a_key(wandb, tmp_path, monkeypatch, capsys):
    open_mirror(tmp_path, RECORD, "online")
    assert wandb[-1].options["mode"] == "offline" and "no WANDB_API_KEY" in capsys.readouterr().out
    monkeypatch.setenv("WANDB_API_KEY", "x")
    open_mirror(tmp_path, RECORD, "online")
    assert wandb[-1].options["mode"] == "online"


def test_without_it_the_run_goes_on_and_says_so(wandb, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert type(open_mirror(tmp_path, RECORD, "offline")) is Mirror and not wandb
    assert capsys.readouterr().out == "W&B: not installed (pip install wandb); the run goes on without it.\n"


def test_its_failures_are_survived(wandb, tmp_path, monkeypatch, capsys):
    def broken(**options):
        raise OSError("disk full")

    monkeypatch.setattr(sys.modules["wandb"], "init", broken)
    assert type(open_mirror(tmp_path, RECORD, "offline")) is Mirror
    assert "W&B: not mirrored (disk full)" in capsys.readouterr().out


def test_the_environment_decides_where_nobody_asks(wandb, tmp_path, monkeypatch):
    assert type(open_mirror(tmp_path, RECORD)) is Mirror and not wandb
    for said in ("offline", "dryrun"):
        monkeypatch.setenv("WANDB_MODE", said)
        open_mirror(tmp_path, RECORD)
        assert wandb[-1].options["mode"] == "offline"
    assert len(wandb) == 2


def test_disabled(wandb, tmp_path, monkeypatch):
    assert type(open_mirror(tmp_path, RECORD, "disabled")) is Mirror
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert type(open_mirror(tmp_path, RECORD, "offline")) is Mirror and not wandb
    with pytest.raises(ValueError, match="wandb = 'on': must be one of disabled, offline, online"):
        open_mirror(tmp_path, RECORD, "on")

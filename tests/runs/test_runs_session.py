"""RunLog and start()."""

import json
import shutil
import sys

import numpy as np
import pytest
import yaml
from simulated_cuda import simulated_cuda

from arc_helpers.runs import ConfigError, DeviceChoice, RunLog, git_version, read_jsonl, resolve_path, start

CPU = DeviceChoice("cpu", "float32", "for the test")


def open_log(folder):
    return RunLog(folder, "02_multilora_ttt", "tiny", 3, {"k": 2, "lr": 0.01}, CPU)


def test_files_of_a_run(tmp_path):
    from matplotlib.figure import Figure

    log = open_log(tmp_path / "run")
    log.metric(step=0, loss=np.float32(1.5), lr=0.1)
    log.metric(step=1, loss=float("nan"))
    log.task("a", solved=True, grids=np.zeros((1, 2), int), error=None)
    figure = log.figure(Figure(), "loss")
    assert not (tmp_path / "run/summary.json").exists()
    returned = log.close(solved=1, score=np.float64(0.5), best=float("inf"), note="x")
    assert read_jsonl(tmp_path / "run/metrics.jsonl") == [
        {"step": 0, "loss": 1.5, "lr": 0.1},
        {"step": 1, "loss": None},
    ]
    assert read_jsonl(tmp_path / "run/tasks.jsonl") == [
        {"task_id": "a", "solved": True, "grids": [[0, 0]], "error": None}
    ]
    assert figure == tmp_path / "run/figures/loss.png" and figure.read_bytes()[:4] == b"\x89PNG"
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == {
        "notebook": "02_multilora_ttt",
        "profile": "tiny",
        "seed": 3,
        "config": {"k": 2, "lr": 0.01},
    }
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary == returned
    assert (summary["solved"], summary["score"], summary["best"], summary["note"]) == (1, 0.5, None, "x")
    assert (summary["notebook"], summary["profile"], summary["seed"]) == ("02_multilora_ttt", "tiny", 3)
    assert (summary["device"], summary["dtype"]) == ("cpu", "float32")
    assert summary["git"] == git_version() and summary["seconds"] >= 0
    for package in ("python", "torch", "transformers", "numpy", "arc_helpers"):
        assert summary[f"version_{package}"]
    assert all(isinstance(value, int | float | str | bool | None) for value in summary.values())


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.zeros(2)])
def test_a_summary_is_flat(tmp_path, value):
    with pytest.raises(ValueError, match=r"^summary\.losses: must be one number, text, boolean or None"):
        open_log(tmp_path).close(losses=value)
    assert not (tmp_path / "summary.json").exists()


def test_git_without_a_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    assert git_version() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert git_version() == "unknown"


def test_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))  # the profiles are those of the repository all the same
    run = start("02_multilora_ttt", profile="tiny", seed=5, out_dir=None, k=7, steps=None)
    assert (run.config.k, run.seed, run.profile, run.env.kind) == (7, 5, "tiny", "pytest")
    assert run.out_dir == tmp_path / "artifacts/02_multilora_ttt"
    out = capsys.readouterr().out
    assert out.startswith("02_multilora_ttt, profile tiny, seed 5, k=7\n  where    pytest, headless")
    assert run.device.reason in out and run.device.dtype in out
    assert "torch" in out and str(run.out_dir) in out
    first = np.random.rand()
    start("02_multilora_ttt", profile="tiny", seed=5, out_dir=None)
    assert np.random.rand() == first


def test_files_of_an_earlier_run_are_never_among_the_new(tmp_path):
    out = tmp_path / "out"

    def begin(**options):
        return start("tokenization_debug", profile="tiny", out_dir=out, **options)

    run = begin(seed=0)
    run.log.metric(step=1)
    (out / "notes.txt").write_text("mine")
    own = {"config.yaml", ".arc-run.json", ".arc-run.lock"}
    assert begin(seed=0).resumed, "the same parameters: it goes on, and its tables begin again"
    assert {path.name for path in out.iterdir()} == {*own, "notes.txt"}
    assert not begin(seed=1).resumed
    assert {path.name for path in out.iterdir()} == own
    assert (tmp_path / "out.1/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed = -1: must be >= 0"),
        ({"seed": 2**32}, "seed = 4294967296: must be < 4294967296"),
        ({"seed": True}, "seed = True: must be a number, not true or false"),
        ({"profile": "big"}, "profile = big: must be 'tiny', 'laptop', 'gpu' or 'kaggle'"),
        ({"k": 0}, "multilora_ttt.k = 0: must be >= 1"),
    ],
)
def test_bad_parameters_stop_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ConfigError) as error:
        start("multilora_ttt", **{"profile": "tiny", "seed": 0, "out_dir": tmp_path / "new", **arguments})
    assert str(error.value) == message
    assert not (tmp_path / "new").exists()


class FakeWandb:
    """Records what it is told; `fails` makes init raise."""

    def __init__(self, fails=False):
        self.fails, self.lines, self.summary, self.finished = fails, [], {}, False

    def Settings(self, **options):
        return options

    def init(self, **options):
        if self.fails:
            raise RuntimeError("no disk")
        self.options = options
        return self

    def log(self, record):
        self.lines.append(record)

    def finish(self):
        self.finished = True


@pytest.mark.parametrize(
    ("wanted", "key", "mode"),
    [("offline", "", "offline"), ("online", "", "offline"), ("online", "k", "online")],
)
def test_wandb_mirrors_and_never_asks_for_a_login(tmp_path, monkeypatch, wanted, key, mode):
    pytest.importorskip("wandb")
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("WANDB_MODE", wanted)
    monkeypatch.setenv("WANDB_API_KEY", key)
    log = open_log(tmp_path)
    log.metric(step=1, loss=0.5, bad=float("nan"))
    log.close(solved=3)
    assert fake.options["mode"] == mode and fake.options["project"] == "arc-02_multilora_ttt"
    assert fake.lines == [{"step": 1, "loss": 0.5}]
    assert fake.summary["solved"] == 3 and fake.finished


def test_wandb_is_off_by_default_and_never_stops_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails=True))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    open_log(tmp_path).close()
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_log(tmp_path).close()
    assert capsys.readouterr().out == "W&B: not mirrored (no disk)\n"


def test_a_stopped_run_is_gone_on_with_and_one_that_ended_is_not(tmp_path, capsys):
    def begin(**options):
        capsys.readouterr()
        run = start("02_multilora_ttt", profile="tiny", out_dir=tmp_path / "out", **options)
        lines = capsys.readouterr().out.splitlines()
        kept.extend(lines.pop() for _ in range(lines[-1].startswith("  kept ")))
        return run, lines[-1]

    kept: list[str] = []
    assert not begin()[0].resumed
    run, said = begin()
    assert kept == ["  kept     the groups of tasks that are done, and the last checkpoint of joint training"]
    assert run.resumed and said == f"  writes   {tmp_path}/out, going on with the run that was stopped"
    assert begin(deadline_seconds=7)[0].resumed, "more time changes no result"
    run, said = begin(k=3)
    assert not run.resumed and said.endswith(f"out; k was 2 and is 3 now: the earlier run is in {tmp_path}/out.1")
    run.log.close()
    run, said = begin(k=3)
    assert not run.resumed and said.endswith(f"it had ended: the earlier run is in {tmp_path}/out.2")
    assert not begin(k=3, fresh=True)[0].resumed


def test_other_weights_behind_the_same_name_are_noticed(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(resolve_path("models/arc-micro"), model)
    config = json.loads((model / "config.json").read_text())

    def begin():
        return start("02_multilora_ttt", profile="tiny", out_dir=tmp_path / "out", model_dir=str(model))

    begin()
    assert begin().resumed
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": 50_000}))
    with pytest.raises(ConfigError, match="an unfinished run is here, and what model_dir names was"):
        begin()


@pytest.mark.simulated_gpu
@pytest.mark.parametrize(
    ("capability", "notebook", "options", "dtype"),
    [
        ((7, 5), "multilora_ttt", {}, "float16"),
        ((9, 0), "multilora_ttt", {}, "bfloat16"),
        ((9, 0), "memory_tests", {"dtype": "float32"}, "float32"),
        ((7, 5), "trm_pretrain", {}, "float16"),  # with a loss scale
        ((9, 0), "trm_pretrain", {}, "bfloat16"),
        ((9, 0), "trm_pretrain", {"autocast": False}, "float32"),
    ],
)
def test_the_setup_says_what_is_computed_in(tmp_path, capsys, capability, notebook, options, dtype):
    with simulated_cuda(capability=capability):
        run = start(notebook, profile="tiny", out_dir=tmp_path, **options)
        assert f"device   cuda, {dtype}: " in capsys.readouterr().out
        assert "(simulated) has compute capability" in run.device.reason and dtype in run.device.reason
        assert run.log.close()["dtype"] == dtype

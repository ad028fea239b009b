"""The plan before a run: what a data sheet says, what fits a memory, and what is measured."""

import dataclasses
from dataclasses import replace

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from arc_helpers.arc import Pair, Task
from arc_helpers.cli import app
from arc_helpers.kaggle import planner
from arc_helpers.kaggle.planner import GPUS, KNOWN, base_of, estimate, make_plan, measure, room_on
from arc_helpers.lm.prompt_form import FORMS
from arc_helpers.runs import ConfigError, project_root
from arc_helpers.ttt.budget import Size, forecast, work
from arc_helpers.ttt.settings import TTTSettings

ASKED = TTTSettings(k=2, steps=128, views=16, strategy="dfs", min_prob=0.1)
GROUPS = [[Size(1500, (200,)), Size(2000, (300, 300))]] * 40


def plan(*words: str):
    return CliRunner().invoke(app, ["plan", *words])


def test_a_folder_tells_its_parameters():
    base = base_of("models/arc-micro")
    with safe_open(project_root() / "models/arc-micro/model.safetensors", framework="np") as file:
        numbers = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert base.parameters == numbers > 1e6 and base.layers == 6 and base.hidden == 128


@pytest.mark.parametrize("name", ["Qwen/Qwen2-7B", "models/TinyLlama-1.1B", "minitron-8b"])
def test_known_bases_need_no_folder(name):
    assert base_of(name) in KNOWN.values()


def test_a_larger_base_costs_more_and_a_faster_gpu_less():
    small, large = KNOWN["tinyllama"], KNOWN["qwen2-7b"]
    for one, other in ((estimate(GPUS["L4"], small), estimate(GPUS["L4"], large)),):
        assert all(a < b for a, b in zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True))
    slow, fast = (forecast(GROUPS, ASKED, estimate(GPUS[name], large)) for name in ("T4", "H200"))
    assert slow > fast


FULL = TTTSettings(k=8, mode="full", r=32)


def test_k_is_what_the_memory_holds():
    base = KNOWN["qwen2-7b"]
    rooms = [room_on(GPUS[gpu], base, FULL, 2048, four_bit=True) for gpu in ("T4", "L4", "H200")]
    assert [room.choice.slots for room in rooms] == sorted(room.choice.slots for room in rooms)
    assert rooms[0].choice.checkpointing and rooms[0].choice.slots >= 2
    assert [room.longest for room in rooms] == sorted(room.longest for room in rooms) and rooms[0].longest > 4096


@pytest.mark.parametrize("mode", ["full", "top_m", "head"])
@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("base", KNOWN)
def test_no_room_is_promised_that_a_card_has_not(base, gpu, mode):
    for tokens in (1024, 4096, 8192, 2**15):
        try:
            room = room_on(GPUS[gpu], KNOWN[base], replace(FULL, mode=mode), tokens, four_bit=True)
        except ConfigError:
            continue
        assert (room.choice is None) == (tokens > room.longest)
        assert room.choice is None or room.taken <= room.memory


def test_what_does_not_fit_is_said():
    room = room_on(GPUS["T4"], KNOWN["qwen2-7b"], FULL, 2**16, four_bit=True)
    assert room.choice is None and " of 14.6 GiB for one task alone: the longest sequence that fits has " in room.line
    with pytest.raises(ConfigError, match=r"^Qwen2-7B: its weights take 14\.2 GiB of 8\.0: 4 bits$"):
        room_on(replace(GPUS["T4"], memory=8.0), KNOWN["qwen2-7b"], FULL, 1024)
    without = room_on(GPUS["T4"], KNOWN["qwen2-7b"], replace(FULL, activation_checkpointing="off"), 4096, four_bit=True)
    assert without.choice is None, "by hand"


def test_a_plan_goes_down_until_it_fits_and_says_when_nothing_does():
    costs = estimate(GPUS["L4"], KNOWN["qwen2-7b"], four_bit=True)
    seconds = forecast(GROUPS, ASKED, costs)
    enough = make_plan(GROUPS, ASKED, costs, seconds / 3600 + 0.6, 1)
    assert enough.fits and enough.settings == ASKED and enough.dearer is None
    half = make_plan(GROUPS, ASKED, costs, seconds / 7200 + 0.5, 1)
    assert half.fits and half.seconds <= half.limit < half.dearer[1]
    assert make_plan(GROUPS, ASKED, costs, seconds / 3600 + 0.6, 4).seconds == pytest.approx(seconds / 4)
    assert not make_plan(GROUPS, ASKED, costs, 0.5, 1).fits


def test_measured_costs_are_those_of_the_clock(monkeypatch):
    """solve_group is replaced by a clock that runs as these costs say; the fit forecasts other settings."""
    true, now = estimate(GPUS["T4"], KNOWN["tinyllama"]), [0.0]

    def solve(lm, group, settings):
        sizes = [planner.size_of(task, FORMS["suite"], 4096) for task in group]
        now[0] += float(work(sizes, settings) @ dataclasses.astuple(true))

    monkeypatch.setattr("arc_helpers.ttt.group.solve_group", solve)
    tasks = [Task(str(n), (Pair([[1] * n] * n, [[2] * n] * n),), (Pair([[3] * n] * n),)) for n in range(3, 31, 4)]
    lm = type("LM", (), {"max_len": 4096, "prompt_form": FORMS["suite"]})()
    costs = measure(lm, tasks, ASKED, clock=lambda: now[0])
    other = dataclasses.replace(ASKED, steps=64)
    assert forecast(GROUPS, other, costs) == pytest.approx(forecast(GROUPS, other, true), rel=0.25)


def test_the_command_prints_what_fits():
    result = plan("--gpus", "4", "--gpu", "L4", "--hours", "12", "--tasks", "24", "--model", "qwen2-7b")
    assert result.exit_code == 0, result.output
    assert "4 × L4, Qwen2-7B, 4 bits" in result.stdout and "estimated" in result.stdout
    assert any(
        line.startswith("memory: ") and "activation checkpointing" in line for line in result.stdout.splitlines()
    )
    assert any(line.startswith("fits: k=") and "min_prob=" in line for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "model = nowhere: must be a model folder, or one of tinyllama"),
        (["--gpu", "P100"], "gpu = P100: must be one of T4, L4, A100, H100, H200, CPU"),
        (["--gpu", "CPU"], "gpu = CPU: has no data sheet: --calibrate 4"),
        (["--profile", "huge"], "profile = huge: must be"),
        (["--data", "arcagi9"], "arcagi9: no such file, folder or set"),
    ],
)
def test_bad_words_are_one_line(words, message):
    result = plan(*words)
    assert result.exit_code == 2 and result.stderr.startswith(message) and len(result.stderr.splitlines()) == 1

"""Errors come before the work, in one line each, without torch."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arc_helpers.runs import ConfigError, start, start_notebook
from arc_helpers.runs.check import _is_safetensors, misspelt
from arc_helpers.runs.config import knob_names
from arc_helpers.runs.notebook import find_notebook

ROOT = Path(__file__).parents[2]
PAIR = {"input": [[1]], "output": [[2]]}
TASK = {"train": [PAIR, PAIR], "test": [{"input": [[3]]}]}


def page(notebook, **words):
    chosen = find_notebook(notebook)
    lines, well = chosen.page(chosen.check({"profile": "tiny", **words}))
    return "\n".join(lines), well


@pytest.fixture
def data(tmp_path):
    (tmp_path / "tasks.json").write_text(json.dumps({"a": TASK, "b": TASK, "bad": {"train": [], "test": [{}]}}))
    return str(tmp_path / "tasks.json")


def test_the_command_is_quick_and_without_torch(tmp_path):
    code = "import sys; from arc_helpers.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    words = ["check", "02", "profile=tiny", f"out_dir={tmp_path / 'out'}", "solutions=None"]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    seconds = time.monotonic() - began
    assert done.returncode == 0 and done.stdout.endswith("False\n"), done.stderr
    assert "out_dir" in done.stdout and "about 4 minutes" in done.stdout and "GiB are free" in done.stdout
    assert seconds < 20, "2 s on a machine of its own"
    assert not (tmp_path / "out").exists()


def test_every_fault_of_the_data_has_its_reason(data, tmp_path):
    text, well = page("02", data_dir=data, max_tasks="0", out_dir=str(tmp_path / "out"))
    assert well and "data_dir: 2 tasks, 2 test inputs, 1 unreadable" in text and "task bad:" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"solutions": "typo.json"}, "typo.json"),
        ({"solutions": "solutions.json"}, "1 of 2 tasks have none that fits, the first: task b: solutions: expected"),
        ({"task_ids": "nowhere"}, "task_ids: nowhere not among the 2 tasks of the source"),
        ({"data_dir": "nowhere"}, "nowhere: no such file, folder or set"),
        ({"model_dir": "models/nowhere"}, "model_dir = models/nowhere: no such folder"),
        ({"model_dir": "empty"}, "has no config.json"),
        ({"model_dir": "pickled"}, "holds no *.safetensors (.bin files are pickles, and not read)"),
        ({"model_dir": "cut"}, "model.safetensors is not a whole safetensors file"),
        ({"model_dir": "mute"}, "has no tokenizer"),
        ({"out_dir": "mine"}, "mine: holds notes.txt, which no run of this version made"),
        ({"cache_disk_gib": "1e9"}, "the run may take 1e+09"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_begun(data, tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "solutions.json").write_text(json.dumps({"a": [[[2]]]}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("")
    for name in ("empty", "pickled", "cut", "mute"):
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "config.json").write_text("{}")
    source = ROOT / "models/arc-micro/model.safetensors"
    (tmp_path / "pickled/pytorch_model.bin").write_bytes(b"")
    (tmp_path / "cut/model.safetensors").write_bytes(source.read_bytes()[:-100])
    (tmp_path / "mute/model.safetensors").write_bytes(source.read_bytes())
    place = {name: str(tmp_path / value) for name, value in words.items() if (tmp_path / value).exists()}
    asked = {"data_dir": data, "max_tasks": "0", "out_dir": str(tmp_path / "out"), **words, **place}
    text, well = page("02", **asked)
    assert not well and message in text, text
    with pytest.raises(ConfigError) as error:
        asked["cache_disk_gib"] = float(asked.get("cache_disk_gib", 0))
        start("02_multilora_ttt", profile="tiny", **{**asked, "max_tasks": 0})
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and (tmp_path / "mine/notes.txt").exists()


def test_a_hub_id_is_not_asked_for_in_vain(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text, well = page("02", model_dir="Qwen/Qwen2-0.5b", out_dir=str(tmp_path))
    assert not well and "is not here: the hub is asked for it, by the network" in text


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        (["step = 100"], "step = 100: is no parameter; did you mean steps?"),
        (["Views: int = 4", "1"], "Views = 4: is no parameter; did you mean views?"),
        (["mine = 3"], None),
        (["steps = 3"], None),
        (["%time 1", "view = plot()"], None),
    ],
)
def test_a_name_that_is_nearly_a_parameters(cells, line):
    parameters = "profile: str = 'tiny'\nseed: int = 0\nsteps: int = None"
    names = ["profile", "seed", "out_dir", "fresh", *knob_names("02_multilora_ttt")]
    earlier = [parameters, "step = 7", "run = start()", "task = 3"]  # a run before, with variables of its own
    assert misspelt([*earlier, parameters, *cells], names) == line
    assert misspelt([], names) is None


def test_a_notebook_says_it_before_anything_else(tmp_path):
    names = ["profile", "seed", "out_dir", "fresh", *knob_names("02_multilora_ttt")]
    given = {**dict.fromkeys(names), "profile": "tiny", "seed": 0, "fresh": False, "out_dir": str(tmp_path / "out")}
    cells = ["", "profile = 'tiny'\nseed = 0\nmax_task = 3", "run = start_notebook(...)"]
    with pytest.raises(
        ConfigError, match=r"^02_multilora_ttt: max_task = 3: is no parameter; did you mean max_tasks\?$"
    ):
        start_notebook("02_multilora_ttt", {**given, "In": cells})
    assert not (tmp_path / "out").exists()


def test_half_a_safetensors_file(tmp_path):
    whole = (ROOT / "models/arc-micro/model.safetensors").read_bytes()
    file = tmp_path / "m.safetensors"
    for content, good in ((whole, True), (whole[:-1], False), (whole[:5], False), (b"", False), (whole + b"x", False)):
        file.write_bytes(content)
        assert _is_safetensors(file) is good


def test_of_notebook_and_package_the_older_one_is_named():
    given = {
        "profile": "tiny",
        "seed": 0,
        "out_dir": None,
        "fresh": False,
        **dict.fromkeys(knob_names("02_multilora_ttt"), None),
    }
    own = "profile: str = 'tiny'\nseed: int = 0\nhalo: int = None"
    with pytest.raises(ConfigError, match=r"^02_multilora_ttt: sets halo, unknown to arc_helpers .*, which is older$"):
        start_notebook("02_multilora_ttt", {**given, "In": ["%matplotlib", own, "halo = 3", "run = ..."]})
    del given["k"]
    with pytest.raises(ConfigError, match=r"does not set k: it is older than arc_helpers "):
        start_notebook("02_multilora_ttt", given)

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_helpers.runs import (
    choose_device,
    detect,
    env,
    output_path,
    project_root,
    resolve_path,
    seed_everything,
)

FRONT_ENDS = (
    "ARC_HEADLESS",
    "ARC_ROOT",
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_IS_COMPETITION_RERUN",
    "PYTEST_VERSION",
)


@pytest.fixture
def nowhere(monkeypatch):
    """No front end at all: every test says where it is."""
    for name in FRONT_ENDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(env, "_in_kernel", lambda: False)
    return monkeypatch


@pytest.fixture
def kaggle(nowhere, tmp_path):
    """A Kaggle machine under tmp_path with our wheel installed: (monkeypatch, its root)."""
    nowhere.setattr(env, "PACKAGE", tmp_path / "site-packages/arc_helpers")
    nowhere.setattr(env, "PACKAGED", tmp_path / "site-packages/arc_helpers/packaged")
    (tmp_path / "working").mkdir()
    (tmp_path / "input").mkdir()
    nowhere.setenv("ARC_KAGGLE_ROOT", str(tmp_path))
    nowhere.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    return nowhere, tmp_path


@pytest.mark.parametrize(
    ("variables", "kernel", "kind", "headless"),
    [
        ({}, False, "terminal", True),  # pytest's stderr is no terminal
        ({}, True, "jupyter", False),
        ({"ARC_HEADLESS": "1"}, True, "papermill", True),
        ({"ARC_HEADLESS": "0"}, True, "jupyter", False),
        ({"PYTEST_VERSION": "9"}, False, "pytest", True),
        ({"PYTEST_VERSION": "9", "ARC_HEADLESS": "1"}, True, "papermill", True),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, True, "kaggle-interactive", False),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, True, "kaggle-batch", True),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_IS_COMPETITION_RERUN": "1"}, True, "kaggle-rerun", True),
        ({"KAGGLE_IS_COMPETITION_RERUN": "True"}, True, "kaggle-rerun", True),
        (
            {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "KAGGLE_IS_COMPETITION_RERUN": ""},
            True,
            "kaggle-interactive",
            False,
        ),
    ],
)
def test_kinds(nowhere, variables, kernel, kind, headless):
    for name, value in variables.items():
        nowhere.setenv(name, value)
    nowhere.setattr(env, "_in_kernel", lambda: kernel)
    found = detect()
    assert (found.kind, found.headless, found.on_kaggle) == (kind, headless, kind.startswith("kaggle"))


def test_a_terminal_with_a_person_is_not_headless(nowhere):
    nowhere.setattr("sys.stderr", type("Tty", (), {"isatty": lambda self: True})())
    assert not detect().headless
    nowhere.setenv("ARC_HEADLESS", "1")
    assert detect().headless


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("variables", [{}, {"ARC_HEADLESS": "1"}, {"PYTEST_VERSION": "9"}])
def test_relative_paths_mean_the_same_everywhere(nowhere, tmp_path, kernel, variables):
    for name, value in variables.items():
        nowhere.setenv(name, value)
    nowhere.setattr(env, "_in_kernel", lambda: kernel)
    nowhere.chdir(tmp_path)  # JupyterLab starts in notebooks/, pytest anywhere
    repository = Path(env.__file__).parents[2]
    assert project_root() == repository
    assert resolve_path("models/x") == output_path("models/x") == repository / "models/x"


def test_root_can_be_given(nowhere, tmp_path):
    nowhere.setenv("ARC_ROOT", str(tmp_path))
    assert resolve_path("a/b") == tmp_path / "a/b"
    assert detect().root == detect().writable == tmp_path


def test_root_of_an_installed_wheel_is_the_repository_around_the_cwd(nowhere, tmp_path):
    nowhere.setattr(env, "PACKAGE", tmp_path / "site-packages" / "arc_helpers")
    (tmp_path / "repo" / "configs").mkdir(parents=True)
    (tmp_path / "repo" / "pyproject.toml").touch()
    (tmp_path / "repo" / "notebooks").mkdir()
    nowhere.chdir(tmp_path / "repo" / "notebooks")
    assert project_root() == tmp_path / "repo"
    nowhere.chdir(tmp_path)
    assert project_root() == tmp_path


def test_a_clone_is_the_root_on_kaggle_too_and_outputs_go_to_its_working_folder(nowhere, tmp_path):
    nowhere.setenv("ARC_KAGGLE_ROOT", str(tmp_path))
    nowhere.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    (tmp_path / "working").mkdir()
    repository = Path(env.__file__).parents[2]
    assert project_root() == repository and resolve_path("models/arc-micro") == repository / "models/arc-micro"
    assert output_path("x") == tmp_path / "working/x"


def test_an_installed_package_brings_models_and_profiles(nowhere, tmp_path):
    nowhere.setattr(env, "PACKAGE", tmp_path / "arc_helpers")
    nowhere.setattr(env, "PACKAGED", tmp_path / "arc_helpers/packaged")
    (tmp_path / "arc_helpers/packaged/models/arc-micro").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    nowhere.chdir(tmp_path / "mine")
    assert resolve_path("models/arc-micro") == tmp_path / "arc_helpers/packaged/models/arc-micro"
    assert output_path("models/arc-micro") == tmp_path / "mine/models/arc-micro"
    (tmp_path / "mine/models/arc-micro").mkdir(parents=True)
    assert resolve_path("models/arc-micro") == tmp_path / "mine/models/arc-micro", "one's own comes first"


def test_outputs_of_a_read_only_project_go_where_one_may_write(nowhere, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    nowhere.setenv("HOME", str(home))
    nowhere.setenv("ARC_ROOT", str(tmp_path / "project"))
    (tmp_path / "project").mkdir()
    nowhere.chdir(tmp_path)
    locked = {tmp_path / "project"}
    nowhere.setattr(env.os, "access", lambda path, mode: Path(path) not in locked)
    assert output_path("x") == tmp_path / "x"
    locked.add(tmp_path)
    assert output_path("x") == home / "x" and resolve_path("x") == tmp_path / "project/x"


def test_absolute_and_home_paths(nowhere, tmp_path):
    nowhere.setenv("HOME", str(tmp_path))
    assert resolve_path(tmp_path / "x") == tmp_path / "x"
    assert resolve_path("~/x") == output_path("~/x") == tmp_path / "x"


def test_missing_input_says_where_it_looked(nowhere, tmp_path):
    nowhere.setenv("ARC_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"^nothing: not found \\(looked at {tmp_path}/nothing\\)$"):
        resolve_path("nothing", must_exist=True)


@pytest.mark.parametrize(
    ("mounted", "asked"),
    [
        # older layout, newer layout, and a path written for the newer layout on an older mount
        ("arc-prize/test.json", "arc-prize/test.json"),
        ("competitions/arc-prize/test.json", "arc-prize/test.json"),
        ("arc-prize/test.json", "competitions/arc-prize/test.json"),
        ("wheels/a.whl", "wheels/a.whl"),
        ("datasets/me/wheels/a.whl", "wheels/a.whl"),
        ("datasets/me/wheels/a.whl", "me/wheels/a.whl"),
        ("datasets/me/wheels/a.whl", "datasets/me/wheels/a.whl"),
        ("wheels/a.whl", "datasets/me/wheels/a.whl"),
        ("qwen2/transformers/7b/1/config.json", "qwen2/transformers/7b/1/config.json"),
        ("models/qwen-lm/qwen2/transformers/7b/1/config.json", "qwen2/transformers/7b/1/config.json"),
        ("models/qwen-lm/qwen2/transformers/7b/1/config.json", "qwen-lm/qwen2/transformers/7b/1/config.json"),
        ("qwen2/transformers/7b/1/config.json", "models/qwen-lm/qwen2/transformers/7b/1/config.json"),
        # what a bundled data set carries
        ("arc-bundle/models/arc-micro/config.json", "models/arc-micro/config.json"),
        ("datasets/me/arc-bundle/models/arc-micro/config.json", "models/arc-micro/config.json"),
    ],
)
def test_kaggle_inputs_in_both_layouts(kaggle, mounted, asked):
    _, root = kaggle
    file = root / "input" / mounted
    file.parent.mkdir(parents=True)
    file.touch()
    assert resolve_path(asked, must_exist=True) == file
    assert resolve_path(Path(asked).parent, must_exist=True) == file.parent
    assert output_path(asked) == root / "working" / asked  # an input is read-only


def test_kaggle_working_wins_and_misses_are_explained(kaggle):
    _, root = kaggle
    for folder in ("working/models/arc-micro", "input/bundle/models/arc-micro"):
        (root / folder).mkdir(parents=True)
    assert resolve_path("models/arc-micro") == root / "working/models/arc-micro"
    assert resolve_path("../input") == root / "working/../input"
    assert resolve_path("") == root / "working", "an empty path is the folder itself"
    with pytest.raises(FileNotFoundError, match=f"nor under {root}/input"):
        resolve_path("nope", must_exist=True)
    assert detect().root == detect().writable == root / "working"


def test_kaggle_outputs_stay_writable_whatever_the_root(kaggle):
    monkeypatch, root = kaggle
    monkeypatch.setenv("ARC_ROOT", str(root / "input" / "bundle"))
    assert resolve_path("x") == root / "input" / "bundle" / "x"
    assert output_path("x") == root / "working" / "x"


class FakeCuda:
    """torch.cuda with a card of some capability; `broken` makes its first operation fail."""

    def __init__(self, monkeypatch, capability, name, broken=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        ones = torch.ones

        def on_the_card(*shape, device=None):
            if broken and device == "cuda":
                raise RuntimeError(broken)
            return ones(*shape)

        monkeypatch.setattr(torch, "ones", on_the_card)


def test_device_by_capability(monkeypatch):
    FakeCuda(monkeypatch, (9, 0), "NVIDIA H200")
    assert (choose_device().device, choose_device().dtype) == ("cuda", "bfloat16")
    assert choose_device().reason == "NVIDIA H200 has compute capability 9.0: bfloat16 is native from 8.0 on."
    FakeCuda(monkeypatch, (7, 5), "Tesla T4")
    assert (choose_device().device, choose_device().dtype) == ("cuda", "float16")
    assert "emulated (T4)" in choose_device().reason
    assert choose_device("cpu").device == "cpu"


def test_a_card_that_does_not_work_is_left_alone(monkeypatch):
    FakeCuda(monkeypatch, (6, 0), "Tesla P100", broken="CUDA error: no kernel image\nCompile with …")
    choice = choose_device("cuda")
    assert (choice.device, choice.dtype) == ("cpu", "float32")
    assert choice.reason.startswith("CUDA is visible but does not work (CUDA error: no kernel image);")


def test_cpu_computes_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for prefer in (None, "cpu", "cuda"):
        choice = choose_device(prefer)
        assert (choice.device, choice.dtype) == ("cpu", "float32")
        assert "float16 is 18 times slower" in choice.reason
    with pytest.raises(ValueError, match=r"^device 'mps': must be 'cpu' or 'cuda'$"):
        choose_device("mps")


def test_seed_everything():
    import random

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first
    seed_everything(4)
    assert draw() != first


def test_imports_are_light():
    """Neither the package nor its command line pulls in torch; `import arc_helpers` pulls in nothing."""
    code = (
        "import sys, time; start = time.perf_counter(); import arc_helpers; seconds = time.perf_counter() - start;"
        "light = not {'numpy', 'pydantic', 'typer'} & set(sys.modules);"
        "import arc_helpers.cli, arc_helpers.runs, arc_helpers.runs.notebook;"
        "print(seconds <= 0.3, light, not {'torch', 'matplotlib', 'papermill', 'IPython'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ.copy()
    ).stdout
    assert out.split() == ["True", "True", "True"]


def test_bfloat16_is_asked_of_the_device(monkeypatch):
    for known, expected in (({"avx512_bf16": True}, True), ({"avx512_f": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert env.has_bfloat16("cpu") is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # before torch 2.13
    assert env.has_bfloat16("cpu") is False
    for capability, expected in (((7, 5), False), ((8, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert env.has_bfloat16("cuda:0") is expected

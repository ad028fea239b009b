"""What work takes, and a GPU that may or may not tell how busy it is."""

import os
import stat

import pytest
import torch

from arc_helpers.ttt.meter import Meter, gpu_utilisation


def fake_nvidia_smi(folder, says: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_on_a_cpu_there_is_time_and_memory_but_no_utilisation():
    with Meter(torch.device("cpu")) as meter:
        before = torch.zeros(2**22)
    assert meter.seconds > 0 and meter.peak_mib > before.numel() * 4 / 2**20
    assert meter.utilisation is None


@pytest.mark.parametrize(
    ("says", "expected"), [("echo 37", 0.37), ("echo '[N/A]'", None), ("echo 100; exit 9", None), ("exit 0", None)]
)
def test_what_nvidia_smi_says(tmp_path, monkeypatch, says, expected):
    fake_nvidia_smi(tmp_path, says)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpu_utilisation("0") == expected


def test_without_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_utilisation("0") is None

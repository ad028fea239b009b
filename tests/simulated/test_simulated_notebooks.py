"""Every cell of every notebook at `tiny` on the simulated GPU, in float16 (capability 7.5) and in bfloat16 (9.0)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.simulated_gpu, pytest.mark.notebook]
#: what makes a notebook shorter than `tiny` does, and where it may write a model
VALUES = {
    "00_base_model": {"max_steps": 4, "deadline_seconds": 0, "out_model": "model"},
    "01_tokenization_debug": {"num_pseudo": 2, "max_tokens_show": 10},
    "02_multilora_ttt": {"steps": 2, "joint_steps": 2, "watch": 2},
    "03_trm_pretrain": {  # the published recipe, on a small model
        **{"preset": "published", "hidden_size": 32, "layout": "tight", "halt_max_steps": 2, "segments": 2, "views": 2},
        **{"subsets": "training,evaluation", "max_side": 4, "num_aug": 2, "batch_tokens": 256, "micro_tokens": 150},
        **{"max_steps": 2, "sudoku_seconds": 1, "out_model": "model"},
    },
    "04_hybrid_joint": {"tasks": 16, "asked": 3, "feedback_steps": 1, "out_model": "model"},
    "05_tinylora_dialog": {"meta_steps": 2, "adapter_steps": 1, "texts": 2},
    "06_memory_tests": {"adapter_steps": 1, "mqar_steps": 1, "texts": 2, "prose_tokens": 300},
    "07_tptt_liza": {"base_steps": 8, "steps": 4, "transition_step": 3, "n": 30, "eval_windows": 1, "max_context": 96},
}


@pytest.mark.parametrize("capability", ["7.5", "9.0"])
def test_every_cell_runs_on_a_gpu(capability, tmp_path):
    asked = {
        name: {key: str(tmp_path / f"{name}-model") if value == "model" else value for key, value in values.items()}
        for name, values in VALUES.items()
    }
    assert list(asked) == sorted(path.stem for path in (ROOT / "notebooks").glob("0*.ipynb"))
    env = {**os.environ, "ARC_SIMULATED_CUDA": capability, "ARC_HEADLESS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(Path(__file__).with_name("run_notebooks.py")), str(tmp_path), json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(asked), done.stderr[-3000:]
    broken = "\n".join(f"{one['notebook']}, {one['error']}" for one in found if one["error"])
    assert not broken, broken
    dtype = {"7.5": "float16", "9.0": "bfloat16"}[capability]
    for one in found:
        assert one["peak_bytes"] > 1_000_000, f"{one['notebook']} has not used the GPU"
        setup = (tmp_path / f"{one['notebook']}.txt").read_text()
        summary = json.loads((tmp_path / one["notebook"] / "summary.json").read_text())
        own = "float32" if one["notebook"][:2] in ("05", "06") else dtype
        if one["notebook"][:2] == "00":  # float16 needs a loss scale
            own = "float32"
        assert f"device   cuda, {own}: " in setup and (summary["device"], summary["dtype"]) == ("cuda", own)


def test_a_notebooks_kernel_has_the_gpu_too(tmp_path):
    """Through the command line and papermill, as users run it."""
    env = {**os.environ, "ARC_SIMULATED_CUDA": "7.5"}
    words = ("profile=tiny", f"out_dir={tmp_path}", "num_pseudo=2", "max_tokens_show=10")
    command = [sys.executable, "-m", "arc_helpers", "run", "01", *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "device   cuda, float16: Tesla T4 (simulated) has compute capability 7.5" in done.stdout


def test_the_smoke_benchmark_runs_and_its_memory_is_as_forecast(tmp_path):
    env = {**os.environ, "ARC_SIMULATED_CUDA": "9.0"}
    words = ("notebooks=", "size=nano", "length=256", "steps=1", f"out_dir={tmp_path}")
    command = [sys.executable, str(ROOT / "benchmarks/gpu_smoke.py"), *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and found["passed"] and "simulated" in found["device"], done.stderr[-2000:]
    assert (
        0 < found["logit_diff"] < 0.25
        and found["forecast_error"] < 0.15
        and found["peak_gib_k1"] < found["peak_gib_k8"]
    )

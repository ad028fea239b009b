"""Notebook 04, headless at the `tiny` profile, through the command line that users have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arc_helpers.arc import load_tasks, num_tests_of, validate_submission
from arc_helpers.hybrid import load_hybrid
from arc_helpers.hybrid.tiny import tiny_lm
from arc_helpers.lm import load_causal_lm
from arc_helpers.runs import read_jsonl

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.notebook


def run(out_dir: Path, *words: str) -> dict:
    """The summary of a short run."""
    words = ["profile=tiny", f"out_dir={out_dir}", f"out_model={out_dir / 'model'}", *words]
    command = [sys.executable, "-m", "arc_helpers", "run", "04", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "a teaching cell" not in done.stderr, done.stderr
    return json.loads((out_dir / "summary.json").read_text())


def test_04_hybrid_joint(tmp_path):
    summary = run(tmp_path)
    assert summary["language_model_unchanged"] and summary["n"] == 6 and summary["llm"] == "arc-micro"
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert drawn >= {"questions", "loop", "gradients", "training", "arms", "attempts", "self_correction"}
    arms = {"joint", "trm_alone", "shuffled", "feedback", "mender"}
    assert {m["arm"] for m in read_jsonl(tmp_path / "metrics.jsonl")} == arms
    counts = num_tests_of(load_tasks("arcagi1/evaluation"))
    assert summary["arc_tasks"] == 2 and validate_submission(tmp_path / "submission.json", counts) == []
    records = read_jsonl(tmp_path / "tasks.jsonl")
    assert len(records) == 6 and sum(r["right"] for r in records) == round(6 * summary["views_votes"])
    load_hybrid(tmp_path / "model", load_causal_lm("models/arc-micro"))


def test_04_with_a_llama_that_learns(tmp_path):
    """Another language model, with words, and a LoRA beside it."""
    llama = tiny_lm("llama")
    llama.model.save_pretrained(tmp_path / "llama")
    llama.tokenizer.save_pretrained(tmp_path / "llama")
    words = (f"model_dir={tmp_path / 'llama'}", "frozen=false", "gradient_checkpointing=true", "arms=")
    summary = run(tmp_path / "run", *words, "mode=both", "asked=2", "epochs=0.3", "feedback_steps=1", "max_attempts=1")
    assert summary["llm"] == "llama" and summary["parameters_lora"] == 8 * 2 * 2 * 2 * 32

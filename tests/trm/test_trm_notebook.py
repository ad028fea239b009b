"""Notebook 03, headless at the `tiny` profile, through the command line that users have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from official_files import official_weights, write_folder

from arc_helpers.arc import load_tasks, num_tests_of, validate_submission
from arc_helpers.runs import read_jsonl
from arc_helpers.trm import (
    load_arc_dataset,
    load_predictions,
    load_trm,
    open_dataset,
    open_trm,
    score_votes,
    vote,
)

SUBSETS = ("training", "evaluation")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.notebook


def run(out_dir: Path, *words: str) -> dict:
    """The summary of a short run."""
    words = ["profile=tiny", f"out_dir={out_dir}", f"out_model={out_dir / 'model'}", "deadline_seconds=0", *words]
    command = [sys.executable, "-m", "arc_helpers", "run", "03", *words, "sudoku_seconds=1", "max_steps=6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "a teaching cell" not in done.stderr, done.stderr
    return json.loads((out_dir / "summary.json").read_text())


def test_03_trm_pretrain(tmp_path):
    summary = run(tmp_path)
    assert summary["steps"] == 6 and summary["valid"] and summary["n_tasks"] == 3
    assert [m["step"] for m in read_jsonl(tmp_path / "metrics.jsonl")] == [6]
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert drawn >= {"canvases", "examples", "sudoku", "recursion", "thoughts", "latents", "training", "segments"}
    # what it saved can be scored again from outside, with the same result
    dataset = load_arc_dataset(tmp_path / "dataset")
    load_trm(tmp_path / "model", dataset)
    assert open_trm(tmp_path / "model", dataset)[2:4] == ("tight", False)
    labelled = [task for task in load_tasks("arcagi1/evaluation") if task.id in dataset.scored_ids]
    assert validate_submission(tmp_path / "submission.json", num_tests_of(labelled)) == []
    [two] = score_votes(vote(load_predictions(tmp_path / "predictions.jsonl")), labelled, (2,))
    assert two.task_score == summary["task_score"]


def test_03_answers_with_a_published_checkpoint_tasks_whose_answers_are_hidden(tmp_path):
    tasks = {name: {t.id: t.to_dict() for t in load_tasks(f"arcagi1/{name}") if t.max_side <= 4} for name in SUBSETS}
    asked = dict(list(tasks["evaluation"].items())[:2])
    hidden = {i: {**t, "test": [{**pair, "output": [[0]]} for pair in t["test"]]} for i, t in asked.items()}
    names = write_folder(tmp_path / "data", dict(list(tasks["training"].items())[:2]), hidden, num_aug=1)
    torch.save(official_weights(len(names)), tmp_path / "step_7")
    (tmp_path / "all_config.yaml").write_text("arch: {H_cycles: 1, L_cycles: 1, halt_max_steps: 1, num_heads: 2}")
    summary = run(tmp_path / "run", f"data={tmp_path / 'data'}", f"checkpoint={tmp_path / 'step_7'}")
    assert summary["valid"] and summary["steps"] == 0 and "task_score" not in summary
    counts = {task_id: len(task["test"]) for task_id, task in asked.items()}
    assert validate_submission(tmp_path / "run" / "submission.json", counts) == []
    assert open_trm(tmp_path / "run/model", open_dataset(tmp_path / "data")).layout == "official"

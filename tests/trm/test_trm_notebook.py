"""Notebook 03, headless at the `tiny` profile, through the command line that users have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arc_helpers.arc import load_tasks, num_tests_of, validate_submission
from arc_helpers.runs import read_jsonl
from arc_helpers.trm import load_arc_dataset, load_predictions, load_trm, score_votes, vote

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.notebook


def run(out_dir: Path, *words: str) -> dict:
    """The summary of a short run."""
    words = ["profile=tiny", f"out_dir={out_dir}", f"out_model={out_dir / 'model'}", "deadline_seconds=0", *words]
    command = [sys.executable, "-m", "arc_helpers", "run", "03", *words, "sudoku_seconds=1", "max_steps=6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
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
    labelled = [task for task in load_tasks("arcagi1/evaluation") if task.id in dataset.scored_ids]
    assert validate_submission(tmp_path / "submission.json", num_tests_of(labelled)) == []
    [two] = score_votes(vote(load_predictions(tmp_path / "predictions.jsonl")), labelled, (2,))
    assert two.task_score == summary["task_score"]


def test_03_answers_tasks_whose_answers_are_hidden(tmp_path):
    for name in ("training", "evaluation"):
        folder = tmp_path / "source" / name
        folder.mkdir(parents=True)
        for task in (task for task in load_tasks(f"arcagi1/{name}") if task.max_side <= 4):
            shown = task if name == "training" else task.without_answers()
            (folder / f"{task.id}.json").write_text(json.dumps(shown.to_dict()))
    summary = run(tmp_path / "run", f"source={tmp_path / 'source'}")
    assert summary["valid"] and "task_score" not in summary
    asked = load_tasks(tmp_path / "source" / "evaluation")
    assert validate_submission(tmp_path / "run" / "submission.json", num_tests_of(asked)) == []

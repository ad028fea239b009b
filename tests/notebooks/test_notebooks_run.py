"""Every notebook, headless, at the `tiny` profile, through the command line that users have."""

import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from arc_helpers.arc import load_tasks, num_tests_of, validate_submission
from arc_helpers.memory import Recipe, load_model, new_model, save_model, text_tokens
from arc_helpers.runs import read_jsonl
from arc_helpers.texts import read_documents

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.notebook
ALWAYS = {"notebook", "profile", "seed", "seconds", "device", "dtype", "git", "version_torch", "version_python"}


def run(name: str, out_dir: Path, *words: str) -> dict:
    """Run a notebook and check what every run leaves behind; returns its summary."""
    command = [sys.executable, "-m", "arc_helpers", "run", name, "profile=tiny", f"out_dir={out_dir}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads((out_dir / "summary.json").read_text())
    assert set(summary) >= ALWAYS and summary["notebook"].startswith(name) and summary["profile"] == "tiny"
    assert not any(isinstance(value, dict | list) for value in summary.values())
    assert (out_dir / "config.yaml").is_file()
    for figure in (out_dir / "figures").glob("*.png"):
        assert figure.read_bytes().startswith(b"\x89PNG")
    executed = nbformat.read(out_dir / f"{summary['notebook']}.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not any(output.output_type == "error" for output in outputs)
    summary["pictures"] = sum("image/png" in output.get("data", {}) for output in outputs)
    return summary


def figures(out_dir: Path) -> set[str]:
    return {path.stem for path in (out_dir / "figures").glob("*.png")}


def test_00_base_model(tmp_path):
    words = ("preset=tiny", "max_steps=12", "deadline_seconds=0", f"out_model={tmp_path / 'model'}")
    summary = run("00", tmp_path, *words)
    assert summary["steps"] == 12 and math.isfinite(summary["held_out_loss"])
    assert summary["held_out_tasks"] > 20
    assert figures(tmp_path) >= {"rules", "rules_all", "document", "loss"} and summary["pictures"] >= 4
    card = (tmp_path / "model" / "README.md").read_text()
    assert "license: mit-0" in card and "40853293 left out" in card
    metrics = read_jsonl(tmp_path / "metrics.jsonl")
    assert [m["step"] for m in metrics] == [10, 12]
    # the same command with more steps goes on from the checkpoint
    summary = run("00", tmp_path, *words[:1], "max_steps=16", *words[2:])
    assert summary["steps"] == 16 and read_jsonl(tmp_path / "metrics.jsonl")[-1]["step"] == 16


def test_01_tokenization_debug(tmp_path):
    summary = run("01", tmp_path, "pseudo_index=1", "max_tokens_show=20")
    assert summary["tokens"] == summary["prompt_tokens"] + summary["answer_tokens"]
    assert summary["round_trips"] == summary["pseudo_tasks"] == 4
    assert figures(tmp_path) == {"task", "augmentations", "pseudo_task", "tokens"} and summary["pictures"] >= 6


def test_02_multilora_ttt(tmp_path):
    summary = run("02", tmp_path, "steps=3")
    assert summary["valid"] and summary["errors"] == 0 and summary["n_tasks"] == summary["tasks"] == 2
    assert summary["loss_last"] < summary["loss_first"]
    assert {"task", "frontier", "losses", "candidates"} < figures(tmp_path) and summary["pictures"] >= 5
    assert {path.suffix for path in (tmp_path / "learning").iterdir()} == {".gif", ".html"}
    tasks = {task.id: task for task in load_tasks("arcagi1/evaluation")}
    records = read_jsonl(tmp_path / "tasks.jsonl")
    chosen = [tasks[record["task_id"]] for record in records]
    assert validate_submission(tmp_path / "submission.json", num_tests_of(chosen)) == []
    for task in chosen:
        text = (tmp_path / "predictions" / f"{task.id}.txt").read_text()
        assert "MODEL OUTPUT 1" in text and "TRUE OUTPUT" not in text
        assert "TRUE OUTPUT 1" in (tmp_path / "scored" / f"{task.id}.txt").read_text()


def own_texts(folder: Path) -> Path:
    """Twelve texts of made-up words, a row each."""
    draw = random.Random(0)
    texts = [" ".join("".join(draw.choices("abcdefghi", k=5)) for _ in range(400)) for _ in range(12)]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / "texts.jsonl"


def test_05_tinylora_dialog(tmp_path):
    summary = run("05", tmp_path / "out", f"corpus={own_texts(tmp_path)}")
    assert summary["remembered"] == 3 and summary["pictures"] >= 3
    assert summary["texts_low"] <= summary["texts_gain"] <= summary["texts_high"]
    names = {"meta_training", "recall", "adapters", "memory_by_turn", "texts_by_position"}
    assert figures(tmp_path / "out") == names
    for name in ("", "static"):
        model = load_model(tmp_path / "out/text_model" / name)
        assert model.config.vocab_size == len(text_tokens(tmp_path / "out/text_model" / name))


def test_06_memory_tests(tmp_path):
    summary = run("06", tmp_path)
    assert summary["irrelevant_gain_share"] < 0.05 and summary["lowest_recall"] > 0.8
    assert figures(tmp_path) == {
        "conversation",
        "conditions",
        "recall_by_facts_and_gap",
        "loss_by_rate_and_repeats",
        "prose_by_position",
    }


def test_06_takes_a_grid_without_the_usual_values(tmp_path):
    """And reads texts of the user's by a model that has another tokenizer."""
    corpus = own_texts(tmp_path)
    tokens = text_tokens(None, read_documents(corpus).train)
    save_model(new_model(tokens, 0, Recipe(model_size="tiny")), tokens, tmp_path / "text")
    words = ("grid=true", "facts=2,3", "repeats=2", "gaps=70", "lrs=0.5,2", "seeds=2", "texts=2", "mqar_steps=0")
    summary = run("06", tmp_path / "out", *words, f"corpus={corpus}", f"text_model={tmp_path / 'text'}")
    assert summary["prose_unigram"] < math.log(len(tokens)) < summary["prose"], "of 512 pieces, by an untrained model"
    rows = [row for row in read_jsonl(tmp_path / "out/tasks.jsonl") if row["task_id"].startswith("cell")]
    assert summary["cells"] == len(rows) == 2 * 2 * 2
    usual = [row["recall"] for row in rows if row["lr"] == 0.5]  # 1 is not asked for: the first is the usual one
    assert summary["lowest_recall"] == pytest.approx(min(usual), abs=1e-4)


def test_02_goes_on_where_it_was_killed(tmp_path):
    words = ("max_tasks=4", "max_side=6", "steps=3", "control=false", "frontier=0", "watch=0")
    whole = run("02", tmp_path / "whole", *words)
    out_dir = tmp_path / "killed"
    command = [sys.executable, "-m", "arc_helpers", "run", "02", "profile=tiny", f"out_dir={out_dir}", *words]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list((out_dir / "results").glob("*.json"))) < 2:
        time.sleep(0.02)
    for one in (*process.children(recursive=True), process):  # its kernel is a process of its own
        one.kill()
    process.wait()
    assert not (out_dir / "summary.json").exists()
    summary = run("02", out_dir, *words)
    assert whole["resumed"] == 0 and 2 <= summary["resumed"] <= 4
    for name in ("submission.json", "tasks.jsonl", "metrics.jsonl"):
        assert (out_dir / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_02_goes_on_where_a_task_is_broken(tmp_path):
    """A folder with a good task, a malformed one and one whose query alone is longer than the context."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    good = {"train": [{"input": [[1, 0]], "output": [[0, 1]]}, {"input": [[2, 0]], "output": [[0, 2]]}]}
    good["test"] = [{"input": [[3, 0]]}]
    long = {"train": good["train"], "test": [{"input": [[1] * 30] * 30}]}
    (folder / "good.json").write_text(json.dumps(good))
    (folder / "long.json").write_text(json.dumps(long))
    (folder / "ragged.json").write_text(json.dumps({"train": [{"input": [[1, 0], [1]], "output": [[1]]}], "test": []}))
    limits = ("max_tasks=0", "max_side=0", "max_len=256", "control=false", "steps=2")
    summary = run("02", tmp_path / "out", f"data_dir={folder}", *limits)
    assert summary["valid"] and not summary["scored"] and summary["unreadable"] == 1
    records = {record["task_id"]: record for record in read_jsonl(tmp_path / "out" / "tasks.jsonl")}
    assert records["ragged"]["status"] == "unreadable" and "row 1" in records["ragged"]["error"]
    assert records["long"]["status"] == "fallback" and "context is 256" in records["long"]["notes"][0]
    submission = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert set(submission) == {"good", "long", "ragged"}
    assert submission["long"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}]

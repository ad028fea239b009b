"""Documents: what is inside Python, ARC tasks, local files; and what is held out."""

import json

import pytest

from arc_helpers import arc, liza
from arc_helpers.liza.text import arc_prompt


def test_the_offline_text_is_there_and_held_out_text_is_not():
    stdlib, tasks, both = (liza.load_documents(name) for name in ("stdlib", "arc", "offline"))
    assert len(stdlib) > 150 and sum(map(len, stdlib)) > 10**6
    assert len(both) == len(stdlib) + len(tasks) and both[:2] == [stdlib[0], tasks[0]]
    held_out = liza.held_out_documents("offline")
    assert len(held_out) > 30 and not set(held_out) & set(both)
    assert liza.load_documents("offline", 5) == both[:5]


def test_no_evaluation_task_is_in_the_prompts():
    prompts = set(liza.load_documents("arc")) | set(liza.held_out_documents("arc"))
    training = arc.load_tasks("arcagi1/training")
    overlap = arc.find_overlap(training, arc.load_tasks("arcagi1/evaluation"))
    assert overlap and len(prompts) == len(training) - len(overlap)
    assert not any(arc_prompt(task) in prompts for task in training if task.id in overlap)


def test_a_task_as_text():
    task = arc.Task("a", (arc.Pair([[1, 2]], [[2, 1]]),), (arc.Pair([[3]]),))
    assert (
        arc_prompt(task)
        == f"Input:\n{arc.grid_to_string([[1, 2]])}\nOutput:\n{arc.grid_to_string([[2, 1]])}\n\nInput:\n3\nOutput:\n"
    )


def test_local_files(tmp_path):
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "one"}) + "\n\n" + json.dumps({"prompt": "two"}) + "\n")
    (tmp_path / "a.txt").write_text("zero")
    assert liza.load_documents(str(tmp_path)) == ["zero", "one", "two"]
    assert liza.load_documents(str(tmp_path / "b.jsonl"), n=1) == ["one"]
    (tmp_path / "c.jsonl").write_text(json.dumps({"body": "three", "text": "not this"}))
    assert liza.load_documents(str(tmp_path / "c.jsonl"), column="body") == ["three"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", "", r"dataset = '.*empty\.jsonl': holds no text$"),
        ("blank.txt", " \n", r"dataset = '.*blank\.txt': holds no text$"),
        (
            "other.jsonl",
            '{"a": 1, "b": 2}',
            r"other\.jsonl, line 1: has no text column text or prompt \(it has a, b\)$",
        ),
        ("list.jsonl", "[1]", r"list\.jsonl, line 1: has no text column text or prompt \(it has list\)$"),
        ("broken.jsonl", '{"text": "a"}\n{"text"', r"broken\.jsonl, line 2: not JSON \("),
        ("table.csv", "text", r"table\.csv: must end in \.jsonl or \.txt$"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(liza.LizaError, match=message) as error:
        liza.load_documents(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_bad_names(tmp_path):
    with pytest.raises(liza.LizaError, match=r"must be one of stdlib, arc, offline, a file, a folder or a hub id$"):
        liza.load_documents("not-here.jsonl")
    with pytest.raises(liza.LizaError, match=r"the folder holds no \.jsonl and no \.txt file$"):
        liza.load_documents(str(tmp_path))
    with pytest.raises(liza.LizaError, match=r"^dataset = 'mine': must be one of stdlib, arc, offline$"):
        liza.held_out_documents("mine")


def test_windows_come_from_different_documents(tokenizer):
    documents = ["the list " * 200, "a dict " * 100, "short"]
    rows = liza.windows(documents, tokenizer, 40, 3)
    assert rows.shape == (3, 40)
    assert tokenizer.decode(rows[0])[:8] == "the list" and tokenizer.decode(rows[1])[:6] == "a dict"
    with pytest.raises(liza.LizaError, match=r"^windows of 9999 tokens: the longest of 3 documents has \d+$"):
        liza.windows(documents, tokenizer, 9999, 3)


def test_a_model_made_once_is_used_again(llama, text_file, tmp_path):
    options = {"hidden": 16, "layers": 1, "vocab": 280, "length": 16, "dataset": str(text_file)}
    folder = liza.make_text_model(tmp_path / "m", steps=3, **options)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert liza.make_text_model(folder, steps=3, **options) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    liza.make_text_model(folder, steps=2, **options)
    assert (folder / "model.safetensors").stat().st_mtime_ns != written
    with pytest.raises(liza.LizaError, match=r"^family = 'gpt2': must be one of llama, qwen2$"):
        liza.make_text_model(tmp_path / "n", family="gpt2", **options)

"""Documents: what is inside Python, ARC tasks, local files; and what is held out."""

import json

import pytest

from arc_helpers import arc, liza
from arc_helpers.liza.text import arc_prompt
from arc_helpers.texts import TextError


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


def test_texts_of_the_user(tmp_path):
    """The readers are those of `texts`; what is held out is never returned for training."""
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(30)))
    (tmp_path / "a.txt").write_text("zero")
    (tmp_path / "c.csv").write_text("id,prompt\n1,three\n")
    trained, kept = liza.load_documents(str(tmp_path)), liza.held_out_documents(str(tmp_path))
    assert {"zero", "three", "text 7"} <= {*trained, *kept} and len(trained) + len(kept) == 32
    assert kept and not set(kept) & set(trained)
    assert liza.load_documents(str(tmp_path), n=3) == trained[:3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("blank.txt", b" \n", r"is empty"),
        ("model.txt", b"ab\0cd", r"is a binary file"),
        ("photo.jpg", b"\xff\xd8", r"must end in \.jsonl"),
        ("other.jsonl", b'{"a": 1}', r"holds no text \(.*other\.jsonl:1: has no text or content"),
        ("one.jsonl", b'{"text": "a"}', r"holds 1 documents; at least 3 are needed"),
        ("not-here.jsonl", None, r"no such file or folder"),
    ],
)
def test_bad_texts(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for load in (liza.load_documents, liza.held_out_documents):
        with pytest.raises(TextError, match=message) as error:
            load(str(tmp_path / name))
        assert str(error.value).startswith(f"dataset = {tmp_path / name}: must be stdlib, arc, offline, or texts (")
        assert "\n" not in str(error.value)


def test_windows_come_from_different_documents(tokenizer):
    documents = ["the list " * 200, "a dict " * 100, "short"]
    rows = liza.windows(documents, tokenizer, 40, 3)
    assert rows.shape == (3, 40)
    assert tokenizer.decode(rows[0])[:8] == "the list" and tokenizer.decode(rows[1])[:6] == "a dict"
    with pytest.raises(TextError, match=r"tokens together: too small for one window of 9,999$"):
        liza.windows(documents, tokenizer, 9999, 3)


def test_a_model_made_once_is_used_again(llama, text_file, tmp_path):
    options = {"hidden": 16, "layers": 1, "vocab": 280, "length": 16, "dataset": str(text_file)}
    folder = liza.make_text_model(tmp_path / "m", steps=3, **options)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert liza.make_text_model(folder, steps=3, **options) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    liza.make_text_model(folder, steps=2, **options)
    assert (folder / "model.safetensors").stat().st_mtime_ns != written
    with pytest.raises(TextError, match=r"tokens together: too small for windows of 9,999$"):
        liza.make_text_model(tmp_path / "n", steps=1, **{**options, "length": 9999})
    with pytest.raises(liza.LizaError, match=r"^family = 'gpt2': must be one of llama, qwen2$"):
        liza.make_text_model(tmp_path / "n", family="gpt2", **options)

"""What is wrong with texts is said before the work, by the command and at the start of a run."""

import json
from types import SimpleNamespace

import pytest

from arc_helpers.runs.check import page
from arc_helpers.runs.config import resolve
from arc_helpers.runs.knobs import RunKnobs
from arc_helpers.texts import TextError
from arc_helpers.texts.check import documents, own_texts


@pytest.fixture
def texts(tmp_path):
    """Ten documents of 100 bytes."""
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": f"{i:0100}"}) + "\n" for i in range(10)))
    return str(tmp_path / "t.jsonl")


def test_texts_are_counted_and_too_few_are_found(texts):
    config = SimpleNamespace(corpus=texts, max_len=20)
    ((about, text, bad),) = own_texts(config)
    assert about == f"corpus = {texts}" and text.startswith("documents (characters): ") and not bad
    ((_, text, bad),) = own_texts(SimpleNamespace(corpus=texts, max_len=5000))
    assert bad and "bytes: too small for one window of 10,000 tokens" in text
    ((_, text, bad),) = own_texts(SimpleNamespace(corpus=texts, max_len=None, prose_tokens=5000))
    assert bad and "too small for one window of 5,000 tokens" in text
    assert not list(own_texts(SimpleNamespace(corpus=None, dataset=None, max_len=20)))


def test_dialogues_are_read_and_the_network_is_not(tmp_path):
    rows = [{"prompt": f"ask {i}", "response": "say"} for i in range(3)]
    (tmp_path / "d.json").write_text(json.dumps([*rows, {"no": "dialogue"}]))
    ((_, text, bad),) = own_texts(SimpleNamespace(dataset=str(tmp_path / "d.json"), corpus=None, max_len=20))
    assert "3 dialogues" in text and "1 row is no dialogue" in text and not bad
    for name in ("installed", "offline", "somebody/texts"):
        ((_, text, bad),) = documents(SimpleNamespace(dataset=name))
        assert not bad and ("of this installation" in text) == (name != "somebody/texts")
    with pytest.raises(TextError, match="stdlib: no such file or folder"):
        list(own_texts(SimpleNamespace(corpus="stdlib", max_len=20)))


def test_a_bad_corpus_is_one_line_of_the_check(tmp_path):
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    values = {"corpus": str(tmp_path / "photo.txt"), "tokenizer": str(tmp_path)}
    own, config = RunKnobs(out_dir=str(tmp_path / "out")), resolve("05_tinylora_dialog", "tiny", values)
    lines, well = page("05_tinylora_dialog", own, config)
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert not well and len(wrong) == 2 and not (tmp_path / "out").exists()
    assert "photo.txt: is no utf-8 text" in wrong[0] and "has no tokenizer (tokenizer.json)" in wrong[1]

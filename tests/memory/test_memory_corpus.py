"""Real text: any tokenizer, documents that stay on their side, windows, and what counting alone can do."""

import json
import math

import pytest
import torch
from memory_models import byte_tokenizer

from arc_helpers.memory.corpus import TextBatches, TextTokens, counter_losses, long_windows, train_tokenizer
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.recipe import Recipe, train_memory
from arc_helpers.texts import TextError, read_documents

STORY = "Однажды в студёную зимнюю пору я из лесу вышел; был сильный мороз.\n"


def test_any_tokenizer_writes_any_text():
    tokens = train_tokenizer([STORY * 20, "def f(x):\n\treturn  x"], vocab=300)
    for text in (STORY, "Hello  world,\n\thow are you?", "日本語 🙂"):
        assert tokens.text(tokens.ids(text)) == text
    assert len(tokens.ids(STORY)) < len(STORY.encode()), "its pieces are of this text"
    endless = byte_tokenizer()
    endless.eos_token = None
    with pytest.raises(TextError, match="has no end token"):
        TextTokens(endless)


def test_batches_are_packed_and_always_the_same():
    tokens = TextTokens(byte_tokenizer())
    batches = TextBatches(tokens, ["ab", "cde", "f" * 20], length=12, rows=3)
    assert tokens.text(batches.stream[:7]) == "abcde" and batches.stream[2] == batches.stream[6] == tokens.end
    assert batches(4).ids.shape == (3, 12) and torch.equal(batches(4).ids, batches(4).ids)
    assert not torch.equal(batches(4).ids, TextBatches(tokens, ["ab", "cde", "f" * 20], 12, 3, seed=1)(4).ids)
    with pytest.raises(TextError, match="the texts have 3 tokens together: too small for one window of 12"):
        TextBatches(tokens, ["ab"], 12, 3)
    windows = long_windows(tokens, ["a" * 25, "b" * 9, "c" * 12], 10, 3)
    assert [tokens.text(row[:1]) for row in windows] == ["a", "c", "a"], "other documents first"
    assert tokens.text(long_windows(tokens, ["b" * 9, "c" * 5], 12, 3)[0]) == "b" * 9 + "cc", "short ones in a row"
    with pytest.raises(TextError, match="the texts have 10 tokens together: too small for one window of 11"):
        long_windows(tokens, ["b" * 9], 11, 3)
    with pytest.raises(TextError, match="the texts have 0 tokens"):
        long_windows(tokens, [], 11, 3)


def test_counters():
    """By hand: a vocabulary of 4, the text 0 1 0 1."""
    found = counter_losses(torch.tensor([[0, 1, 0, 1]]), 4)
    assert found["unigram"][0] == pytest.approx([-math.log(1 / 5), -math.log(2 / 6), -math.log(2 / 7)])
    after_0 = (1 + 1 * 2 / 7) / (1 + 1)  # 1 has followed 0 once, of one kind; the rest is the unigram's
    assert found["bigram"][0] == pytest.approx([-math.log(1 / 5), -math.log(2 / 6), -math.log(after_0)])
    repeated = torch.randint(50, (1, 40), generator=torch.Generator().manual_seed(0)).repeat(1, 6)
    found = counter_losses(repeated, 50)
    assert found["bigram"][0, -40:].mean() < 1 < 3 < found["unigram"][0, -40:].mean()


def test_a_model_of_a_users_text(tmp_path):
    path = tmp_path / "story.jsonl"
    path.write_text("".join(json.dumps({"text": STORY * (3 + i)}) + "\n" for i in range(6)) + '{"x": 1}\n', "utf-8")
    documents = read_documents(path)
    assert len(documents.train) + len(documents.held_out) + len(documents.test) == 6
    assert "1 rows without a text are left out" in documents.report
    assert not set(documents.train) & {*documents.held_out, *documents.test}
    tokens = TextTokens(byte_tokenizer())
    batches = TextBatches(tokens, documents.train, length=65, rows=2)
    model, result = train_memory(tokens, 0, Recipe(model_size="tiny", steps=3), batches=batches)
    assert result["step"] == 3 and model.config.vocab_size == len(tokens)
    assert read(model, batches(9).ids).nll.isfinite().all()
    with pytest.raises(ValueError, match="batches: are needed"):
        train_memory(tokens, 0, Recipe(model_size="tiny", steps=3))


def test_documents_of_every_installation_and_of_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr("arc_helpers.texts.documents.PACKAGES", ())
    found = read_documents()
    assert len(found.train) > 50 and found.test and found.held_out and "PSF-2.0" in found.report
    (tmp_path / "empty.txt").write_text(" ")
    with pytest.raises(TextError, match="is empty"):
        read_documents(tmp_path / "empty.txt")
    (tmp_path / "one.txt").write_text("only one")
    with pytest.raises(TextError, match="holds 1 documents; at least 3 are needed"):
        read_documents(tmp_path / "one.txt")


def test_a_novel_is_several_documents_and_none_is_on_two_sides(tmp_path):
    paragraphs = [f"{i}. {STORY}" for i in range(3000)]
    (tmp_path / "novel.txt").write_text("\n\n".join(paragraphs), "utf-8")
    found = read_documents(tmp_path / "novel.txt")
    parts = [*found.train, *found.held_out, *found.test]
    assert len(parts) > 8 and sum(part.count("Однажды") for part in parts) == 3000

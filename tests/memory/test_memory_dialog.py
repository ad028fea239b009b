"""Dialogues, their tokens, and adapters: what is told, what is scored, what is held out, what is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import random_ids, small_model

from arc_helpers.memory import lexicon
from arc_helpers.memory.adapters import ADAPTERS, AdapterError, add_adapter, load_adapter, save_adapter, trainable
from arc_helpers.memory.dialog import DialogBatches, DialogError, encode_messages, load_dialogs, persona_sft
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.meta import MetaConfig, MetaTrainer
from arc_helpers.memory.model import FastMLP
from arc_helpers.memory.persona import ME, PersonaDialogs, Style, pseudo_word
from arc_helpers.memory.tokens import DialogTokens, known_words

TOKENS = DialogTokens()
USER, BOT = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}


def styled(**style) -> PersonaDialogs:
    return PersonaDialogs(TOKENS, Style(**style), seed=3)


def test_the_tokenizer_knows_its_words_and_spells_the_others():
    words = known_words()
    assert len(set(words)) == len(words) and all(len(TOKENS.ids(word)) == 1 for word in words)
    for word in (*lexicon.UNSEEN_NAMES, *lexicon.UNSEEN_VALUES):
        assert word not in words and len(TOKENS.ids(word)) > 1
        assert TOKENS.text(TOKENS.ids(word)) == word
    assert TOKENS.text(TOKENS.ids("My friend Zoë lives in Gdańsk.")) == "my friend zoe lives in gdansk."


@settings(deadline=None)
@given(st.lists(st.text("abz .,?'AÉ", max_size=8), max_size=5).map(" ".join))
def test_word_by_word_is_the_tokenizer(text):
    assert TOKENS.ids(text) == TOKENS.tokenizer.encode(text, add_special_tokens=False)


@settings(deadline=None, max_examples=30)
@given(index=st.integers(0, 10**6), words=st.sampled_from(["known", "mixed", "new", "unseen"]))
def test_a_dialogue_answers_what_it_was_told(index, words):
    dialogs = styled(words=words)
    drawn = dialogs.draw(index)
    told = " ".join(turn.text for turn in drawn.told)
    names = [fact.name for fact in drawn.facts if fact.name != ME]
    assert len(set(names)) == len(names), "a name has one fact, so it has one answer"
    for fact in drawn.facts:
        assert fact.value in told.split() and fact.name in told
    asked = [turn for turn in drawn.asked if turn.answer]
    assert sorted(turn.answer for turn in asked) == sorted(fact.value for fact in drawn.facts)
    encoded = dialogs.encode(drawn.asked)
    answers = TOKENS.text([i for i, a in zip(encoded.ids, encoded.answer, strict=True) if a])
    assert answers.split() == [turn.answer for turn in asked] or words in ("mixed", "new", "unseen")
    assert sum(encoded.first) == len(asked)
    assert all(said for said, answer in zip(encoded.said, encoded.answer, strict=True) if answer)


def test_held_out_words_and_phrasings_are_never_trained_on():
    rng = np.random.default_rng(0)
    trained = {pseudo_word(rng, held_out=False) for _ in range(500)}
    held_out = {pseudo_word(rng, held_out=True) for _ in range(500)}
    assert not trained & held_out
    texts = " ".join(turn.text for i in range(60) for turn in (lambda d: d.told + d.asked)(styled().draw(i)))
    for slot in lexicon.SLOTS.values():
        for phrase in (slot.says[-1], slot.asks[-1]):
            assert max(phrase.replace("{v}", "{n}").split("{n}"), key=len).strip() not in texts, phrase


def test_other_values_contradict_and_nothing_else_changes():
    dialogs = styled(facts=5)
    facts = dialogs.facts(np.random.default_rng(1))
    other = dialogs.other_values(facts, np.random.default_rng(2))
    assert [(f.name, f.slot) for f in facts] == [(f.name, f.slot) for f in other]
    assert all(f.value != g.value for f, g in zip(facts, other, strict=True))


def test_encoding_is_the_chat_template():
    messages = [USER, BOT, {"role": "user", "content": "where do i live?"}, BOT]
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    template = TOKENS.tokenizer.apply_chat_template(messages, **options)
    encoded = encode_messages(TOKENS, messages)
    assert encoded.ids == list(template["input_ids"])
    assert encoded.said == [bool(x) for x in template["assistant_masks"]] and any(encoded.said)


def test_only_the_assistant_is_scored_and_everything_is_learned_from():
    batch = persona_sft(styled(), 0, 4)
    assert batch.scored.any(dim=1).all() and (batch.scored & batch.valid == batch.scored).all()
    users = batch.ids == TOKENS.user
    assert not batch.scored[users].any()
    assert batch.scored.float().sum() < 0.7 * batch.valid.float().sum()


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([USER], "has no assistant turn"),
        ([], "has no assistant turn"),
        ([BOT, USER], "message 0: is the assistant's: must be the user's"),
        ([USER, BOT, BOT], "message 2: is the assistant's: must be the user's"),
        ([{"role": "system", "content": "x"}, BOT], "role = system: must be user or assistant"),
        ([USER, {"role": "assistant", "content": " "}], "message 1: content must be a text that is not empty"),
    ],
)
def test_dialogues_that_are_none_are_refused(messages, error, tmp_path):
    with pytest.raises(DialogError, match=error):
        encode_messages(TOKENS, messages)
    path = tmp_path / "dialogs.jsonl"
    path.write_text(json.dumps({"messages": [USER, BOT]}) + "\n" + json.dumps({"messages": messages}) + "\n")
    with pytest.raises(DialogError, match=rf"dialogs\.jsonl:2.*{error}"):
        load_dialogs(str(path))


def test_data_sets(tmp_path):
    """messages as JSON lines, and daily_dialog's layout with its licence; what is neither is refused."""
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"messages": [USER, BOT]}) + "\n\n" + json.dumps({"dialog": ["a", "b", "c"]}) + "\n")
    dialogs, licence = load_dialogs(str(path))
    assert [len(d) for d in dialogs] == [2, 3] and licence == ""
    assert [m["role"] for m in dialogs[1]] == ["user", "assistant", "user"]
    batches = DialogBatches.of(TOKENS, dialogs, size=2, max_len=6)
    assert batches.cut == 2, "said, not silent"
    assert sorted(map(len, (batches.rows[0], batches.rows[1]))) and batches(0).ids.shape == (2, 6)
    assert torch.equal(batches(5).ids, batches(5).ids)
    folder = tmp_path / "daily_dialog"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps({"dialog": ["Hi .", "Hello ."]}) + "\n")
    dialogs, licence = load_dialogs(str(folder))
    assert dialogs == [[{"role": "user", "content": "Hi ."}, {"role": "assistant", "content": "Hello ."}]]
    assert "CC BY-NC-SA" in licence
    path.write_text('{"text": 1}\n')
    with pytest.raises(DialogError, match=r"d\.jsonl:1: must have messages"):
        load_dialogs(str(path))
    path.write_text("nonsense\n")
    with pytest.raises(DialogError, match=r"d\.jsonl:1: is not JSON"):
        load_dialogs(str(path))
    with pytest.raises(DialogError, match="dialogues: there are none"):
        DialogBatches.of(TOKENS, [], 2, 6)


@pytest.mark.parametrize(("kind", "numbers"), [("tinylora-13", 13), ("tinylora", 28 * 64), ("lora-xs", 28 * 256)])
def test_adapters_start_as_nothing_and_leave_the_memory_alone(kind, numbers):
    model, ids = small_model(ttt_layers=1), random_ids(2, 40)
    before = read(model, ids)
    wrapped = add_adapter(model, kind)
    assert trainable(wrapped) == numbers
    base = wrapped.get_base_model()
    after = read(base, ids)
    assert torch.allclose(before.nll, after.nll, atol=1e-5)
    assert all(isinstance(layer.mlp_ttt, FastMLP) for layer in base.model.ttt_layers)
    assert not any(w.requires_grad for w in base.fast_weights())


def trained(kind):
    model = small_model(ttt_layers=1)
    wrapped = add_adapter(model, kind)
    config = MetaConfig(steps=3, lr=0.05, warmup_steps=1)
    MetaTrainer(wrapped.get_base_model(), lambda step: persona_batch(step), config).run()
    return wrapped


def persona_batch(step):
    from arc_helpers.memory.meta import Batch

    return Batch(random_ids(2, 33, seed=step))


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_saved_adapter_reads_the_same(kind, tmp_path):
    wrapped, ids = trained(kind), random_ids(2, 40)
    expected = read(wrapped.get_base_model(), ids).nll
    assert not torch.allclose(expected, read(small_model(ttt_layers=1), ids).nll, atol=1e-4), "it learned something"
    save_adapter(wrapped, tmp_path)
    loaded = load_adapter(small_model(ttt_layers=1), tmp_path)
    assert torch.allclose(read(loaded.get_base_model(), ids).nll, expected, atol=1e-5)


def test_merged_is_unmerged_with_learning_on():
    wrapped, ids = trained("lora"), random_ids(2, 40)
    expected = read(wrapped.get_base_model(), ids).nll
    assert torch.allclose(read(wrapped.merge_and_unload(), ids).nll, expected, atol=1e-4)


def test_a_pth_file_of_lora_tensors(tmp_path):
    wrapped, ids = trained("lora"), random_ids(1, 40)
    model = small_model(ttt_layers=1)
    state = {n: p.detach().clone() for n, p in wrapped.get_base_model().named_parameters() if ".lora_" in n}
    state = {n.replace(".default", ""): t * (2 if "lora_B" in n else 1) for n, t in state.items()}  # alpha / r = 2
    torch.save(state, tmp_path / "tinylora.pth")
    loaded = load_adapter(model, tmp_path / "tinylora.pth")
    expected = read(wrapped.get_base_model(), ids).nll
    assert torch.allclose(read(loaded.get_base_model(), ids).nll, expected, atol=1e-5)


def test_adapters_of_another_base_are_refused(tmp_path):
    wrapped = trained("tinylora")
    folder = save_adapter(wrapped, tmp_path / "a")
    with pytest.raises(AdapterError, match=r"is for the base \w+, this one is \w+"):
        load_adapter(small_model(ttt_layers=1, seed=5), folder)
    other = small_model(ttt_layers=1)
    other.config.vocab_size = 60
    with pytest.raises(AdapterError, match="is for a base of 50 tokens, this one has 60"):
        load_adapter(other, folder)
    with pytest.raises(AdapterError, match="is no PEFT folder"):
        load_adapter(small_model(), tmp_path)
    with pytest.raises(AdapterError, match=r"adapter = big: must be one of tinylora-13, tinylora, lora-xs, lora"):
        add_adapter(small_model(), "big")
    torch.save({"x.lora_A.weight": torch.zeros(2, 3)}, tmp_path / "bad.pth")
    with pytest.raises(AdapterError, match=r"x \[r, 3\] does not fit this base"):
        load_adapter(small_model(), tmp_path / "bad.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(AdapterError, match="is not a file of tensors"):
        load_adapter(small_model(), tmp_path / "text.pth")

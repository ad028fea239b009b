"""Dialogues, their tokens, and adapters: what is told, what is scored, what is held out, what is refused."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import random_ids, small_model, trained

from arc_helpers.memory import lexicon
from arc_helpers.memory.adapters import ADAPTERS, add_adapter, load_adapter, save_adapter, trainable
from arc_helpers.memory.dialog import DialogBatches, persona_sft
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.model import FastMLP
from arc_helpers.memory.persona import ME, PersonaDialogs, Style, pseudo_word
from arc_helpers.memory.template import encode_messages
from arc_helpers.memory.tokens import DialogTokens, known_words
from arc_helpers.texts import TextError

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
    encoded = encode_messages(TOKENS.tokenizer, messages)
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
        ([{"role": "tool", "content": "x"}, BOT], "message 0: role = tool: must be user, assistant or system"),
        ([USER, {"role": "assistant", "content": " "}], "message 1: content must be a text that is not empty"),
        ([USER, {"role": "assistant", "content": "a <|end|> b"}], "message 1: holds <|end|>"),
    ],
)
def test_dialogues_that_are_none_are_refused(messages, error):
    with pytest.raises(TextError, match=re.escape(error)):
        encode_messages(TOKENS.tokenizer, messages)
    batches = DialogBatches.of(TOKENS.tokenizer, [[USER, BOT], messages], 2, 16)
    assert len(batches.rows) == 1 and error in batches.refused[0], "a bad dialogue costs itself"
    with pytest.raises(TextError, match=re.escape(error)):
        DialogBatches.of(TOKENS.tokenizer, [messages], 2, 16)


def test_a_system_speaks_through_the_user_where_a_template_knows_none():
    encoded = encode_messages(TOKENS.tokenizer, [{"role": "system", "content": "be kind"}, USER, BOT])
    assert encoded.ids == [TOKENS.user, *TOKENS.ids("be kind hello"), TOKENS.end, *TOKENS.turn("assistant", "hi there")]
    assert sum(encoded.said) == len(TOKENS.ids("hi there")) + 1


def test_batches_of_dialogues():
    """Cut dialogues are counted, a step's batch is always the same, and who says nothing in time is told."""
    dialogs = [[USER, BOT], [USER, BOT, USER], [{"role": "user", "content": "hello " * 9}, BOT]]
    batches = DialogBatches.of(TOKENS.tokenizer, dialogs, size=2, max_len=6)
    assert batches.cut == 2 and len(batches.rows) == 2
    assert batches.refused == ["dialogue 2: the assistant says nothing within 6 tokens"]
    assert batches(0).ids.shape == (2, 6) and torch.equal(batches(5).ids, batches(5).ids)
    with pytest.raises(TextError, match="dialogues: there are none"):
        DialogBatches.of(TOKENS.tokenizer, [], 2, 6)


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

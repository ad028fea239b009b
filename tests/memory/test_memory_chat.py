"""`python -m arc_helpers chat`: a conversation over standard input, and one line for what does not fit."""

from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from arc_helpers.cli import app
from arc_helpers.memory import decode
from arc_helpers.memory.adapters import add_adapter, save_adapter
from arc_helpers.memory.chat import Chat
from arc_helpers.memory.figures import plot_memory
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.memory.widget import chat_widget
from arc_helpers.plot import Picture, widgets

TOKENS = DialogTokens()


def fresh(seed: int = 0, vocabulary: int = 0) -> TTTForCausalLM:
    torch.manual_seed(seed)
    return TTTForCausalLM(TTTConfig.preset("tiny", vocabulary or len(TOKENS)))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    fresh().save_pretrained(path)
    TOKENS.tokenizer.save_pretrained(path)
    return path


def chat(*words, said=""):
    return CliRunner().invoke(app, ["chat", *map(str, words)], input=said)


def test_a_conversation(folder, tmp_path):
    saved = tmp_path / "memory.safetensors"
    result = chat("--model", folder, said=f"hello !\n\n/memory\n/save {saved}\n/quit\nnever read\n")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "kinds of fact" in lines[1] and "city, job, pet" in lines[1], "what it can be told is said first"
    assert "/save FILE" in lines[0] and "inner steps in" in lines[3] and lines[-1] == f"save: {saved}"
    result = chat("--model", folder, "--memory", saved, said="/memory\n")
    assert result.exit_code == 0 and "inner steps" in result.output


def test_an_adapter_is_used(folder, tmp_path):
    model = fresh()
    adapter = save_adapter(add_adapter(model, "lora"), tmp_path / "adapter")
    result = chat("--model", folder, "--adapter-path", adapter, said="hello !\n")
    assert result.exit_code == 0, result.output
    other = fresh(seed=1)
    adapter = save_adapter(add_adapter(other, "lora"), tmp_path / "other")
    result = chat("--model", folder, "--adapter-path", adapter)
    assert result.exit_code == 2 and "is for base" in result.output


def test_bad_input_is_one_line(folder, tmp_path):
    for words, error in (
        (("--model", tmp_path / "none"), "is no model folder"),
        (("--model", folder, "--learn-from", "me"), "learn_from = me: must be one of all, user, none"),
        (("--model", folder, "--memory", tmp_path / "none"), "no such checkpoint"),
        (("--model", folder, "--adapter-path", tmp_path), "is no PEFT folder"),
    ):
        result = chat(*words)
        assert result.exit_code == 2 and error in result.output, result.output
        assert len(result.output.strip().splitlines()) == 1
    fresh(vocabulary=99).save_pretrained(folder)
    result = chat("--model", folder)
    assert result.exit_code == 2 and "the model has 99 tokens" in result.output


def test_the_widget_talks_and_shows_its_memory_turn_by_turn(monkeypatch):
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=False))
    talk = Chat(fresh(), TOKENS, max_new=4)
    transcript, line, memory = chat_widget(talk).children
    line.value = "hello <b>you</b> !"
    assert "hello &lt;b>you&lt;/b> !" in transcript.value and "<b>model</b>" in transcript.value and line.value == ""
    turn, first = memory.controls["turn"], memory.picture.value
    assert turn.value == turn.max == len(talk.turns) == 1
    line.value = "/memory"
    assert "inner steps in" in transcript.value and turn.max == 1
    line.value = "good morning ! " * 8
    assert turn.value == 2 and memory.picture.value != first
    assert 0 <= talk.turns[0].moved < talk.turns[1].moved == talk.moved
    turn.value = 1
    assert memory.picture.value == plot_memory(talk.turns, 1).to_png()


def test_an_interrupt_ends_a_reply_and_not_the_chat(monkeypatch):
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=False))
    talk = Chat(fresh(), TOKENS, max_new=4)
    transcript, line, _ = chat_widget(talk).children

    def ask(_):
        yield "I was"
        raise KeyboardInterrupt

    monkeypatch.setattr(talk, "ask", ask)
    line.value = "hello !"
    assert "I was (stopped)" in transcript.value


def test_without_a_front_end_the_memory_is_a_picture():
    talk = Chat(fresh(), TOKENS, max_new=4)
    talk.say("hello !")
    picture = chat_widget(talk)
    assert isinstance(picture, Picture) and "you: hello !" in picture.axes[0].get_title()
    assert list(picture.axes[0].lines[0].get_ydata()) == [0.0, talk.moved]
    talk.forget()
    assert talk.turns == [] and plot_memory(talk.turns).axes[0].get_title() == "the start"


def test_the_last_utterances_are_in_every_prompt_and_each_token_is_learned_once(monkeypatch):
    learned, prompts = [], []
    step, feed = decode.inner_step, decode.Stream.feed

    def counted(model, hidden, targets, learn, *rest, **options):
        learned.append(float(learn.sum()))
        return step(model, hidden, targets, learn, *rest, **options)

    def seen(stream, ids, learn=True):
        if not stream.position:
            prompts.append(TOKENS.tokenizer.decode(ids[0]))
        return feed(stream, ids, learn)

    monkeypatch.setattr(decode, "inner_step", counted)
    monkeypatch.setattr(decode.Stream, "feed", seen)
    talk = Chat(fresh(), TOKENS, max_new=6, history=2)
    for text in ("hello !", "good morning ! " * 6, "what a day !", "let us talk ."):
        talk.say(text)
    assert sum(learned) + sum(talk.stream.waiting[1]) == talk.read - 1, "all but the very first token, once"
    assert "what a day!" in prompts[-1] and "hello" not in prompts[-1] and "good morning" not in prompts[-1]
    talk = Chat(fresh(), TOKENS, max_new=6, history=0)
    talk.say("hello !")
    talk.say("hello !")
    assert talk.stream.position == talk.read, "one stream"

"""`python -m arc_helpers chat`: a conversation over standard input, and one line for what does not fit."""

import pytest
import torch
from typer.testing import CliRunner

from arc_helpers.cli import app
from arc_helpers.memory.adapters import add_adapter, save_adapter
from arc_helpers.memory.chat import Chat
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.memory.widget import chat_widget

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
    assert "/save FILE" in lines[0] and "inner steps in" in lines[2] and lines[-1] == f"save: {saved}"
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
    assert result.exit_code == 2 and "is for the base" in result.output


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


def test_the_widget_talks():
    box = chat_widget(Chat(fresh(), TOKENS, max_new=4))
    transcript, line = box.children
    line.value = "hello <b>you</b> !"
    assert "hello &lt;b>you&lt;/b> !" in transcript.value and "<b>model</b>" in transcript.value and line.value == ""
    line.value = "/memory"
    assert "inner steps in" in transcript.value

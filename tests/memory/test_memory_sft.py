"""Dialogues for ordinary language models: their own template, what is scored, adapters as folders and .pth, a chat."""

import numpy as np
import pytest
import torch
from memory_models import CHATML, byte_tokenizer, plain_model, random_ids, small_model, trained
from typer.testing import CliRunner

from arc_helpers.cli import app
from arc_helpers.memory.adapters import AdapterError, add_adapter, load_adapter, save_adapter
from arc_helpers.memory.dialog import DialogBatches, SaidLoss, said_loss
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.plain_chat import PlainChat
from arc_helpers.memory.recipe import train_on_dialogs
from arc_helpers.memory.template import check_tokenizer, encode_messages, stop_token
from arc_helpers.texts import TextError

BYTES = byte_tokenizer()
USER, BOT = {"role": "user", "content": "Как дела?"}, {"role": "assistant", "content": "Хорошо, спасибо! 🙂"}
SYSTEM = {"role": "system", "content": "Be kind."}


def test_a_tokenizers_own_template_and_what_the_assistant_says():
    encoded = encode_messages(BYTES, [SYSTEM, USER, BOT, USER, BOT])
    whole = BYTES.apply_chat_template([SYSTEM, USER, BOT, USER, BOT], tokenize=False)
    assert BYTES.decode(encoded.ids) == whole, "any script, to the letter"
    said = BYTES.decode([i for i, s in zip(encoded.ids, encoded.said, strict=True) if s])
    assert said == 2 * (BOT["content"] + "<|im_end|>"), "its words and its end, not the header and not the line's end"
    assert stop_token(BYTES) == BYTES.convert_tokens_to_ids("<|im_end|>")
    first = encode_messages(BYTES, [BOT, USER, BOT])
    assert any(first.said[:20]), "an assistant may begin"


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("", "has no chat template"),
        (CHATML.replace("'<|im_end|>'", "''"), "ends no turn with a special token"),
        (CHATML.replace("m['content']", "''"), "leaves a turn out"),
    ],
)
def test_a_tokenizer_that_writes_no_dialogue_is_refused(template, error):
    with pytest.raises(TextError, match=error):
        check_tokenizer(byte_tokenizer(template or None))
    with pytest.raises(TextError, match=error):
        DialogBatches.of(byte_tokenizer(template or None), [[USER, BOT]], 2, 99)


def test_templates_that_change_or_refuse_a_dialogue_cost_that_dialogue():
    shouting = byte_tokenizer(CHATML.replace("m['content']", "m['content'].replace('!', '!!')"))
    batches = DialogBatches.of(shouting, [[USER, BOT], [USER, {**BOT, "content": "Ok."}]], 2, 99)
    assert len(batches.rows) == 1 and "changes its texts" in batches.refused[0]
    strict = "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('user first') }}{% endif %}" + CHATML
    batches = DialogBatches.of(byte_tokenizer(strict), [[BOT, USER, BOT], [USER, BOT]], 2, 99)
    assert len(batches.rows) == 1 and "refuses it (user first)" in batches.refused[0]


def test_the_loss_of_what_is_said():
    model = plain_model()
    batches = DialogBatches.of(BYTES, [[USER, BOT], [USER, {**BOT, "content": "Да."}], [SYSTEM, USER, BOT]], 2, 120)
    found = said_loss(model, batches)
    for row, nats, tokens in zip(batches.rows, found.nats, found.tokens, strict=True):
        ids = torch.tensor([row.ids[:120]])
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
        said = torch.tensor(row.said[1:120])
        assert nats == pytest.approx(losses[said].sum().item(), rel=1e-4) and tokens == said.sum()
    assert found.perplexity == pytest.approx(np.exp(found.nats.sum() / found.tokens.sum()))


def test_intervals_are_paired():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 30, 40).astype(float)
    base = SaidLoss(tokens * rng.normal(3, 1, 40), tokens)
    better = SaidLoss(base.nats - 0.1 * tokens, tokens)
    assert base.gain(better) == pytest.approx((0.1, 0.1, 0.1)), "what differs between dialogues cancels"
    low, high = base.interval()
    assert low < base.perplexity < high


@pytest.mark.parametrize("kind", ["lora", "tinylora"])
def test_an_ordinary_model_learns_what_the_assistant_says_and_keeps_the_rest(kind, tmp_path):
    model = plain_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    batches = DialogBatches.of(BYTES, [[USER, BOT], [USER, {**BOT, "content": "Да."}]], 2, 120)
    base = said_loss(model, batches)
    wrapped = train_on_dialogs(model, batches, kind, steps=8, lr=0.03)
    assert said_loss(wrapped.get_base_model(), batches).nll < base.nll
    for name, parameter in wrapped.get_base_model().named_parameters():
        if "lora" not in name:
            assert torch.equal(parameter, before[name.replace(".base_layer", "")]), name
    ids = random_ids(1, 30)
    for path in (tmp_path / "folder", tmp_path / "adapter.pth"):
        loaded = load_adapter(plain_model(), save_adapter(wrapped, path))
        with torch.no_grad():
            assert (loaded(ids).logits - wrapped(ids).logits).abs().max() <= 1e-6, path
        with pytest.raises(AdapterError, match=r"is for base \w+, this one is base \w+"):
            load_adapter(plain_model(seed=1), path)


def lora_state(scale=1.0):
    wrapped = trained("lora")
    state = {n: p.detach().clone() for n, p in wrapped.get_base_model().named_parameters() if ".lora_" in n}
    return wrapped, {n.replace(".default", ""): t * (scale if "lora_B" in n else 1) for n, t in state.items()}


def test_a_pth_file_of_lora_tensors(tmp_path):
    """alpha from the file, else the rank; ranks may differ."""
    wrapped, plain = lora_state(2)  # alpha / r = 2
    expected = read(wrapped.get_base_model(), random_ids(1, 40)).nll

    def loaded(state):
        torch.save(state, tmp_path / "a.pth")
        return read(load_adapter(small_model(ttt_layers=1), tmp_path / "a.pth").get_base_model(), random_ids(1, 40)).nll

    assert torch.allclose(loaded(plain), expected, atol=1e-5)
    _, halved = lora_state()
    assert torch.allclose(loaded({**halved, "lora_alpha": torch.tensor(4.0)}), expected, atol=1e-5)
    one = next(n for n in plain if "q_proj.lora_A" in n).removesuffix(".lora_A.weight")
    wider = {**plain, f"{one}.lora_A.weight": torch.cat([plain[f"{one}.lora_A.weight"], torch.zeros(3, 32)])}
    wider[f"{one}.lora_B.weight"] = torch.cat([plain[f"{one}.lora_B.weight"], torch.ones(32, 3)], dim=1)
    assert torch.allclose(loaded(wider), expected, atol=1e-5), "one module of rank 5 among those of 2"


def test_a_bare_tinylora_pth_file(tmp_path):
    from peft import get_peft_model_state_dict

    for kind in ("tinylora", "tinylora-13"):
        wrapped = trained(kind)
        torch.save(get_peft_model_state_dict(wrapped), tmp_path / "t.pth")
        loaded = load_adapter(small_model(ttt_layers=1), tmp_path / "t.pth").get_base_model()
        ids = random_ids(1, 40)
        assert torch.allclose(read(loaded, ids).nll, read(wrapped.get_base_model(), ids).nll, atol=1e-5)


def test_adapters_of_another_base_are_refused(tmp_path):
    folder = save_adapter(trained("tinylora"), tmp_path / "a")
    with pytest.raises(AdapterError, match=r"is for base \w+, this one is base \w+"):
        load_adapter(small_model(ttt_layers=1, seed=5), folder)
    other = small_model(ttt_layers=1)
    other.config.vocab_size = 60
    with pytest.raises(AdapterError, match="is for a base of 50 tokens, this one is a base of 60 tokens"):
        load_adapter(other, folder)
    with pytest.raises(AdapterError, match="is no PEFT folder"):
        load_adapter(small_model(), tmp_path)
    with pytest.raises(AdapterError, match=r"adapter = big: must be one of tinylora-13, tinylora, lora-xs, lora"):
        add_adapter(small_model(), "big")


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"x.lora_A.weight": torch.zeros(2, 3), "x.lora_B.weight": torch.zeros(3, 2)}, "another model: it has x"),
        ({"x.lora_A.weight": torch.zeros(2, 3)}, "x has only one of its two matrices"),
        ({"x.lora_A": torch.zeros(2, 3), "x.lora_B": torch.zeros(3, 4)}, "x is of rank 2 in A and 4 in B"),
        ({"weights": torch.zeros(2)}, "holds no adapter"),
        ({"lm_head.lora_A": torch.zeros(2, 3), "lm_head.lora_B": torch.zeros(3, 2)}, "does not fit this base"),
        ({"x.lora_A.weight": torch.full((2, 3), float("nan"))}, "is not finite"),
    ],
)
def test_odd_pth_files_are_one_line(state, error, tmp_path):
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(AdapterError, match=error) as raised:
        load_adapter(small_model(), tmp_path / "bad.pth")
    assert "\n" not in str(raised.value)
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(AdapterError, match="is not a file of tensors"):
        load_adapter(small_model(), tmp_path / "text.pth")


def test_a_chat_with_an_ordinary_model(tmp_path):
    model, adapter = plain_model(), tmp_path / "adapter"
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    BYTES.save_pretrained(folder)
    from arc_helpers.memory.chat import open_chat

    base = open_chat(folder, max_new=2).model  # as the chat opens it, so that the adapter knows its base
    save_adapter(add_adapter(base, "lora"), adapter)
    talk = tmp_path / "talk.json"
    said = f"привет\n/memory\n/save {talk}\n/forget\n/memory\n/load {talk}\n/memory\n"
    words = ["chat", "--model", str(folder), "--adapter", str(adapter), "--history", "2"]
    result = CliRunner().invoke(app, words, input=said)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "An ordinary language model: it knows the last 2 utterances" in lines[1]
    assert [line.split(" utt")[0] for line in lines if "are in the next prompt" in line] == [
        "2 of 2",
        "0 of 0",
        "2 of 2",
    ]
    result = CliRunner().invoke(app, ["chat", "--model", str(folder), "--learn-from", "user"])
    assert result.exit_code == 2 and "learns from nobody" in result.output


def test_only_the_last_utterances_are_in_a_prompt_and_none_is_too_long():
    chat, seen = PlainChat(plain_model(), BYTES, history=3, max_new=3), []
    chat._decode = lambda prompt: seen.append(BYTES.decode(prompt)) or iter(BYTES("ok")["input_ids"])
    for text in ("one", "two", "three"):
        assert chat.say(text) == "ok"
    assert seen[2].count("<|im_start|>user") == 2 and "one" not in seen[2] and "two" in seen[2], "from a user's turn on"
    with pytest.raises(ValueError, match=r"message: has \d+ tokens with its template; the model takes 253 at most"):
        chat.say("x" * 300)
    chat.say("y" * 215)
    assert "three" not in seen[3], "older turns give way to a long message"

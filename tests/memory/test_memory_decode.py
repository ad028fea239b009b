"""Decoding equals prefill to rounding, updates and ragged tails included; memory files; batches; bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import random_ids, small_model

from arc_helpers.memory.chat import Chat, command
from arc_helpers.memory.decode import Stream, decode, fingerprint, generate, load_memory, save_memory
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM
from arc_helpers.memory.tokens import DialogTokens


@pytest.mark.parametrize("layers", [1, 2])
def test_token_by_token_is_prefill(layers):
    """53 tokens: six steps of 8 targets and a ragged tail; losses and fast weights are those of `read`."""
    model, ids = small_model(ttt_layers=layers), random_ids(2, 53)
    whole, stream, losses = read(model, ids), Stream(model, 2), []
    for t in range(52):
        logits = stream.feed(ids[:, t : t + 1])
        losses.append(torch.nn.functional.cross_entropy(logits, ids[:, t + 1], reduction="none"))
    stream.feed(ids[:, 52:])
    assert torch.allclose(torch.stack(losses, dim=1), whole.nll, atol=1e-5)
    assert stream.state.updates.tolist() == whole.state.updates.tolist() == [6, 6]
    for w, v in zip(stream.state.weights, whole.state.weights, strict=True):
        assert torch.allclose(w, v, atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(1, 44), max_size=6, unique=True))
def test_any_cut_of_a_text_gives_the_same(cuts):
    model, ids = small_model(), random_ids(1, 45)
    whole, pieces = Stream(model), Stream(model)
    expected = whole.feed(ids)
    for i, j in zip([0, *sorted(cuts)], [*sorted(cuts), 45], strict=True):
        logits = pieces.feed(ids[:, i:j])
    assert torch.allclose(logits, expected, atol=1e-5)
    for w, v in zip(whole.state.weights, pieces.state.weights, strict=True):
        assert torch.allclose(w, v, atol=1e-5)


def test_the_step_comes_when_the_last_target_is_known(model):
    stream = Stream(model)
    stream.feed(random_ids(1, 8))
    assert stream.state.updates.tolist() == [0], "8 tokens are 7 targets"
    stream.feed(random_ids(1, 1))
    assert stream.state.updates.tolist() == [1]


def test_generation_equals_reading_what_was_generated():
    """Greedy tokens are the most likely ones of a prefill of the same text."""
    model, prompt = small_model(), random_ids(1, 21)[0].tolist()
    (made,) = generate(model, [prompt], 30)
    assert len(made.ids) == 30 and not made.finished and made.updates == 6 and made.skipped == 0
    reading = read(model, torch.tensor([[*prompt, *made.ids]]))
    assert reading.hit[0, 20:].all() and reading.state.updates.tolist() == [6]


def test_a_text_in_a_batch_is_what_it_is_alone():
    """Prompts of different lengths, one shorter than a batch of the inner loop."""
    model = small_model()
    prompts = [random_ids(1, n, seed=n)[0].tolist() for n in (5, 17, 30)]
    together = generate(model, prompts, 25)
    for prompt, made in zip(prompts, together, strict=True):
        (alone,) = generate(model, [prompt], 25)
        assert alone.ids == made.ids
    assert "does not fill a batch of 8: no inner step yet" in together[0].note and not together[1].note


def test_stop_token_ends_a_text_and_is_read(model):
    prompt = random_ids(1, 12)[0].tolist()
    (free,) = generate(model, [prompt], 12)
    stop = free.ids[4]
    (stopped,) = generate(model, [prompt], 12, stop=stop)
    assert stopped.finished and stopped.ids == free.ids[: free.ids.index(stop) + 1]


def test_learn_from(model):
    prompt = random_ids(1, 17)[0].tolist()
    moved = {}
    for learn_from in ("all", "user", "none"):
        stream = Stream(model)
        list(decode(stream, [prompt], 20, learn_from=learn_from))
        moved[learn_from] = stream.state.updates.item()
    assert moved == {"all": 4, "user": 2, "none": 0}
    with pytest.raises(ValueError, match="learn_from = me: must be one of all, user, none"):
        list(decode(Stream(model), [prompt], 1, learn_from="me"))


def test_empty_prompts_are_refused(model):
    with pytest.raises(ValueError, match="prompt 1: is empty"):
        generate(model, [[3], []], 2)
    with pytest.raises(ValueError, match="at least 1 token"):
        Stream(model).feed(torch.zeros(1, 0, dtype=torch.long))
    assert generate(model, [], 2) == []


def test_sampling_is_seeded(model):
    def sample(seed):
        return generate(model, [[1, 2]], 15, temperature=1.0, generator=torch.Generator().manual_seed(seed))[0].ids

    assert sample(1) == sample(1) != sample(2)


def test_a_saved_memory_goes_on_the_same(model, tmp_path):
    stream = Stream(model)
    stream.feed(random_ids(1, 40))
    save_memory(tmp_path / "memory.safetensors", model, stream.state, [{"role": "user", "content": "hello"}])
    loaded, history = load_memory(tmp_path / "memory.safetensors", model)
    assert history == [{"role": "user", "content": "hello"}] and loaded.updates.item() == 4
    one, two = Stream(model, memory=stream.state), Stream(model, memory=loaded)
    probe = random_ids(1, 20, seed=5)
    assert torch.allclose(one.feed(probe), two.feed(probe), atol=1e-5)
    assert not torch.allclose(two.feed(probe), Stream(model).feed(probe), atol=1e-2)


def test_a_memory_of_another_model_is_refused(model, tmp_path):
    path = tmp_path / "memory.safetensors"
    save_memory(path, model, Stream(model).state)
    other = small_model(seed=3)
    with pytest.raises(ValueError, match=f"is of the model {fingerprint(model)}, this one is {fingerprint(other)}"):
        load_memory(path, other)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_memory(path, model)


@pytest.fixture(scope="module")
def chatter() -> TTTForCausalLM:
    tokens = DialogTokens()
    torch.manual_seed(0)
    return TTTForCausalLM(TTTConfig.preset("tiny", len(tokens)))


def test_a_chat_saves_and_takes_up_its_memory(chatter, tmp_path):
    chat = Chat(chatter, history=4, max_new=6)
    for text in ("my friend anna lives in rome .", "hello !", "what a day !"):
        chat.say(text)
    assert [m["content"] for m in chat.history][::2] == ["hello !", "what a day !"]
    assert "inner steps in" in command(chat, "/memory")
    path = tmp_path / "chat.safetensors"
    assert command(chat, f"/save {path}").startswith("save: ")
    other = Chat(chatter, history=4)
    assert command(other, f"/load {path}").startswith("load: ")
    assert list(other.history) == list(chat.history)
    for w, v in zip(chat.stream.state.weights, other.stream.state.weights, strict=True):
        assert torch.allclose(w, v, atol=1e-6)
    assert command(chat, "/forget") == "forgotten" and chat.stream.state.updates.item() == 0
    assert "/save FILE" in command(chat, "/save") and command(chat, "/quit") is None
    assert "no such checkpoint" in command(chat, f"/load {tmp_path / 'none'}")


def test_chat_refuses_what_makes_no_sense(chatter):
    with pytest.raises(ValueError, match="message: is empty"):
        Chat(chatter).say("  ")
    with pytest.raises(ValueError, match="learn_from = both: must be one of"):
        Chat(chatter, learn_from="both")
    with pytest.raises(ValueError, match=r"the model has 50 tokens, the tokenizer \d+: must be the same"):
        Chat(small_model())

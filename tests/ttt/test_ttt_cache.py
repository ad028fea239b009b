"""Cached states are those of a plain forward, in the order asked for."""

import resource

import numpy as np
import pytest
import torch

from arc_helpers.lm.prompt import IGNORE, encode
from arc_helpers.ttt.cache import AnswerFeatures, answer_features, prepare, slot_losses
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.store import GIB, StateStore, Stored


@pytest.fixture
def examples(lm, tasks):
    """Long, short, long: the order in a batch is another one."""
    return [
        encode(tasks[0], lm.prompt_form),
        encode(tasks[2], lm.prompt_form, all_outputs=True),
        encode(tasks[1], lm.prompt_form, max_len=30),
        encode(tasks[1], lm.prompt_form),
    ]


@torch.no_grad()
@pytest.mark.parametrize("batch_tokens", [1, 150, 8192])
def test_states_that_predict_the_answer(lm, examples, batch_tokens):
    features = answer_features(lm, examples, batch_tokens)
    assert len(features) == len(examples)
    for example, feature in zip(examples, features, strict=True):
        hidden = lm.hidden(torch.from_numpy(example.input_ids)[None]).last_hidden_state[0]
        counted = np.flatnonzero(example.labels != IGNORE)
        torch.testing.assert_close(feature.hidden, hidden[counted - 1], atol=1e-5, rtol=1e-4)
        assert feature.targets.tolist() == example.labels[counted].tolist()
        assert not feature.hidden.requires_grad


@torch.no_grad()
def test_their_loss_is_the_models_loss(lm, tasks):
    """The shift by one is right: labels given to the model itself cost the same."""
    example = encode(tasks[0], lm.prompt_form)
    feature = answer_features(lm, [example])[0]
    ids, labels = torch.from_numpy(example.input_ids)[None], torch.from_numpy(example.labels)[None]
    loss = torch.nn.functional.cross_entropy(lm.head(feature.hidden), feature.targets)
    torch.testing.assert_close(loss, lm.model(ids, labels=labels).loss, atol=1e-5, rtol=1e-5)


def test_no_batch_is_larger_than_asked(lm, examples, monkeypatch):
    sizes = []
    decoder = lm.model.get_decoder() if hasattr(lm.model, "get_decoder") else lm.model.model
    hook = decoder.register_forward_pre_hook(
        lambda m, args, kw: sizes.append(kw["input_ids"].numel()), with_kwargs=True
    )
    try:
        answer_features(lm, examples, 150)
    finally:
        hook.remove()
    assert len(sizes) > 1 and all(size <= max(150, max(map(len, examples))) for size in sizes)


def test_nothing_asked_nothing_given(gridlm):
    assert answer_features(gridlm, []) == []


# Where they are kept


def sizes(model, examples) -> list[int]:
    """Bytes of the states of each example, those of the longest sequence first."""
    [kept] = prepare(model, [examples])
    return [
        states.hidden.nbytes for _, states in sorted(zip(map(len, examples), kept, strict=True), key=lambda p: -p[0])
    ]


@pytest.mark.parametrize("mode", ["head", "top_m"])
@pytest.mark.parametrize("in_memory, on_disk", [(4, 0), (2, 2), (0, 4), (0, 0)])
def test_wherever_states_are_the_losses_are_the_same(lm, examples, mode, in_memory, on_disk):
    model = MultiLoRAModel(lm, ["a"], mode=mode, r=4, top_m=1)
    model.bank.flat.normal_(std=0.1)
    bytes_of = sizes(model, examples)
    memory, disk = sum(bytes_of[:in_memory]), sum(bytes_of[in_memory : in_memory + on_disk])
    store = StateStore(memory / GIB, disk / GIB)
    [everything], [kept] = prepare(model, [examples]), prepare(model, [examples], store)
    dropped = 4 - in_memory - on_disk
    assert (sum(isinstance(e, Stored) for e in kept), store.on_disk, store.dropped) == (4 - in_memory, on_disk, dropped)
    assert [len(e) for e in kept] == [len(e) for e in everything]
    for one, other in zip(everything, kept, strict=True):
        losses = [slot_losses(model, [example], torch.tensor([0])) for example in (one, other)]
        # what is read back is bit for bit what was kept; computed again alone, it went through other batches
        torch.testing.assert_close(*losses, rtol=0, atol=1e-5 if dropped else 0)
    assert len(store.notes) == (dropped > 0)
    if dropped:
        assert f"the states of {dropped} pseudo-tasks do not fit into" in store.notes[0]


def test_what_the_disk_gives_back_is_what_it_took(tmp_path):
    store = StateStore(0, 1, tmp_path)
    made = [torch.randn(n, 6).to(dtype) for n in (1, 5) for dtype in (torch.bfloat16, torch.float32, torch.float16)]
    kept = [store.keep(AnswerFeatures(hidden, torch.arange(len(hidden))), compute=None) for hidden in made]
    for hidden, stored in reversed(list(zip(made, kept, strict=True))):
        assert isinstance(stored, Stored) and len(stored) == len(hidden)
        states = stored.load()
        assert states.hidden.dtype == hidden.dtype and torch.equal(states.hidden, hidden)
        assert torch.equal(states.targets, torch.arange(len(hidden)))
    assert list(tmp_path.iterdir()) == [], "nothing is left behind, whatever ends the run"


def test_a_full_disk_costs_nothing_but_time(gridlm, examples):
    """The kernel itself refuses to write more than a file of three quarters of it."""
    model = MultiLoRAModel(gridlm, ["a"], mode="top_m", r=4, top_m=1)
    store, before = StateStore(0, 1), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * sum(sizes(model, examples)) // 4, before[1]))
    try:
        [kept] = prepare(model, [examples], store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.on_disk >= 1 and store.dropped == 4 - store.on_disk >= 1
    assert store.notes == [
        f"cache: the states of {store.dropped} pseudo-tasks could not be written to disk (File too large): "
        "computed again at every step"
    ]
    [everything] = prepare(model, [examples])
    for one, other in zip(everything, kept, strict=True):
        losses = [slot_losses(model, [example], torch.tensor([0])) for example in (one, other)]
        torch.testing.assert_close(*losses, rtol=0, atol=1e-5)


def test_a_folder_that_cannot_be_written_is_a_full_disk(gridlm, examples, tmp_path):
    model, store = MultiLoRAModel(gridlm, ["a"], r=4), StateStore(0, 1, tmp_path / "missing")
    prepare(model, [examples], store)
    assert store.dropped == 4 and "could not be written to disk (No such file or directory)" in store.notes[0]

"""Batched, cached, each row with its own adapter: the answers are those of one prompt at a time without a cache."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

from arc_helpers.lm.grammar import GridGrammar
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import encode
from arc_helpers.lm.prompt_form import FORMS
from arc_helpers.ttt.decode import Generated, generate_with_lora, settled
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.reading import RoomyLayer

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
NAMES = ["a", "b", "c"]


@pytest.fixture
def model(lm) -> MultiLoRAModel:
    """Adapters strong enough to change the answers."""
    torch.manual_seed(5)
    model = MultiLoRAModel(lm, NAMES, r=4)
    with torch.no_grad():
        model.B.normal_(std=0.3)
    return model


@pytest.fixture
def prompts(lm, tasks) -> list[np.ndarray]:
    """Each task's prompt once for each slot; lengths 32 to 55."""
    return [encode(task.without_answers(), lm.prompt_form).input_ids for task in tasks for _ in NAMES]


SLOTS = [0, 1, 2] * 3
ROOM = [120, 100, 5, 40, 70, 100, 1, 70, 30]


def assert_same(one: list[Generated], other: list[Generated]) -> None:
    assert [g.token_ids for g in one] == [g.token_ids for g in other]
    assert [g.finished for g in one] == [g.finished for g in other]
    np.testing.assert_allclose([g.logprob for g in one], [g.logprob for g in other], atol=1e-4, rtol=1e-5)


def test_cached_equals_uncached(model, prompts):
    """Rows leave the batch at different times: by their end, or because their room is used up."""
    assert len({len(p) for p in prompts}) == 3
    cached = generate_with_lora(model, prompts, SLOTS, ROOM)
    assert_same(cached, generate_with_lora(model, prompts, SLOTS, ROOM, use_cache=False))
    assert {g.finished for g in cached} == {True, False}


def test_a_batch_equals_one_at_a_time(model, prompts):
    together = generate_with_lora(model, prompts, SLOTS, ROOM)
    alone = [generate_with_lora(model, [p], [s], [n])[0] for p, s, n in zip(prompts, SLOTS, ROOM, strict=True)]
    assert_same(together, alone)


def test_the_order_of_rows_does_not_matter(model, prompts):
    order = np.random.default_rng(0).permutation(len(prompts))
    shuffled = generate_with_lora(
        model, [prompts[i] for i in order], [SLOTS[i] for i in order], [ROOM[i] for i in order]
    )
    straight = generate_with_lora(model, prompts, SLOTS, ROOM)
    assert_same(shuffled, [straight[i] for i in order])


def test_room_and_grids(model, prompts):
    generated = generate_with_lora(model, prompts, SLOTS, ROOM)
    voc = model.lm.prompt_form
    for answer, room in zip(generated, ROOM, strict=True):
        assert voc.end not in answer.token_ids
        if answer.finished:
            assert len(answer.token_ids) + 1 <= room  # the end token takes room, too
            assert voc.answer_grid([*answer.token_ids, voc.end]) is not None
        else:
            assert len(answer.token_ids) == room


@torch.no_grad()
def test_each_step_is_the_likeliest_allowed_token(model, prompts):
    """Against one plain forward over the prompt and the whole answer."""
    lm, voc = model.lm, model.lm.prompt_form
    for i, answer in enumerate(generate_with_lora(model, prompts[::2], SLOTS[::2], [60] * 5)):
        prompt, slot = prompts[::2][i], SLOTS[::2][i]
        said = [*answer.token_ids, voc.end] if answer.finished else answer.token_ids
        ids = torch.from_numpy(np.concatenate([prompt, said]))[None]
        logits = model(ids, torch.tensor([slot]))[0, len(prompt) - 1 : -1]
        grammar, total = GridGrammar(1, voc, logits.shape[1]), 0.0
        for step, token in enumerate(said):
            scores = logits[step].masked_fill(~grammar.allowed()[0], -torch.inf).log_softmax(dim=0)
            assert scores.argmax() == token
            total += scores[token].item()
            grammar.push(torch.tensor([token]))
        assert answer.logprob == pytest.approx(total, abs=1e-3)
        assert lm.prompt_form is voc


def test_adapters_make_the_difference(model, prompts):
    """The same prompt with three adapters gives three answers, and with fresh adapters one."""
    three = generate_with_lora(model, prompts[:3], [0, 1, 2], [60] * 3)
    assert len({tuple(g.token_ids) for g in three}) == 3
    fresh = MultiLoRAModel(model.lm, NAMES, r=4)
    one = generate_with_lora(fresh, prompts[:3], [0, 1, 2], [60] * 3)
    assert len({tuple(g.token_ids) for g in one}) == 1


def test_a_broken_adapter_costs_its_own_rows_only(model, prompts):
    """Training that ran away leaves NaN in one slot: it may not end, but the others answer as before."""
    sound = generate_with_lora(model, prompts, SLOTS, ROOM)
    with torch.no_grad():
        model.B[1] = torch.nan
    broken = generate_with_lora(model, prompts, SLOTS, ROOM)
    mine = [i for i, slot in enumerate(SLOTS) if slot != 1]
    assert_same([broken[i] for i in mine], [sound[i] for i in mine])
    assert not any(broken[i].finished for i, slot in enumerate(SLOTS) if slot == 1)


def test_no_prompts_no_answers(model):
    assert generate_with_lora(model, [], [], []) == []


@given(st.lists(st.integers(0, 9), max_size=12))
def test_settled_moves_only_what_it_must(parents):
    order = settled(parents)
    assert sorted(order) == list(range(len(parents)))
    staying = sum(parents[branch] == place for place, branch in enumerate(order))
    assert staying == len({row for row in parents if row < len(parents)})


@given(st.lists(st.integers(1, 70) | st.lists(st.integers(0, 99), min_size=1, max_size=9), max_size=8))
def test_a_roomy_cache_holds_what_a_dynamic_one_does(steps):
    """A number appends that many tokens; a list selects rows: dropped, repeated and in any order."""
    random = torch.Generator().manual_seed(0)
    roomy, plain, rows = RoomyLayer(), DynamicLayer(), 3
    for step in [5, *steps]:
        if isinstance(step, int):
            keys, values = torch.rand(2, rows, 2, step, 4, generator=random)
            roomy.update(keys, values), plain.update(keys, values)
        else:
            index = torch.tensor(step) % rows
            roomy.batch_select_indices(index), plain.batch_select_indices(index)
            rows = len(index)
        assert torch.equal(roomy.keys, plain.keys) and torch.equal(roomy.values, plain.values)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("architecture", ["llama", "gridlm"])
def test_nothing_but_grids_can_be_written_in_any_prompt_form(form, architecture, tasks, monkeypatch):
    """Random models with adapters: cached as uncached, and every finished answer is a grid in its form."""
    torch.manual_seed(3)
    width = len(form.token_ids)
    if architecture == "gridlm":
        markers = [form.ids[mark] for mark in ("I", "O", "user", "assistant") if mark in form.ids]
        start = form.ids.get("<start>", -1)
        config = GridLMConfig.preset("tiny", vocab_size=width, marker_token_ids=markers, bos_token_id=start)
        base = GridLMForCausalLM(config)
    else:
        base = LlamaForCausalLM(LlamaConfig(vocab_size=width, **SMALL))
    lm = LoadedLM(base.eval(), None, form, "random", 512, torch.device("cpu"), torch.float32)
    model = MultiLoRAModel(lm, NAMES, r=4)
    with torch.no_grad():
        model.B.normal_(std=0.3)
    closing, plain = torch.zeros(width), model.logits
    closing[[form.row_end, form.end]] = 3.0  # so that random answers end
    monkeypatch.setattr(model, "logits", lambda hidden, slots=None: plain(hidden, slots) + closing)
    prompts = [encode(task.without_answers(), form).input_ids for task in tasks for _ in NAMES]
    rooms = [60] * len(prompts)
    cached = generate_with_lora(model, prompts, SLOTS, rooms)
    assert_same(cached, generate_with_lora(model, prompts, SLOTS, rooms, use_cache=False))
    for answer in cached:
        ids = [*answer.token_ids, form.end] if answer.finished else answer.token_ids
        assert set(ids) <= set(form.answer_ids)
        assert (form.answer_grid(ids) is not None) == answer.finished
    assert any(answer.finished for answer in cached)

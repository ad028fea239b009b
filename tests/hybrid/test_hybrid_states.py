"""What the language model reads: padding, positions, soft tokens, memory."""

from dataclasses import replace

import pytest
import torch

from arc_helpers.hybrid.backbone import random_twin
from arc_helpers.hybrid.checks import weights_hash
from arc_helpers.hybrid.feedback import encode_problem
from arc_helpers.hybrid.states import StateBank, read
from arc_helpers.hybrid.tiny import KINDS, tiny_examples, tiny_lm


def prompts_of(lm, n=4):
    return [encode_problem(lm, example.question) for example in tiny_examples(n)]


@torch.no_grad()
@pytest.mark.parametrize("with_soft", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_ragged_batch_reads_as_one_by_one(kind, with_soft):
    lm = tiny_lm(kind)
    prompts = prompts_of(lm)
    soft = 0.2 * torch.randn(len(prompts), 3, 32) if with_soft else None
    together = read(lm, prompts, soft)
    assert len({len(p) for p in prompts}) == 3
    for row, prompt in enumerate(prompts):
        alone = read(lm, [prompt], None if soft is None else soft[row : row + 1]).hidden[0]
        assert together.mask[row].sum() == len(alone) == len(prompt) + 3 * with_soft
        torch.testing.assert_close(together.hidden[row, -len(alone) :], alone, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_soft_tokens_that_are_embeddings_read_as_their_tokens(kind):
    """An oracle for position ids: soft tokens with the embeddings of real ones, in front of the same text."""
    lm = tiny_lm(kind)
    first, *_ = prompts_of(lm)
    row_end = lm.prompt_form.row_end
    if (
        kind == "gridlm"
    ):  # its positions come from the ids: soft ones stand at columns 1, 2, … of row 0, before any grid
        ids = torch.tensor([[row_end, row_end, *first]])
        place = lm.positions(ids, None)
        place[0, :2] = torch.tensor([[1, 0, 0], [2, 0, 0]])
        plain = lm.hidden(ids, position_ids=place, use_cache=False).last_hidden_state
    else:
        plain = lm.hidden(torch.tensor([[row_end, row_end, *first]]), use_cache=False).last_hidden_state
    soft = lm.model.get_input_embeddings()(torch.tensor([[row_end, row_end]]))
    longer = [first, prompts_of(lm)[2]]  # so that the row is padded
    found = read(lm, longer, soft.expand(2, -1, -1)).hidden[0, -plain.shape[1] :]
    torch.testing.assert_close(found, plain[0], rtol=0, atol=1e-5)


def test_the_gradient_reaches_soft_tokens_and_nothing_else():
    lm = tiny_lm("llama")
    soft = torch.randn(2, 3, 32, requires_grad=True)
    read(lm, prompts_of(lm)[:2], soft).hidden[:, -1].square().sum().backward()
    assert soft.grad.isfinite().all() and (soft.grad.abs().sum(-1) > 0).all()
    assert all(p.grad is None for p in lm.model.parameters())


def test_soft_tokens_are_cast_to_the_model():
    lm = tiny_lm("llama")
    half = replace(lm, model=lm.model.to(torch.bfloat16), dtype=torch.bfloat16)
    soft = torch.randn(1, 3, 32, requires_grad=True)
    hidden = read(half, prompts_of(lm)[:1], soft).hidden
    assert hidden.dtype == torch.bfloat16
    hidden.float().sum().backward()
    assert soft.grad.dtype == torch.float32 and soft.grad.any()


def test_a_prompt_beyond_the_context_is_named():
    lm = replace(tiny_lm(), max_len=40)
    prompt = max(prompts_of(tiny_lm()), key=len)
    with pytest.raises(ValueError, match=rf"a prompt of {len(prompt) + 4} tokens, 4 of them soft: the context is 40"):
        read(lm, [prompt], torch.zeros(1, 4, 32))


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_the_bank_reads_each_prompt_once_and_says_the_same(limit, monkeypatch):
    lm = tiny_lm()
    prompts, count = prompts_of(lm, 6), []
    whole = read(lm, prompts)

    def counting(lm, part, *rest):
        count.append(len(part))
        return read(lm, part, *rest)

    monkeypatch.setattr("arc_helpers.hybrid.states.read", counting)
    bank = StateBank(lm, limit_gib=limit)
    for _ in range(2):
        states = bank.get([*prompts, prompts[0]])
        assert torch.equal(states.mask[:6], whole.mask)
        torch.testing.assert_close(states.hidden[:6][whole.mask], whole.hidden[whole.mask], rtol=0, atol=1e-5)
        assert torch.equal(states.hidden[6][states.mask[6]], states.hidden[0][states.mask[0]])
    assert sum(count) == (6 if limit else 12)


def test_a_random_twin_has_the_shape_and_none_of_the_weights():
    lm = tiny_lm()
    twin = random_twin(lm, seed=1)
    assert weights_hash(twin.model) != weights_hash(lm.model) == weights_hash(tiny_lm().model)
    assert weights_hash(random_twin(lm, seed=1).model) == weights_hash(twin.model)
    assert not any(p.requires_grad for p in twin.model.parameters()) and "random" in twin.name

"""Adapters merged into the weights train as the hooks train them."""

import pytest
import torch

from arc_helpers.engine import Engine
from arc_helpers.lm.prompt import encode
from arc_helpers.ttt.cache import slot_losses
from arc_helpers.ttt.merged import can_merge, engine_for, merged_losses
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.trainer import train_multi_lora

OPTIONS = {
    "all": {},
    "no vocabulary": {"train_vocab": False},
    "two of the layers' matrices": {"target_modules": ["q_proj", "down_proj"]},
    "LoRA on embedding and head": {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "use_rslora": True},
}


def randomised(lm, slots: int, **options) -> MultiLoRAModel:
    model = MultiLoRAModel(lm, [f"task{k}" for k in range(slots)], mode="full", r=4, **options)
    torch.manual_seed(5)
    with torch.no_grad():
        model.bank.flat.add_(0.05 * torch.randn_like(model.bank.flat))
    return model


@pytest.fixture
def engine(gridlm) -> Engine:
    return Engine(gridlm.model.config, "cpu", products=torch.float32)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("slots", [[0, 1, 2], [1], [0, 2]], ids=str)
def test_losses_and_gradients_are_those_of_the_hooks(gridlm, engine, tasks, options, slots):
    model = randomised(gridlm, 3, **options)
    examples = [encode(tasks[k], gridlm.prompt_form, all_outputs=True) for k in slots]
    found = []
    for losses in (slot_losses(model, examples, torch.tensor(slots)), merged_losses(engine, model, examples, slots)):
        model.bank.grad.zero_()
        losses.sum().backward()
        found.append((losses.detach(), model.bank.grad.clone()))
    (wanted, wanted_gradient), (own, gradient) = found
    torch.testing.assert_close(own, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, wanted_gradient, atol=2e-5, rtol=0)
    others = [k for k in range(3) if k not in slots]
    assert not gradient[others].any() and gradient[slots].any()


def test_a_training_is_the_same(gridlm, engine, tasks):
    pools = [[encode(task, gridlm.prompt_form)] * 2 for task in tasks]
    flats = []
    for given in (None, engine):
        model = randomised(gridlm, 3)
        losses = train_multi_lora(model, pools, steps=5, lr=1e-3, batch=2, engine=given)
        flats.append((model.bank.flat.clone(), torch.from_numpy(losses)))
    torch.testing.assert_close(flats[0], flats[1], atol=2e-5, rtol=0)


def test_what_the_engine_cannot_train_keeps_the_hooks(lms, gridlm):
    assert can_merge(MultiLoRAModel(gridlm, ["a"], mode="full"))
    for lm, options in ((lms["llama"], {"mode": "full"}), (gridlm, {"mode": "head"}), (gridlm, {"mode": "top_m"})):
        assert engine_for(MultiLoRAModel(lm, ["a"], **options), 1e9) is None


def test_a_short_training_is_not_worth_compiling(gridlm):
    assert "compiled" not in engine_for(MultiLoRAModel(gridlm, ["a"], mode="full"), 1000).note

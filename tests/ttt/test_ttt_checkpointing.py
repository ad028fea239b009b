"""Activation checkpointing: the same gradients from a part of the memory, adapters inside what is computed again."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from arc_helpers.lm.loading import LoadedLM, avoid_traps_of_4bit_on_a_cpu
from arc_helpers.lm.prompt import encode
from arc_helpers.ttt.cache import prepare, slot_losses
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel, decoder_layers

NAMES = ["a", "b", "c"]


@contextmanager
def saved_bytes():
    """What autograd keeps for backward, each storage once."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages


def in_float64(lm: LoadedLM) -> LoadedLM:
    model = type(lm.model)(lm.model.config)
    model.load_state_dict(lm.model.state_dict())
    return replace(lm, model=model.double().eval().requires_grad_(False), dtype=torch.float64)


def in_4_bits(lm: LoadedLM) -> LoadedLM:
    """A Llama whose linear layers are 4-bit and compute in float32, as bitsandbytes does; the rest is in float64."""
    bnb = pytest.importorskip("bitsandbytes")
    model = LlamaForCausalLM(LlamaConfig(**lm.model.config.to_diff_dict())).double()
    for layer in model.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, linear in list(block.named_children()):
                if isinstance(linear, nn.Linear):
                    packed = bnb.nn.Linear4bit(
                        linear.in_features, linear.out_features, bias=False, compute_dtype=torch.float32
                    )
                    packed.weight = bnb.nn.Params4bit(linear.weight.detach().float(), requires_grad=False)
                    setattr(block, name, packed.to("cpu"))
    model.eval().requires_grad_(False)
    avoid_traps_of_4bit_on_a_cpu(model, "llama")
    return replace(lm, model=model, dtype=torch.float64)


def gradients(lm: LoadedLM, tasks, mode: str, checkpointing: bool, slots=(0, 1, 2)) -> torch.Tensor:
    options = {"r": 4, "mode": mode, "top_m": 1, "dtype": torch.float64, "activation_checkpointing": checkpointing}
    model = MultiLoRAModel(lm, NAMES, **options)
    torch.manual_seed(5)
    with torch.no_grad():  # fresh adapters have B = 0
        model.bank.flat.add_(0.05 * torch.randn(model.bank.flat.shape, dtype=torch.float64))
    pools = prepare(model, [[encode(task, lm.prompt_form, all_outputs=mode != "head")] for task in tasks])
    slot_losses(model, [pools[k][0] for k in slots], model.rows(list(slots))).sum().backward()
    return model.bank.grad.clone()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("base", ["gridlm", "llama", "qwen2", "4bit"])
def test_gradients_are_the_same(lms, tasks, base, mode):
    lm = in_4_bits(lms["llama"]) if base == "4bit" else in_float64(lms[base])
    for slots in ((0, 1, 2), (2, 0)):
        plain, again = (gradients(lm, tasks, mode, checkpointing, slots) for checkpointing in (False, True))
        assert plain[list(slots)].abs().amax(dim=1).min() > 1e-6, "an adapter without a gradient"
        assert (plain - again).abs().max() <= 1e-12
    assert not any("forward" in vars(layer) for layer in decoder_layers(lm))


@pytest.mark.parametrize("base", ["gridlm", "llama"])
def test_a_layer_keeps_its_input_alone(lms, tasks, base):
    lm, kept = lms[base], {}
    examples = [encode(task, lm.prompt_form) for task in tasks]
    width = max(map(len, examples)) * len(tasks)
    for checkpointing in (False, True):
        model = MultiLoRAModel(lm, NAMES, r=4, mode="full", activation_checkpointing=checkpointing)
        with saved_bytes() as storages:
            slot_losses(model, examples, model.rows())
        kept[checkpointing] = sum(storages.values())
    layers = len(decoder_layers(lm))
    assert kept[False] > 10 * layers * width * 64 * 4  # float32 states of 64 numbers
    assert kept[True] < kept[False] / 3


def test_hooks_are_gone_after_backward_and_after_an_error(gridlm, tasks):
    model = MultiLoRAModel(gridlm, NAMES, r=4, mode="full", activation_checkpointing=True)
    examples = [encode(task, gridlm.prompt_form) for task in tasks]

    def left() -> int:
        return sum(len(m._forward_hooks) + ("forward" in vars(m)) for m in gridlm.model.modules())

    losses = slot_losses(model, examples, model.rows())
    assert left() == 0
    losses.sum().backward()
    assert left() == 0 and model._rows is None
    with pytest.raises(RuntimeError, match="halfway"), model.attached():
        raise RuntimeError("halfway")
    assert left() == 0


def test_a_forward_of_an_instance_is_put_back(gridlm, tasks):
    """accelerate replaces a layer's forward by one of the instance's own."""
    model = MultiLoRAModel(gridlm, NAMES, r=4, mode="full", activation_checkpointing=True)
    layer, calls = decoder_layers(gridlm)[0], []
    real = layer.forward
    own = layer.forward = lambda *args: calls.append(1) or real(*args)
    try:
        slot_losses(model, [encode(task, gridlm.prompt_form) for task in tasks], model.rows()).sum().backward()
        assert vars(layer)["forward"] is own and len(calls) == 2
    finally:
        del layer.forward


def test_a_cache_is_written_once(lms, tasks):
    lm = lms["llama"]
    model = MultiLoRAModel(lm, ["a"], r=4, mode="full", activation_checkpointing=True)
    ids = torch.from_numpy(encode(tasks[0], lm.prompt_form).input_ids)[None]
    out = model.hidden(ids, use_cache=True)
    model.logits(out.last_hidden_state).sum().backward()
    assert out.past_key_values.get_seq_length() == ids.shape[1]

"""The model of memory: against the real code at real widths, and what it chooses."""

import numpy as np
import pytest
import torch
from simulated_cuda import simulated_cuda
from transformers import LlamaConfig, Qwen2Config, Qwen3Config

from arc_helpers.lm.gridlm import GridLMConfig
from arc_helpers.lm.memory import Base
from arc_helpers.ttt.memory import Footprint, choose
from benchmarks.gpu_memory import measured, on_meta

SHAPES = {
    "qwen2": Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=4, num_attention_heads=14, num_key_value_heads=2
    ),
    "llama": LlamaConfig(
        hidden_size=1024, intermediate_size=3584, num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=4
    ),
    "qwen3": Qwen3Config(
        hidden_size=640, intermediate_size=2432, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2
    ),
    "gridlm": GridLMConfig.preset("base"),
}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_forecast_is_what_the_real_code_takes(shape, checkpointing):
    lm = on_meta(SHAPES[shape], four_bit=False)
    for slots, tokens, mode in ((1, 2048, "full"), (2, 1024, "full"), (1, 2048, "top_m")):
        found = measured(lm, slots=slots, tokens=tokens, checkpointing=checkpointing, mode=mode, r=16)
        assert found.forecast == pytest.approx(found.peak, rel=0.15), f"{slots} × {tokens} {mode}"


FOOTPRINT = Footprint(
    Base("qwen2-7b", 3584, 28, 18944, 3584, 512, 16), numbers=81_059_328, layers=28, r=32, four_bit=True
)


def test_checkpointing_comes_before_fewer_slots():
    free, seen = 120 * 2**30, []
    while free > 2**30:
        found = choose(FOOTPRINT, free, 4, 2048)
        way = found and (found.slots, found.checkpointing)
        seen += [way] if way not in seen else []
        assert found is None or found.bytes <= free
        free *= 0.95
    assert seen == [(4, False), (4, True), (3, True), (2, True), (1, True), None]
    assert choose(FOOTPRINT, 40 * 2**30, 4, 2048, checkpointing=False).slots == 2
    assert choose(FOOTPRINT, 120 * 2**30, 4, 2048, checkpointing=True).checkpointing
    assert choose(FOOTPRINT, 120 * 2**30, 8, 512, most=2).at_once == 2


def test_longest_is_the_longest():
    free = 10 * 2**30
    longest = FOOTPRINT.longest(free, 10**6, room=900)
    for tokens, fits in ((longest, True), (longest + 1, False)):
        taken = max(FOOTPRINT.training(1, tokens, True), FOOTPRINT.answering(1, 1, tokens, 900))
        assert (taken <= free) == fits
    assert FOOTPRINT.longest(1000, 10**6) == 0 and FOOTPRINT.rows_at_once(0, 1, 100, 100) == 0


def test_the_forecast_against_the_simulated_device():
    """Another count of the same: storages on a simulated card, in float16, real numbers computed."""
    from arc_helpers.lm.loading import LoadedLM
    from arc_helpers.ttt.cache import slot_losses
    from arc_helpers.ttt.group import new_model
    from arc_helpers.ttt.limits import footprint_of
    from arc_helpers.ttt.optim import MultiLoraAdamW
    from arc_helpers.ttt.settings import TTTSettings
    from benchmarks.gpu_memory import sequence

    settings = TTTSettings(r=8, mode="full")
    with simulated_cuda((7, 5)):
        meta = on_meta(GridLMConfig.preset("nano"), four_bit=False)
        model = type(meta.model)(meta.model.config).half().eval().requires_grad_(False).to("cuda")
        lm = LoadedLM(model, meta.tokenizer, meta.prompt_form, "nano", 4096, model.device, torch.float16)
        for checkpointing in (False, True):
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            adapters = new_model(lm, ["a", "b"], settings)
            adapters.activation_checkpointing = checkpointing
            optimizer = MultiLoraAdamW(adapters.bank, 1e-3)
            slot_losses(adapters, [sequence(512)] * 2, adapters.rows()).sum().backward()
            optimizer.step()
            taken = torch.cuda.max_memory_allocated() - before
            assert footprint_of(lm, settings).training(2, 512, checkpointing) == pytest.approx(taken, rel=0.15)
            del adapters, optimizer
    assert np.isfinite(taken)

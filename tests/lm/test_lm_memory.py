"""A base in memory: on one device, smaller than it, and with a fused attention on old cards."""

from types import SimpleNamespace

import pytest
import torch
from simulated_cuda import simulated_cuda
from transformers import LlamaConfig, LlamaForCausalLM

from arc_helpers.lm import door, loading, memory
from arc_helpers.lm.expanded import NAME, expand_keys
from arc_helpers.lm.loading import ModelError, load_causal_lm
from arc_helpers.lm.memory import GIB, Base, free_bytes, parameters_in

QWEN2_7B = {
    "model_type": "qwen2",
    **{"hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064},
    **{"num_attention_heads": 28, "num_key_value_heads": 4},
}
SMALL = {
    **{"vocab_size": 16, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512},
}


def llama(seed: int = 1) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SMALL)).eval().requires_grad_(False)


def test_widths_of_a_config():
    base = Base.of(QWEN2_7B, "qwen2-7b")
    assert base.parameters == pytest.approx(7.615e9, rel=1e-3) and base.keys == 512
    assert base.weight_bytes(2) / GIB == pytest.approx(14.2, abs=0.1)
    assert base.weight_bytes(2, four_bit=True, trimmed=True) / GIB == pytest.approx(3.14, abs=0.02)
    gpt2 = Base.of({"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 10}, "gpt2")
    assert (gpt2.hidden, gpt2.intermediate, gpt2.keys) == (64, 256, 64)
    with pytest.raises(KeyError):
        Base.of({"hidden_size": 64}, "what")


def test_parameters_are_counted_in_the_files(model_folders):
    model = load_causal_lm(model_folders["llama"], device="cpu").model
    assert parameters_in(model_folders["llama"]) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_weights_that_are_larger_than_the_device_are_refused_before_they_are_read(
    model_folders, monkeypatch, quantization
):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10_000)
    monkeypatch.setattr(door.AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises(ModelError, match=r"its weights take 0\.00 GiB and cpu has 0\.00 GiB free: ") as error:
        load_causal_lm(model_folders["llama"], device="cpu", quantization=quantization)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("device_map", "places"),
    [("auto", "GPU 0, GPU 1"), ({"model": "cuda:0", "lm_head": "cuda:1"}, "cuda:0, cuda:1")],
    ids=["auto", "by hand"],
)
def test_two_devices_are_refused_in_one_line(model_folders, monkeypatch, device_map, places):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(door.AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises(
        ModelError, match=rf"device_map would put it on {places}, and adapters need it on one device"
    ) as error:
        load_causal_lm(model_folders["llama"], device="cpu", device_map=device_map)
    assert len(str(error.value).splitlines()) == 1


def test_expanded_keys_give_the_same(monkeypatch):
    plain, expanded = llama(), llama()
    assert expand_keys(expanded) and expanded.config._attn_implementation == NAME
    ids, mask = torch.randint(0, 16, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    mask[0, :4] = 0
    asked, original = [], torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, *args, enable_gqa=False, **options):
        asked.append((enable_gqa, query.shape[1] == key.shape[1]))
        return original(query, key, *args, enable_gqa=enable_gqa, **options)

    for options in ({}, {"attention_mask": mask}):
        torch.testing.assert_close(plain(ids, **options).logits, expanded(ids, **options).logits)
    cached = expanded(ids[:, :-1], use_cache=True).past_key_values
    torch.testing.assert_close(
        expanded(ids[:, -1:], past_key_values=cached).logits[:, 0], plain(ids).logits[:, -1], atol=1e-5, rtol=1e-5
    )
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    expanded(ids)
    assert asked == [(False, True)] * 2
    assert not expand_keys(expanded), "only once"


def test_an_old_card_keeps_no_matrix_of_scores():
    """Peak memory of a forward on the simulated device, which takes the kernel that CUDA would take."""
    peaks = {}
    with simulated_cuda(capability=(7, 5)):
        model = llama().half().to("cuda")
        ids = torch.zeros(1, 256, dtype=torch.long, device="cuda")
        assert expand_keys(model)
        for name in (NAME, "sdpa"):
            model.set_attn_implementation(name)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            with torch.no_grad():
                model.model(ids, use_cache=False)
            peaks[name] = torch.cuda.max_memory_allocated() - before
    assert peaks[NAME] < peaks["sdpa"] - 2 * 4 * 256 * 256, "the float16 scores of four heads"


def test_which_cards_need_it():
    for capability, name in (((7, 5), NAME), ((9, 0), "sdpa")):
        with simulated_cuda(capability=capability):
            assert loading.needs_expanding(torch.device("cuda")) == (name == NAME)
    assert not loading.needs_expanding(torch.device("cpu"))


def test_free_memory_counts_what_torch_holds_unused(monkeypatch):
    assert free_bytes(torch.device("cpu")) > 0
    held = SimpleNamespace(mem_get_info=(100, 1000), memory_reserved=70, memory_allocated=20)
    for name, value in vars(held).items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 150

"""Adapters in PEFT's format as part of a base: the same logits as peft's own, and one line where they do not fit."""

import json

import pytest
import torch
from lm_tokenizers import char_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from arc_helpers.lm.adapter import AdapterError, attach_adapter, read_adapter
from arc_helpers.lm.loading import ModelError, load_causal_lm

peft = pytest.importorskip("peft")
IDS = torch.tensor([[1, 5, 9, 7, 3, 20, 31]])


def llama(tied: bool = False, width: int = 64) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(char_tokenizer()),
        hidden_size=width,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    llama().save_pretrained(folder)
    char_tokenizer().save_pretrained(folder)
    return folder


def made(folder, base, **changes):
    """An adapter as peft writes it, with random weights."""
    model = AutoModelForCausalLM.from_pretrained(base)
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}
    model = peft.get_peft_model(model, peft.LoraConfig(**{**options, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "trainable_tokens" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    with torch.no_grad():
        return model(IDS).logits


KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "rows": {"trainable_token_indices": {"embed_tokens": [3, 1, 7], "lm_head": [3, 1, 7]}},
    "embedding and head": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "in full": {"modules_to_save": ["embed_tokens", "lm_head"]},
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_peft_does(kind, base, tmp_path):
    expected = made(tmp_path / "adapter", base, **KINDS[kind])
    for options in ({"start_adapter": tmp_path / "adapter"}, {}):
        lm = load_causal_lm(base if options else tmp_path / "adapter", device="cpu", **options)
        torch.testing.assert_close(lm.model(IDS).logits, expected, atol=2e-5, rtol=1e-5)
        assert lm.name == "base+adapter" and any("with the adapter adapter" in note for note in lm.notes)
    assert not torch.allclose(load_causal_lm(base, device="cpu").model(IDS).logits, expected, atol=0.1)


@torch.no_grad()
def test_a_head_that_was_tied_goes_its_own_way_where_only_one_side_was_adapted(tmp_path):
    llama(tied=True).save_pretrained(tmp_path / "base")
    options = {"target_modules": ["q_proj", "lm_head"]}
    expected = made(tmp_path / "adapter", tmp_path / "base", **options)
    model = llama(tied=True)
    attach_adapter(model, read_adapter(tmp_path / "adapter"))
    torch.testing.assert_close(model(IDS).logits, expected, atol=2e-5, rtol=1e-5)
    assert model.lm_head.weight is not model.model.embed_tokens.weight


@torch.no_grad()
def test_rows_of_tied_embeddings_stay_tied(tmp_path):
    llama(tied=True).save_pretrained(tmp_path / "base")
    expected = made(tmp_path / "adapter", tmp_path / "base", trainable_token_indices={"embed_tokens": [3, 1, 7]})
    model = llama(tied=True)
    attach_adapter(model, read_adapter(tmp_path / "adapter"))
    torch.testing.assert_close(model(IDS).logits, expected, atol=2e-5, rtol=1e-5)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@torch.no_grad()
def test_beside_a_4bit_base_it_is_added_in_full_precision(base, tmp_path):
    pytest.importorskip("bitsandbytes")
    made(tmp_path / "adapter", base)
    options = {"device": "cpu", "quantization": "4bit"}
    lm = load_causal_lm(base, start_adapter=tmp_path / "adapter", **options)
    expected = peft.PeftModel.from_pretrained(load_causal_lm(base, **options).model, tmp_path / "adapter").eval()
    torch.testing.assert_close(lm.model(IDS).logits, expected(IDS).logits, atol=1e-4, rtol=1e-4)
    assert any("start_adapter" in name for name, _ in lm.model.named_parameters()), "a resumed run compares it"


def broken(folder, config=None, tensors=None):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
    if tensors:
        save_file(tensors(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"peft_type": "IA3"}, None, "peft_type = IA3: must be LORA"),
        ({"use_dora": True}, None, "use_dora = True: only plain LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, None, "rank_pattern = {'q_proj': 2}: only plain LoRA"),
        ({"r": 0}, None, "r = 0, lora_alpha = 8: must be numbers"),
        ({}, lambda t: {n: v * float("nan") for n, v in t.items()}, "is not finite"),
        ({}, lambda t: {n: v for n, v in t.items() if "lora_A" in n}, "does not belong to this base: "),
        (
            {},
            lambda t: {n.replace("q_proj", "query"): v for n, v in t.items()},
            "which has no model.layers.0.self_attn",
        ),
        ({}, lambda t: {n + ".more": v for n, v in t.items()}, "is no part of a plain LoRA"),
    ],
)
def test_a_bad_adapter_is_one_line(config, tensors, message, base, tmp_path):
    made(tmp_path / "adapter", base)
    broken(tmp_path / "adapter", config, tensors)
    with pytest.raises(AdapterError) as caught:
        load_causal_lm(base, device="cpu", start_adapter=tmp_path / "adapter")
    assert message in str(caught.value) and str(tmp_path / "adapter") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_models_adapter_is_refused_and_changes_nothing(base, tmp_path):
    llama(width=32).save_pretrained(tmp_path / "narrow")
    made(tmp_path / "adapter", tmp_path / "narrow")
    model = llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(AdapterError, match=r"does not belong to this base: model\.layers\.0\..* is \(64, 128\)"):
        attach_adapter(model, read_adapter(tmp_path / "adapter"))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_folders_that_are_missing(base, tmp_path):
    made(tmp_path / "adapter", base)
    with pytest.raises(AdapterError, match=r"nowhere: has no adapter_config\.json"):
        load_causal_lm(base, device="cpu", start_adapter=tmp_path / "nowhere")
    broken(tmp_path / "adapter", {"base_model_name_or_path": "gone/model"})
    with pytest.raises(ModelError, match="is an adapter of gone/model, which is not here; give the base as model_dir"):
        load_causal_lm(tmp_path / "adapter", device="cpu")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"has no adapter_model\.safetensors"):
        load_causal_lm(base, device="cpu", start_adapter=tmp_path / "adapter")

"""The recipe, its control, the 4-bit base, the token, and the pipeline."""

import json
import sys
import types

import pytest
import torch

from arc_helpers import liza
from arc_helpers.liza import checks, titanize
from arc_helpers.liza.repair import MODES
from arc_helpers.lm.door import hub_token


def test_the_recipe_is_the_originals(llama):
    model = liza.titanize_model(llama, operator_mode="delta_rule")
    config = model.config
    lora = config.lora_config
    assert config.mag_weight == liza.mag_weight(model) == 0.01
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (8, 16, 0.05)
    assert sorted(lora["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 4 * 2 and all(".lora_" in name for name in trained)  # A and B, four modules, two layers
    assert not model.training and liza.is_repaired(model) and len(list(liza.liza_layers(model))) == 2
    assert liza.inner_model(model).get_base_model().config._attn_implementation == "eager"


def test_a_learned_gate_starts_as_the_base_and_is_kept_with_the_adapters(llama, ids):
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    options = {"operator_mode": "delta_rule", "mag_weight": 1.0, "base_scale_attn": True, "learned_gate": True}
    model = liza.titanize_model(llama, **options)
    inner, ids = liza.inner_model(model), ids[:, :32]
    with torch.no_grad():
        base = liza.lora_only(llama)(input_ids=ids).logits
        assert (inner(input_ids=ids).logits - base).abs().max() <= 1e-6
    inner(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    gates = {n: p for n, p in model.named_parameters() if "lora_gate" in n}
    assert len(gates) == 2 and all(p.requires_grad and p.grad.abs().max() > 0 for p in gates.values())
    with torch.no_grad():
        for gate in gates.values():
            gate.fill_(0.3)
        stirred = inner(input_ids=ids).logits
        assert (stirred - base).abs().max() > 1e-3
        fresh = liza.titanize_model(llama, **options)
        set_peft_model_state_dict(liza.inner_model(fresh), get_peft_model_state_dict(inner))  # as a checkpoint does
        assert torch.equal(liza.inner_model(fresh)(input_ids=ids).logits, stirred)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns_with_all_its_adapters(make, mode, ids):
    gradients = checks.lora_gradients(make(mode), ids[:, :32])
    assert set(gradients) == set(titanize.TARGETS) and min(gradients.values()) > 0


def test_the_control_has_the_same_adapters(llama, ids):
    def adapters(model):
        return {
            n.rpartition("layers.")[2].replace(".base_attn", ""): p
            for n, p in model.named_parameters()
            if "lora_A" in n
        }

    ours = adapters(liza.titanize_model(llama, operator_mode="delta_product", seed=3))
    control = liza.lora_only(llama, seed=3)
    theirs, others = adapters(control), adapters(liza.lora_only(llama, seed=4))
    assert ours.keys() == theirs.keys() and len(ours) == 8
    for name, parameter in ours.items():
        assert torch.equal(parameter, theirs[name]) and not torch.equal(parameter, others[name])
    assert not list(liza.liza_layers(control))


def test_a_4bit_base_learns(llama, ids):
    pytest.importorskip("bitsandbytes")
    model = liza.titanize_model(llama, operator_mode="delta_rule", quantization="4bit", mag_weight=0.5, device="cpu")
    assert type(liza.inner_model(model).base_model.model.lm_head).__name__ != "Linear4bit"
    assert any(type(m).__name__ == "Linear4bit" for m in model.modules())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(5):
        loss = liza.inner_model(model)(input_ids=ids[:, :32], labels=ids[:, :32], use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01
    assert checks.decode_gap(model.eval(), ids[:, :40], 16) <= 1e-4


def test_other_architectures(tmp_path, llama):
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "mistral"}))
    with pytest.raises(liza.LizaError, match=r"model_type = 'mistral': must be one of llama, qwen2$"):
        liza.titanize_model(tmp_path, operator_mode="delta_rule")


def test_other_quantizations(llama):
    with pytest.raises(liza.LizaError, match=r"^quantization = '8bit': must be one of none, 4bit, 4bit-fp4$"):
        liza.titanize_model(llama, operator_mode="delta_rule", quantization="8bit")


def test_a_missing_folder():
    with pytest.raises(ValueError, match="no such folder"):
        liza.titanize_model("models/not-here", operator_mode="delta_rule")


def test_a_hub_id_is_not_fetched():
    with pytest.raises(ValueError, match="if it is a hub id, get it once: hf download nobody/nothing --local-dir"):
        liza.lora_only("nobody/nothing")


def test_where_the_token_comes_from(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "from the environment")
    assert hub_token() == "from the environment"
    monkeypatch.delenv("HF_TOKEN")
    assert hub_token() is None
    secrets = types.ModuleType("kaggle_secrets")
    secrets.UserSecretsClient = lambda: types.SimpleNamespace(get_secret={"HF_TOKEN": "a secret"}.__getitem__)
    monkeypatch.setitem(sys.modules, "kaggle_secrets", secrets)
    assert hub_token() == "a secret"
    secrets.UserSecretsClient = lambda: types.SimpleNamespace(get_secret={}.__getitem__)
    assert hub_token() is None
    assert "secret" not in capsys.readouterr().out.replace("no such Kaggle secret", "")


def test_the_pipeline_is_called_as_in_the_original(make, tokenizer):
    model = make()
    pipe = liza.TpttPipeline(model=model, tokenizer=tokenizer, device="cpu")
    result = pipe("the list of key", max_new_tokens=5)
    assert list(result[0]) == ["generated_text"] and result[0]["generated_text"].startswith("the list of key")
    ids = tokenizer("the list of key", return_tensors="pt").input_ids
    whole = liza.inner_model(model).generate(ids, max_new_tokens=5, do_sample=False, use_cache=False, pad_token_id=0)
    assert result[0]["generated_text"] == tokenizer.decode(whole[0], skip_special_tokens=True)
    assert pipe("the", max_new_tokens=3, do_sample=True, top_k=1) == pipe("the", max_new_tokens=3)

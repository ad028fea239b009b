"""Saved here, loaded in a fresh process without a network."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from liza_models import stir
from safetensors.torch import load_file, save_file

from arc_helpers import liza, lm

FRESH = """
import sys, torch
from safetensors.torch import load_file, save_file
from arc_helpers import liza
model, tokenizer = liza.load_liza(sys.argv[1])
assert not [name for name in sys.modules if name.startswith("transformers_modules.")], "no code of the folder"
with torch.no_grad():
    logits = model(load_file(sys.argv[2])["ids"]).logits
text = liza.TpttPipeline(model=model, tokenizer=tokenizer)("the list of key", max_new_tokens=6)[0]["generated_text"]
from transformers import AutoModelForCausalLM
original = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
with torch.no_grad():
    by_the_originals_line = original(load_file(sys.argv[2])["ids"]).logits
state = {"logits": logits, "mag": torch.tensor(liza.mag_weight(model)), "training": torch.tensor(model.training)}
state["original"] = by_the_originals_line
save_file(state, sys.argv[3])
print(text, liza.is_repaired(model), sep="|")
"""


@pytest.fixture(scope="module")
def saved(llama, tokenizer, tmp_path_factory):
    model = stir(liza.titanize_model(llama, operator_mode="delta_rule"))
    liza.set_mag_weight(model, 0.37)
    return model, liza.save_liza(model, tokenizer, tmp_path_factory.mktemp("saved") / "model")


def test_a_fresh_process_gives_the_same_logits(saved, ids, tokenizer, tmp_path, network_attempts):
    model, folder = saved
    save_file({"ids": ids}, tmp_path / "ids.safetensors")
    command = [
        sys.executable,
        "-c",
        FRESH,
        str(folder),
        str(tmp_path / "ids.safetensors"),
        str(tmp_path / "out.safetensors"),
    ]
    env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    found = load_file(tmp_path / "out.safetensors")
    assert network_attempts() == []
    with torch.no_grad():
        assert (found["logits"] - model(ids).logits).abs().max() <= 1e-6
        assert (found["original"] - model(ids).logits).abs().max() <= 1e-6
    assert found["mag"].item() == pytest.approx(0.37) and not found["training"].item()
    text = liza.TpttPipeline(model=model, tokenizer=tokenizer)("the list of key", max_new_tokens=6)[0]["generated_text"]
    assert done.stdout.rstrip("\n").endswith(f"{text}|True")


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_window_and_library_are_remembered(llama, tokenizer, ids, tmp_path):
    model = liza.set_window(liza.titanize_model(llama, operator_mode="delta_product"), 24, 3)
    again, _ = liza.load_liza(liza.save_liza(model, tokenizer, tmp_path / "windowed"))
    with torch.no_grad():
        assert (again(ids).logits - model(ids).logits).abs().max() <= 1e-6
    library = liza.titanize_model(llama, operator_mode="gated_delta_rule", repaired=False, mag_weight=0.5)
    again, _ = liza.load_liza(liza.save_liza(library, tokenizer, tmp_path / "library"))
    assert not liza.is_repaired(again)
    with torch.no_grad():
        assert (again(ids).logits - library(ids).logits).abs().max() <= 1e-6


def test_switches_are_remembered(llama, tokenizer, ids, tmp_path):
    switches = {"base_scale_attn": True, "learned_gate": True}
    model = stir(liza.titanize_model(llama, operator_mode="delta_rule", mag_weight=1.0, **switches))
    again, _ = liza.load_liza(liza.save_liza(model, tokenizer, tmp_path / "gated"))
    with torch.no_grad():
        assert (again(ids).logits - model(ids).logits).abs().max() <= 1e-6
        liza.set_mag_weight(again, 0.0)
        assert (again(ids).logits - model(ids).logits).abs().max() > 1e-4, "the gates were open"


def test_a_base_that_was_moved(saved, llama, ids, tmp_path):
    model, folder = saved
    folder = copy_of(folder, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "base_model_name": "/not/here"}))
    with pytest.raises(
        liza.LizaError, match=r"^/not/here: the base model is not there any more; pass base=<its folder>$"
    ):
        liza.load_liza(folder)
    again, _ = liza.load_liza(folder, base=shutil.copytree(llama, tmp_path / "moved"))
    with torch.no_grad():
        assert (again(ids).logits - model(ids).logits).abs().max() <= 1e-6


def test_a_hub_id_comes_by_the_one_door(saved, ids, monkeypatch):
    model, folder = saved
    monkeypatch.setattr("arc_helpers.lm.door._download", lambda hub_id: {"somebody/liza": folder}[hub_id])
    with pytest.raises(lm.ModelError, match="if it is a hub id, get it once"):
        liza.load_liza("somebody/liza")
    from arc_helpers.liza.reload import LizaModel

    again = LizaModel.from_pretrained("somebody/liza")
    with torch.no_grad():
        assert (again(ids).logits - model(ids).logits).abs().max() <= 1e-6


def test_no_code_of_a_folder_is_run(saved, ids, tmp_path):
    folder = copy_of(saved[1], tmp_path)
    ran = tmp_path / "ran"
    for name in ("liza_folder.py", "modeling_tptt.py"):
        with (folder / name).open("a") as file:
            file.write(f"\nopen({str(ran)!r}, 'w')\n")
    for name in ("config", "tokenizer_config"):
        settings = json.loads((folder / f"{name}.json").read_text())
        evil = {"AutoModelForCausalLM": "someone/else--evil.Model", "AutoTokenizer": [None, "someone/else--evil.T"]}
        (folder / f"{name}.json").write_text(json.dumps({**settings, "auto_map": evil}))
    again, _ = liza.load_liza(folder)
    with torch.no_grad():
        assert (again(ids).logits - saved[0](ids).logits).abs().max() <= 1e-6
    assert not ran.exists()


@pytest.mark.parametrize(("field", "value"), [("target_modules", ["q_proj"]), ("use_dora", True)])
def test_a_folder_of_another_recipe(saved, tmp_path, field, value):
    folder = copy_of(saved[1], tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    settings["lora_config"][field] = value
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(liza.LizaError, match=rf"is of another recipe \(lora_config\.{field} = "):
        liza.load_liza(folder)


def test_adapters_of_another_base(saved, folders, tmp_path):
    folder = copy_of(saved[1], tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    first = sorted(tensors)[0]
    save_file({n: t for n, t in tensors.items() if n != first}, folder / "adapter_model.safetensors")
    with pytest.raises(liza.LizaError, match=r"does not fit its base .* on one side only"):
        liza.load_liza(folder)


def test_a_folder_of_somebody_else(llama):
    with pytest.raises(liza.LizaError, match=r"has no liza\.json; only folders that save_liza has written are loaded$"):
        liza.load_liza(llama)

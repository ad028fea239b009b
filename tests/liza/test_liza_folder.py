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

from arc_helpers import liza

FRESH = """
import sys, torch
from safetensors.torch import load_file, save_file
from arc_helpers import liza
model, tokenizer = liza.load_liza(sys.argv[1])
assert type(model).__module__.startswith("transformers_modules."), "the folder's own code"
with torch.no_grad():
    logits = model(load_file(sys.argv[2])["ids"]).logits
text = liza.TpttPipeline(model=model, tokenizer=tokenizer)("the list of key", max_new_tokens=6)[0]["generated_text"]
state = {"logits": logits, "mag": torch.tensor(liza.mag_weight(model)), "training": torch.tensor(model.training)}
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


@pytest.mark.parametrize("name", ["modeling_tptt.py", "extra.py"])
def test_foreign_code_is_not_run(saved, tmp_path, name):
    folder = copy_of(saved[1], tmp_path)
    ran = tmp_path / "ran"
    with (folder / name).open("a") as file:
        file.write(f"\nopen({str(ran)!r}, 'w')\n")
    with pytest.raises(liza.LizaError, match=rf"{name}: sha256 \w{{12}}… is not that of tptt 0\.12\.1: not run$"):
        liza.load_liza(folder)
    assert not ran.exists()


def test_a_folder_of_somebody_else(llama):
    with pytest.raises(liza.LizaError, match=r"has no liza\.json; only folders that save_liza has written are loaded$"):
        liza.load_liza(llama)


@pytest.mark.parametrize("name", ["config", "tokenizer_config"])
def test_a_folder_that_sends_the_loader_elsewhere(saved, tmp_path, name):
    folder = copy_of(saved[1], tmp_path)
    settings = json.loads((folder / f"{name}.json").read_text())
    settings["auto_map"] = {
        "AutoModelForCausalLM": "someone/else--evil.Model",
        "AutoTokenizer": [None, "someone/else--evil.T"],
    }
    (folder / f"{name}.json").write_text(json.dumps(settings))
    with pytest.raises(liza.LizaError, match=rf"/{name}\.json: auto_map = .*: must be "):
        liza.load_liza(folder)

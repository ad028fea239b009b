"""A slot is an ordinary PEFT checkpoint; peft is needed by these tests alone."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from arc_helpers.lm.door import open_tensors
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import Encoded, encode
from arc_helpers.ttt.cache import prepare
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel, adapted_linears
from arc_helpers.ttt.peft_io import save_slot
from arc_helpers.ttt.trainer import train_slots

peft = pytest.importorskip("peft")


def random_adapters(lm, mode: str, names=("a", "b"), **options) -> MultiLoRAModel:
    """Adapters far from their first weights, norms, embedding and head included."""
    model = MultiLoRAModel(lm, list(names), r=4, mode=mode, **{"top_m": 1, **options})
    torch.manual_seed(5)
    with torch.no_grad():
        model.bank.flat.add_(0.05 * torch.randn_like(model.bank.flat))
    return model


def ids_of(lm, task) -> torch.Tensor:
    return torch.from_numpy(encode(task, lm.prompt_form).input_ids)[None]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")  # peft's about tied weights
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train_vocab": False, "use_rslora": True, "target_modules": ["q_proj"]},
        {"use_rslora": True, "target_modules": ["q_proj", "up_proj", "lm_head"]},
        {"use_rslora": True, "target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"train_vocab": False, "target_modules": ["embed_tokens"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", MODES)
def test_peft_loads_it_with_the_same_logits(lm, tasks, tmp_path, mode, options):
    if mode != "full" and "embed_tokens" in options.get("target_modules", ()):
        options = {**options, "target_modules": ["q_proj"]}  # what stands before the first layer is frozen there
    model = random_adapters(lm, mode, **options)
    ids, slot = ids_of(lm, tasks[0]), torch.tensor([1])
    ours = model(ids, slot)
    assert (ours - lm.model(ids).logits).abs().max() > 1e-2
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(lm.model), save_slot(model, 1, tmp_path / "b")).eval()
    torch.testing.assert_close(loaded(input_ids=ids).logits, ours, atol=1e-5, rtol=1e-5)
    loaded.save_pretrained(tmp_path / "peft")  # PEFT writes the same, and a frozen head beside it
    own, theirs = (open_tensors(tmp_path / folder / "adapter_model.safetensors") for folder in ("b", "peft"))
    assert own.keys() == {name for name in theirs if ".base_layer." not in name}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in own.items())


def test_the_config_is_plain_json(gridlm, tmp_path):
    config = json.loads((save_slot(random_adapters(gridlm, "head"), 0, tmp_path) / "adapter_config.json").read_text())
    assert config["target_modules"] == ["lm_head"] and config["r"] == 4 and config["modules_to_save"] is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_nothing_here_imports_peft():
    modules = "arc_helpers.ttt.peft_io, arc_helpers.ttt.trainer, arc_helpers.ttt.decode"
    code = f"import sys, {modules}; print('peft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def exact(lms) -> LoadedLM:
    """A Llama in float64 throughout: its own norm computes in float32."""
    base = lms["llama"]
    model = LlamaForCausalLM(LlamaConfig(**base.model.config.to_diff_dict()))
    model.load_state_dict(base.model.state_dict())
    for layer in model.model.layers:
        layer.input_layernorm, layer.post_attention_layernorm = nn.RMSNorm(64, 1e-6), nn.RMSNorm(64, 1e-6)
    model.model.norm = nn.RMSNorm(64, 1e-6)
    model = model.double().eval().requires_grad_(False)
    return LoadedLM(model, base.tokenizer, base.prompt_form, "llama", 512, torch.device("cpu"), torch.float64)


def train_with_peft(
    lm: LoadedLM, model: MultiLoRAModel, k: int, example: Encoded, steps: int, lr: float
) -> torch.Tensor:
    """Slot k's training with PEFT, torch's AdamW and clip, from the same first weights; its row of the bank."""
    names = list(adapted_linears(lm, None, model.first_layer))
    config = peft.LoraConfig(r=model.r, lora_alpha=model.lora_alpha, target_modules=names)
    alone = peft.get_peft_model(copy.deepcopy(lm.model), config, autocast_adapter_dtype=False)
    weights = {}
    for name in names:
        layer = alone.base_model.model.get_submodule(name)
        weights |= {f"{name}.A": layer.lora_A["default"].weight, f"{name}.B": layer.lora_B["default"].weight}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(model.bank[name][k])
    optimizer = torch.optim.AdamW(weights.values(), lr=lr, weight_decay=0.01)
    ids, labels, norms = torch.from_numpy(example.input_ids)[None], torch.from_numpy(example.labels), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        nn.functional.cross_entropy(alone(input_ids=ids).logits[0, :-1], labels[1:]).backward()
        norms.append(nn.utils.clip_grad_norm_(weights.values(), 0.5).item())
        optimizer.step()
    assert max(norms) > 0.5, "the clip must matter"
    return torch.cat([weights[name].detach().flatten() for name in model.bank.names])


@pytest.mark.parametrize("mode", ["top_m", "full"])
def test_k_stacked_equal_k_trainings_of_peft(exact, tasks, mode):
    """Ragged lengths, a clip an adapter, weight decay, 20 steps; top_m on cached states."""
    pools = [[encode(task, exact.prompt_form, all_outputs=True)] for task in tasks]
    options = {"r": 4, "mode": mode, "top_m": 1, "train_vocab": False, "dtype": torch.float64}
    model = MultiLoRAModel(exact, ["a", "b", "c"], **options)
    first = MultiLoRAModel(exact, ["a", "b", "c"], **options)
    examples = prepare(model, pools)
    train_slots(model, examples, steps=20, lr=1e-2, weight_decay=0.01, max_grad_norm=0.5, warmup=0.0)
    for k, pool in enumerate(pools):
        expected = train_with_peft(exact, first, k, pool[0], steps=20, lr=1e-2)
        assert (expected - first.bank.flat[k]).abs().max() > 1e-2
        torch.testing.assert_close(model.bank.flat[k], expected, atol=1e-10, rtol=0)

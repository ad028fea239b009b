"""One slot as an ordinary PEFT checkpoint: a folder that `PeftModel.from_pretrained(base, folder)` loads.

    adapter_config.json          a LoraConfig
    adapter_model.safetensors    base_model.model.<module>.lora_A.weight [r, in], .lora_B.weight [out, r];
                                 base_model.model.<module>.weight for what was trained in full (modules_to_save)

Mode "head" becomes a LoRA on the LM head W [V, H]: (h + s·h·A·B)·Wᵀ = h·Wᵀ + s·h·A·(W·Bᵀ)ᵀ, so lora_A = Aᵀ and
lora_B = W·Bᵀ. The format is written here, so peft need not be installed.
"""

from pathlib import Path

import torch
from torch import Tensor

from arc_helpers.lm.decoder import embedding_scale, gain_of
from arc_helpers.runs.checkpoint import atomic_write_bytes, atomic_write_json
from arc_helpers.ttt.multilora import MultiLoRAModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's wrappers around the model


@torch.no_grad()
def save_slot(model: MultiLoRAModel, k: int, folder: str | Path) -> Path:
    """Write slot k's adapter; returns the folder. Weights first, config last: a folder with a config is whole."""
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {PREFIX + name: value.cpu().contiguous() for name, value in _to_peft(model, model.bank.slot(k)).items()}
    atomic_write_bytes(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    atomic_write_json(folder / CONFIG, _config(model))
    return folder


def _to_peft(model: MultiLoRAModel, slot: dict[str, Tensor]) -> dict[str, Tensor]:
    """A slot's tensors under PEFT's names: LoRA factors, and whole weights where it was trained in full."""
    head = _name_of(model, model.lm.head)
    if model.mode == "head":
        lora_B = model.lm.head.weight.to(slot["B"].dtype) @ slot["B"].T
        return {f"{head}.lora_A.weight": slot["A"].T, f"{head}.lora_B.weight": lora_B}
    tensors = {}
    for name, value in slot.items():
        if name.endswith((".A", ".B")):
            where, turned = _factor(model, name)
            tensors[where] = value.T if turned else value
        else:
            where, base, unit = _whole(model, name)
            tensors[where] = base + unit * value
            module = model.lm.model.get_submodule(where.removesuffix(".weight"))
            if getattr(module, "bias", None) is not None:  # PEFT replaces the module: its bias goes along, unchanged
                tensors[f"{where.removesuffix('weight')}bias"] = module.bias.to(base.dtype)
    return tensors


def _factor(model: MultiLoRAModel, name: str) -> tuple[str, bool]:
    """PEFT's name of a low-rank factor, and whether it stands turned there."""
    module, _, kind = name.rpartition(".")
    if module == "embedding":
        return f"{_name_of(model, model.lm.model.get_input_embeddings())}.lora_embedding_{kind}", True
    return f"{_name_of(model, model.lm.head) if module == 'head' else module}.lora_{kind}.weight", False


def _whole(model: MultiLoRAModel, name: str) -> tuple[str, Tensor, Tensor]:
    """Of something trained in full: the name of its weight in the base, that weight in the adapters' dtype, and by how
    much the weight moves where the slot's number is 1."""
    dtype = model.bank.flat.dtype
    if name.endswith(".scale"):
        module = model.lm.model.get_submodule(name.removesuffix(".scale"))
        unit = gain_of(module).to(dtype)
    else:
        module = model.lm.head if name == "head" else model.lm.model.get_input_embeddings()
        unit = torch.ones((), dtype=dtype, device=module.weight.device)
        if name == "embedding":  # a slot's change is added behind the scale that some models have
            unit = unit / embedding_scale(module)
    return f"{_name_of(model, module)}.weight", module.weight.to(dtype), unit


def _name_of(model: MultiLoRAModel, module: torch.nn.Module) -> str:
    return next(name for name, m in model.lm.model.named_modules() if m is module)


def _config(model: MultiLoRAModel) -> dict:
    """What PEFT's LoraConfig needs to know; it fills in the rest. Modules go by full names, which name one each."""
    names = model.bank.names
    if model.mode == "head":
        targets, whole = [_name_of(model, model.lm.head)], []
    else:
        ends = {"embedding": model.lm.model.get_input_embeddings(), "head": model.lm.head}
        adapted = [name.removesuffix(".A") for name in names if name.endswith(".A")]
        targets = [_name_of(model, ends[name]) if name in ends else name for name in adapted]
        whole = [_whole(model, name)[0].removesuffix(".weight") for name in names if not name.endswith((".A", ".B"))]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.lm.name,
        "inference_mode": True,
        "r": model.r,
        "lora_alpha": model.lora_alpha,
        "use_rslora": model.use_rslora,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(targets),
        "modules_to_save": whole or None,
    }

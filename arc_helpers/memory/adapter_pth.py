"""Adapters as one .pth file, the form of the original scripts: a state dict, with PEFT's config where we wrote it.

Of other hands a bare state dict is read, too: a LoRA (<module>.lora_A, .lora_B; ranks may differ from module to module;
alpha where the file tells it, else the rank) or a TinyLoRA (<module>.tinylora_A, _B, _P and the shared _v).
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arc_helpers.lm.door import check_finite
from arc_helpers.lm.folder import ModelError
from arc_helpers.memory.adapters import AdapterError, base_of, check_base, quiet
from arc_helpers.runs import CheckpointError, load_state, replacing

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

PREFIX = "base_model.model."  # PEFT's wrappers around the model
PART = re.compile(r"^(?:base_model\.model\.)?(.+)\.(lora|tinylora)_([ABP])(?:\.default)?(?:\.weight)?$")
ALPHA = re.compile(r"^(?:base_model\.model\.)?(?:(.+)\.)?(?:lora_)?alpha$")


def write_pth(wrapped: "PeftModel", path: Path) -> Path:
    """Write the adapter's tensors, its PEFT config as plain values, and which base it belongs to."""
    from peft import get_peft_model_state_dict

    config = {name: _plain(value) for name, value in wrapped.peft_config["default"].to_dict().items()}
    state = {name: tensor.detach().cpu() for name, tensor in get_peft_model_state_dict(wrapped).items()}
    with replacing(path) as draft:
        torch.save({"state_dict": state, "peft_config": config, "base": wrapped.ttt_base}, draft)
    return path


def read_pth(model: PreTrainedModel, path: Path) -> "PeftModel":
    """Wrap the model with the adapter of a .pth file. Raises AdapterError, one line, for what does not fit."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    if not path.is_file():
        raise AdapterError(f"{path}: no such file")
    try:
        saved = load_state(path, model.device)
        state = saved.get("state_dict", saved)
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        check_finite(path, tensors)
    except CheckpointError as error:
        raise AdapterError(f"{path}: is not a file of tensors ({error})") from None
    except ModelError as error:
        raise AdapterError(str(error)) from None
    own = base_of(model)
    if "base" in saved:
        check_base(path, saved["base"], own)
    config = _config(saved["peft_config"]) if "peft_config" in saved else _guessed(path, model, state)
    with quiet():
        wrapped = get_peft_model(model, config)
    wanted = get_peft_model_state_dict(wrapped)
    named = {_full_name(name): value for name, value in tensors.items() if not ALPHA.match(name)}
    odd = sorted(wanted.keys() ^ named.keys()) or [n for n in wanted if wanted[n].shape != named[n].shape]
    if odd:
        raise AdapterError(f"{path}: does not fit this base ({odd[0][:120]} is on one side only, or of another shape)")
    set_peft_model_state_dict(wrapped, named)
    wrapped.ttt_base = own
    return wrapped.eval()


def _config(values: dict[str, Any]) -> "PeftConfig":
    from peft import LoraConfig, TinyLoraConfig

    maker = TinyLoraConfig if values["peft_type"] == "TINYLORA" else LoraConfig
    known = maker.__dataclass_fields__
    return maker(**{name: value for name, value in values.items() if name in known and name != "peft_type"})


def _guessed(path: Path, model: PreTrainedModel, state: dict[str, Any]) -> "PeftConfig":
    """The config of a bare state dict, by its names and shapes, which have to be this base's."""
    from peft import LoraConfig, TinyLoraConfig

    parts: dict[str, dict[str, Tensor]] = {}
    kinds = set()
    for name, tensor in state.items():
        found = PART.match(name)
        if found and isinstance(tensor, Tensor):
            parts.setdefault(found[1], {})[found[3]] = tensor
            kinds.add(found[2])
    if len(kinds) != 1:
        raise AdapterError(f"{path}: holds no adapter (tensors named <module>.lora_A and .lora_B, or .tinylora_A …)")
    modules = dict(model.named_modules())
    for name, own in parts.items():
        _check_module(path, name, own, modules.get(name))
    targets = sorted(parts)
    ranks = {name: own["A"].shape[0] for name, own in parts.items()}
    first = ranks[targets[0]]
    if kinds == {"lora"}:
        alphas = {name: float(ranks[name]) for name in targets}
        for name, value in state.items():
            found = ALPHA.match(name)
            if found and (found[1] or targets[0]) in alphas:
                alphas |= dict.fromkeys([found[1]] if found[1] else targets, float(value))
        exact = {name: re.escape(name) for name in targets}
        return LoraConfig(
            r=first,
            lora_alpha=alphas[targets[0]],
            target_modules=targets,
            rank_pattern={exact[name]: rank for name, rank in ranks.items() if rank != first},
            alpha_pattern={exact[name]: a for name, a in alphas.items() if a != alphas[targets[0]]},
        )
    if any("P" not in own for own in parts.values()) or len(set(ranks.values())) > 1:
        raise AdapterError(f"{path}: is a TinyLoRA without its projections (<module>.tinylora_P), or of several ranks")
    shared = {name for name in state if ".tinylora_v" in name or name.startswith("tinylora_v")}
    tying = 1 - len(shared) / len(targets)
    u = parts[targets[0]]["P"].shape[0]
    return TinyLoraConfig(r=first, u=u, weight_tying=tying, target_modules=targets)


def _check_module(path: Path, name: str, own: dict[str, Tensor], module: nn.Module | None) -> None:
    if "A" not in own or "B" not in own:
        raise AdapterError(f"{path}: {name} has only one of its two matrices, A and B")
    a, b = own["A"], own["B"]
    if a.shape[0] != b.shape[1]:
        raise AdapterError(f"{path}: {name} is of rank {a.shape[0]} in A and {b.shape[1]} in B: must be the same")
    if module is None:
        raise AdapterError(f"{path}: is for another model: it has {name}, which this base has not")
    if (getattr(module, "in_features", 0), getattr(module, "out_features", 0)) != (a.shape[1], b.shape[0]):
        raise AdapterError(f"{path}: {name} [{b.shape[0]}, r] · [r, {a.shape[1]}] does not fit this base")


def _full_name(name: str) -> str:
    """The name that PEFT gives a tensor in a state dict."""
    found = PART.match(name)
    if found and found[2] == "lora":
        return f"{PREFIX}{found[1]}.lora_{found[3]}.weight"
    return name.replace(".default", "") if name.startswith("base_model.") else f"{PREFIX}{name}".replace(".default", "")


def _plain(value: Any) -> Any:
    """A value that torch.load gives back with weights_only."""
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, str):
        return str(getattr(value, "value", value))  # an enum of texts
    return value

"""Adapters on the slow weights, through PEFT: TinyLoRA (arXiv 2602.04118), its parent LoRA-XS, and LoRA.

    LoRA-XS    W + U S R Vᵀ               U, S, V: truncated SVD of W, frozen; R [r, r] trained
    TinyLoRA   W + U S (Σ v_i P_i) Vᵀ     P_i: fixed random [r, r]; v trained, shared by any number of modules

PEFT has no class for LoRA-XS; a TinyLoRA with u = r² spans the same set of R. The fast weights and their learning
rates are raw parameters, which PEFT freezes and never wraps: an adapter changes what the memory is fed, not the
memory. An adapter trained with the inner loop off is fitted to weights that will not stay as they are; train it
through the loop.
"""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from arc_helpers.lm.door import check_finite, open_adapter
from arc_helpers.lm.folder import ModelError
from arc_helpers.memory.decode import fingerprint
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.runs import CheckpointError, atomic_write_json, load_state, replacing_folder

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

ADAPTERS = ("tinylora-13", "tinylora", "lora-xs", "lora")
PREFIX = "base_model.model."  # PEFT's wrappers around the model
BASE = "ttt_base.json"  # beside PEFT's files: which base the adapter was trained on


class AdapterError(ValueError):
    """One line: which adapter, what does not fit."""


def adapter_config(kind: str, seed: int = 0) -> "PeftConfig":
    """tinylora-13: 13 numbers in all; tinylora: PEFT's default, 64 a module; lora-xs: R of 16 × 16; lora: r = 2.

    Raises AdapterError for another name.
    """
    from peft import LoraConfig, TinyLoraConfig

    common = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    match kind:
        case "tinylora-13":
            return TinyLoraConfig(r=2, u=13, weight_tying=1.0, projection_seed=seed, **common)
        case "tinylora":
            return TinyLoraConfig(r=2, u=64, projection_seed=seed, **common)
        case "lora-xs":
            return TinyLoraConfig(r=16, u=256, projection_seed=seed, **common)
        case "lora":
            return LoraConfig(r=2, lora_alpha=4, **common)
    raise AdapterError(f"adapter = {kind}: must be one of {', '.join(ADAPTERS)}")


def add_adapter(model: TTTForCausalLM, kind: str, seed: int = 0) -> "PeftModel":
    """Wrap the model; nothing but the adapter is trainable then, and at first it changes nothing.

    `wrapped.get_base_model()` is the model to read and decode with.
    """
    from peft import get_peft_model

    own = {"base": fingerprint(model), "vocab_size": model.config.vocab_size}
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")  # PEFT asks transformers in its old words
        wrapped = get_peft_model(model, adapter_config(kind, seed))
    wrapped.ttt_base = own
    return wrapped


def trainable(model: torch.nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_adapter(wrapped: "PeftModel", folder: str | Path) -> Path:
    """Write a PEFT folder, and which base it belongs to."""
    with replacing_folder(folder, "an adapter") as draft:
        wrapped.save_pretrained(draft)
        atomic_write_json(draft / BASE, wrapped.ttt_base)
    return Path(folder)


def load_adapter(model: TTTForCausalLM, path: str | Path) -> "PeftModel":
    """Wrap the model with a saved adapter, ready to use: a PEFT folder, or a .pth file of a LoRA's tensors.

    A .pth is read with weights_only. Raises AdapterError where the adapter is another base's.
    """
    path = Path(path)
    if path.suffix == ".pth":
        return _load_pth(model, path)
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(f"{path}: is no PEFT folder (adapter_config.json is missing) and no .pth file")
    own = {"base": fingerprint(model), "vocab_size": model.config.vocab_size}
    if (path / BASE).is_file():
        theirs = json.loads((path / BASE).read_text(encoding="utf-8"))
        if theirs["vocab_size"] != own["vocab_size"]:
            raise AdapterError(
                f"{path}: is for a base of {theirs['vocab_size']} tokens, this one has {own['vocab_size']}"
            )
        if theirs["base"] != own["base"]:
            raise AdapterError(f"{path}: is for the base {theirs['base']}, this one is {own['base']}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
        try:
            wrapped = open_adapter(model, path)
        except ModelError as error:
            raise AdapterError(str(error)) from None
    wrapped.ttt_base = own
    return wrapped.eval()


def _load_pth(model: TTTForCausalLM, path: Path) -> "PeftModel":
    """A state dict with …<module>.lora_A… [r, in] and .lora_B… [out, r]; its scale is 1 (alpha = r) unless it says."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    if not path.is_file():
        raise AdapterError(f"{path}: no such file")
    try:
        state = load_state(path, model.device)
    except CheckpointError as error:
        raise AdapterError(f"{path}: is not a file of tensors ({error})") from None
    state = state.get("state_dict", state)
    try:
        check_finite(path, state)
    except ModelError as error:
        raise AdapterError(str(error)) from None
    names = [name for name in state if ".lora_A" in name]
    first = {name.split(".lora_A")[0].removeprefix(PREFIX): state[name] for name in names}
    if not first:
        raise AdapterError(f"{path}: holds no LoRA (tensors named <module>.lora_A.weight)")
    known = dict(model.named_modules())
    for name, tensor in first.items():
        if name not in known or known[name].in_features != tensor.shape[1]:
            raise AdapterError(f"{path}: {name} [r, {tensor.shape[1]}] does not fit this base")
    own = {"base": fingerprint(model), "vocab_size": model.config.vocab_size}
    rank = next(iter(first.values())).shape[0]
    wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted(first)))
    prefixed = {PREFIX + name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    set_peft_model_state_dict(wrapped, prefixed)
    wrapped.ttt_base = own
    return wrapped.eval()

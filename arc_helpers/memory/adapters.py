"""Adapters on the slow weights, through PEFT: TinyLoRA (arXiv 2602.04118), its parent LoRA-XS, and LoRA.

    LoRA-XS    W + U S R Vᵀ               U, S, V: truncated SVD of W, frozen; R [r, r] trained
    TinyLoRA   W + U S (Σ v_i P_i) Vᵀ     P_i: fixed random [r, r]; v trained, shared by any number of modules

PEFT has no class for LoRA-XS; a TinyLoRA with u = r² spans the same set of R. The fast weights and their learning
rates are raw parameters, which PEFT freezes and never wraps: an adapter changes what the memory is fed, not the
memory. An adapter trained with the inner loop off is fitted to weights that will not stay as they are; train it
through the loop. An ordinary causal language model takes the same adapters.
"""

import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from arc_helpers.lm.door import open_adapter
from arc_helpers.lm.folder import ModelError
from arc_helpers.memory.decode import fingerprint
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.runs import atomic_write_json, replacing_folder

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

ADAPTERS = ("tinylora-13", "tinylora", "lora-xs", "lora")
BASE = "ttt_base.json"  # beside PEFT's files: which base the adapter was trained on


class AdapterError(ValueError):
    """One line: which adapter, what does not fit."""


def adapter_config(kind: str, seed: int = 0, r: int = 2) -> "PeftConfig":
    """tinylora-13: 13 numbers in all; tinylora: PEFT's default, 64 a module; lora-xs: R of 16 × 16; lora: of rank r.

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
            return LoraConfig(r=r, lora_alpha=2 * r, **common)
    raise AdapterError(f"adapter = {kind}: must be one of {', '.join(ADAPTERS)}")


def add_adapter(model: PreTrainedModel, kind: str, seed: int = 0, r: int = 2) -> "PeftModel":
    """Wrap the model; nothing but the adapter is trainable then, and at first it changes nothing.

    `wrapped.get_base_model()` is the model to read and decode with. r: rank of a LoRA.
    """
    from peft import get_peft_model

    own = base_of(model)
    torch.manual_seed(seed)
    with quiet():
        wrapped = get_peft_model(model, adapter_config(kind, seed, r))
    wrapped.ttt_base = own
    return wrapped


@contextmanager
def quiet() -> Iterator[None]:
    """PEFT asks transformers in its old words."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
        yield


def base_of(model: PreTrainedModel) -> dict[str, Any]:
    """Which base this is: a checksum, its vocabulary, and its folder's name.

    An ordinary model has the checksum of its files, which does not depend on the dtype it was loaded in.
    """
    folder = Path(model.name_or_path or ".")
    files = sorted(folder.glob("*.safetensors")) if model.name_or_path else []
    own = fingerprint(model) if isinstance(model, TTTForCausalLM) or not files else _checksum(files)
    return {"base": own, "vocab_size": model.config.vocab_size, "name": folder.name}


def _checksum(files: list[Path]) -> str:
    crc = 0
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**24):
                crc = zlib.crc32(block, crc)
    return f"{crc:08x}"


def trainable(model: torch.nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_adapter(wrapped: "PeftModel", path: str | Path) -> Path:
    """Write a PEFT folder, and which base it belongs to; or, where the path ends in .pth, one file of both."""
    if Path(path).suffix == ".pth":
        from arc_helpers.memory.adapter_pth import write_pth

        return write_pth(wrapped, Path(path))
    with replacing_folder(path, "an adapter") as draft:
        wrapped.save_pretrained(draft)
        atomic_write_json(draft / BASE, wrapped.ttt_base)
    return Path(path)


def load_adapter(model: PreTrainedModel, path: str | Path) -> "PeftModel":
    """Wrap the model with a saved adapter, ready to use: a PEFT folder, or a .pth file.

    A .pth is read with weights_only. Raises AdapterError where the adapter is another base's.
    """
    path = Path(path)
    if path.suffix == ".pth":
        from arc_helpers.memory.adapter_pth import read_pth

        return read_pth(model, path)
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(f"{path}: is no PEFT folder (adapter_config.json is missing) and no .pth file")
    own = base_of(model)
    if (path / BASE).is_file():
        check_base(path, json.loads((path / BASE).read_text(encoding="utf-8")), own)
    with quiet():
        try:
            wrapped = open_adapter(model, path)
        except ModelError as error:
            raise AdapterError(str(error)) from None
    wrapped.ttt_base = own
    return wrapped.eval()


def check_base(path: Path, theirs: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises AdapterError, one line that names both, where the adapter was trained on another base."""
    if theirs["vocab_size"] != own["vocab_size"]:
        asked, here = (f"{base.get('name') or 'a base'} of {base['vocab_size']} tokens" for base in (theirs, own))
        raise AdapterError(f"{path}: is for {asked}, this one is {here}")
    if theirs["base"] != own["base"]:
        asked, here = (f"{base.get('name') or 'base'} {base['base']}" for base in (theirs, own))
        raise AdapterError(f"{path}: is for {asked}, this one is {here}")

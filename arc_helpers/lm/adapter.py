"""A LoRA adapter in PEFT's format as part of a base: what it was fine-tuned to, below everything that comes after.

    adapter_config.json          a LoraConfig, with the base's folder
    adapter_model.safetensors    base_model.model.<module>.lora_A.weight [r, in], .lora_B.weight [out, r];
                                 .lora_embedding_A [r, V], .lora_embedding_B [H, r] of an embedding;
                                 .token_adapter.trainable_tokens_delta [n, H], rows that replace the base's;
                                 .weight, .bias (beside a LoRA .base_layer.weight), what replaces the base's in full

Into weights in a floating-point format the adapter is merged; beside quantised ones it is added by a forward hook that
stays. peft need not be installed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from arc_helpers.lm.door import open_tensors
from arc_helpers.lm.folder import ModelError, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's wrappers around the model
ROWS = "token_adapter.trainable_tokens_delta"
#: what a LoraConfig may ask for beyond plain LoRA, and what it must be
PLAIN = {"use_dora": False, "rank_pattern": {}, "alpha_pattern": {}, "fan_in_fan_out": False, "bias": "none"}


class AdapterError(ValueError):
    """An adapter that cannot be used, or not with this base. One line."""


@dataclass(frozen=True)
class Adapter:
    """What stands in an adapter's folder."""

    folder: Path
    base: str  # the folder or hub id of the model that it was trained on
    scaling: float
    token_indices: Mapping[str, list[int]]  # {module, or its last name: rows}
    tensors: Mapping[str, Tensor]  # by their names in the base


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter, and no model."""
    return (Path(folder) / CONFIG).is_file() and not (Path(folder) / "config.json").is_file()


def read_adapter(folder: str | Path) -> Adapter:
    """Read a folder that `peft` or this suite wrote. AdapterError, one line, where it is none or no plain LoRA."""
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder}: has no {name}; a PEFT adapter folder needs {CONFIG} and {WEIGHTS}")
    try:
        config, tensors = read_json(folder / CONFIG), open_tensors(folder / WEIGHTS)
    except ModelError as error:
        raise AdapterError(str(error)) from None
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder / CONFIG}: peft_type = {config.get('peft_type')}: must be LORA")
    for name, plain in PLAIN.items():
        if config.get(name) not in (None, plain):
            raise AdapterError(f"{folder / CONFIG}: {name} = {config[name]}: only plain LoRA can be used here")
    r, alpha = config.get("r"), config.get("lora_alpha")
    if not (isinstance(r, int) and r > 0 and isinstance(alpha, int | float)):
        raise AdapterError(f"{folder / CONFIG}: r = {r}, lora_alpha = {alpha}: must be numbers, r at least 1")
    indices = config.get("trainable_token_indices") or {}
    indices = {"embed_tokens": indices} if isinstance(indices, list) else indices
    return Adapter(
        folder,
        str(config.get("base_model_name_or_path") or ""),
        alpha / (math.sqrt(r) if config.get("use_rslora") else r),
        indices,
        {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()},
    )


@torch.no_grad()
def attach_adapter(model: PreTrainedModel, adapter: Adapter) -> None:
    """Make an adapter part of a model, in place. AdapterError, one line, where it does not belong to this model; the
    model is then as it was."""
    changes = [_change(model, adapter, name) for name in sorted(adapter.tensors) if not name.endswith(_SECOND)]
    if not changes:
        raise AdapterError(f"{adapter.folder / WEIGHTS}: holds no adapter")
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    one_sided = any(
        isinstance(module, nn.Embedding | nn.Linear) and module in (embedding, head) and not rows
        for module, rows, _ in changes
    )
    if one_sided and head.weight is embedding.weight:  # what is changed in one of two tied modules stays there
        head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)
        model.config.get_text_config().tie_word_embeddings = False
    for _, _, apply in changes:
        apply()


_SECOND = (".lora_B.weight", ".lora_embedding_B")  # read with the first of their pair


def _change(model: PreTrainedModel, adapter: Adapter, name: str):
    """(module, whether only rows of it are replaced, what makes the change), checked."""
    tensor = adapter.tensors[name]
    for suffix, second in ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")):
        if name.endswith(suffix):
            module = _module(model, adapter, path := name.removesuffix(suffix))
            other = adapter.tensors.get(path + second)
            turned = suffix != ".lora_A.weight"
            wanted = _shape(module)[::-1] if turned else _shape(module)
            found = None if other is None else (other.shape[0], tensor.shape[1])
            if other is None or other.shape[1] != tensor.shape[0] or found != wanted:
                raise _misfit(adapter, path, wanted, found)
            return module, False, partial(_add, module, tensor, other, adapter.scaling, turned)
    if name.endswith("." + ROWS):
        module = _module(model, adapter, path := name.removesuffix("." + ROWS))
        last = path.rsplit(".", 1)[-1]
        rows = next((ids for key, ids in adapter.token_indices.items() if key.rsplit(".", 1)[-1] == last), [])
        if len(rows) != len(tensor) or tensor.shape[1] != _shape(module)[1] or max(rows) >= _shape(module)[0]:
            raise _misfit(adapter, path, _shape(module), tuple(tensor.shape))
        where = torch.tensor(rows, device=module.weight.device)
        return module, True, partial(module.weight.index_copy_, 0, where, tensor.to(module.weight))
    path, _, kind = name.rpartition(".")
    if kind in ("weight", "bias"):
        module = _module(model, adapter, path := path.removesuffix(".base_layer"))
        own = getattr(module, kind, None)
        if own is None or tensor.shape != own.shape:
            raise _misfit(adapter, name, None if own is None else tuple(own.shape), tuple(tensor.shape))
        return module, False, lambda: own.copy_(tensor)
    raise AdapterError(f"{adapter.folder / WEIGHTS}: {name} is no part of a plain LoRA")


def _module(model: PreTrainedModel, adapter: Adapter, path: str) -> nn.Module:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        raise AdapterError(f"{adapter.folder}: does not belong to this base, which has no {path}") from None
    if getattr(module, "weight", None) is None:
        raise AdapterError(f"{adapter.folder}: does not belong to this base, whose {path} has no weight")
    return module


def _shape(module: nn.Module) -> tuple[int, ...]:
    """Rows and columns of a weight, which 4 bits pack otherwise."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    return tuple(module.weight.shape)


def _misfit(adapter: Adapter, path: str, wanted, found) -> AdapterError:
    return AdapterError(f"{adapter.folder}: does not belong to this base: {path} is {wanted}, the adapter's is {found}")


def _add(module: nn.Module, first: Tensor, second: Tensor, scaling: float, turned: bool) -> None:
    """Add `scaling · second · first` to a module: to its weight, or beside it where that is quantised."""
    weight = module.weight
    first, second = first.to(weight.device, torch.float32), second.to(weight.device, torch.float32)
    if weight.is_floating_point():
        product = second @ first * scaling
        weight.copy_((weight.float() + (product.T if turned else product)).to(weight.dtype))
        return
    module.add_module("start_adapter", _LowRank(first, second * scaling))
    module.register_forward_hook(_add_low_rank)


class _LowRank(nn.Module):
    """The matrices beside a quantised weight, as parameters: whoever compares weights sees them."""

    def __init__(self, first: Tensor, second: Tensor):
        super().__init__()
        self.first, self.second = (nn.Parameter(matrix, requires_grad=False) for matrix in (first, second))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.first.to(x.dtype)), self.second.to(x.dtype))


def _add_low_rank(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
    return output + module.start_adapter(args[0].to(output.dtype))

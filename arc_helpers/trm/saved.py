"""A trained TRM as a folder: model.safetensors, config.json, and what data set its vectors belong to."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arc_helpers.runs import (
    atomic_write_json,
    load_tensors,
    output_path,
    replacing_folder,
    resolve_path,
    save_tensors,
)
from arc_helpers.trm.data import ArcDataset, DatasetOptions
from arc_helpers.trm.model import TRM, TRMConfig

#: (published name, own name); \1 is the number of the block
_NAMES = (
    (r"inner\.embed_tokens\.embedding_weight", r"embed.weight"),
    (r"inner\.puzzle_emb\.weights", r"conditioner.task.weight"),
    (r"inner\.L_level\.layers\.(\d+)\.self_attn\.qkv_proj\.weight", r"blocks.\1.attention.qkv.weight"),
    (r"inner\.L_level\.layers\.(\d+)\.self_attn\.o_proj\.weight", r"blocks.\1.attention.out.weight"),
    (r"inner\.L_level\.layers\.(\d+)\.mlp_t\.gate_up_proj\.weight", r"blocks.\1.mixer.gate_up.weight"),
    (r"inner\.L_level\.layers\.(\d+)\.mlp_t\.down_proj\.weight", r"blocks.\1.mixer.down.weight"),
    (r"inner\.L_level\.layers\.(\d+)\.mlp\.gate_up_proj\.weight", r"blocks.\1.mlp.gate_up.weight"),
    (r"inner\.L_level\.layers\.(\d+)\.mlp\.down_proj\.weight", r"blocks.\1.mlp.down.weight"),
    (r"inner\.lm_head\.weight", r"head.weight"),
    (r"inner\.q_head\.weight", r"halt_head.weight"),
    (r"inner\.q_head\.bias", r"halt_head.bias"),
    (r"inner\.H_init", r"z_H_start"),
    (r"inner\.L_init", r"z_L_start"),
)


class SavedModelError(ValueError):
    """A folder holds no usable TRM; one line."""


def rename_official(tensors: Mapping[str, Tensor], to: str) -> dict[str, Tensor]:
    """The tensors of a published checkpoint under our names (to="own"), or ours under theirs (to="official").

    Their halting head has a second row, for a "continue" logit that is never used: it is dropped, or written as they
    start it (weight 0, bias −5). Raises SavedModelError, naming it, on a tensor that has no counterpart.
    """
    if to not in ("own", "official"):
        raise SavedModelError(f"to = {to!r}: must be own or official")
    renamed = {}
    for name, tensor in tensors.items():
        bare = re.sub(r"^(_orig_mod\.|model\.)+", "", name)  # wrappers of torch.compile and of their loss
        for official, own in _NAMES:
            source, target = (official, own) if to == "own" else (_as_pattern(own), _as_target(official))
            if re.fullmatch(source, bare):
                renamed[re.sub(source, target, bare)] = _halting_rows(tensor, to) if "q_head" in official else tensor
                break
        else:
            raise SavedModelError(f"{name}: a TRM has no such tensor")
    return renamed


def save_trm(model: TRM, folder: str | Path, dataset: ArcDataset | None = None, **facts: str | float) -> Path:
    """Write model.safetensors and config.json; with the data set's options, task ids and fingerprint, where it has one.

    facts: what else is known of it (steps, scores, …). Returns the folder.
    """
    folder = output_path(folder)
    about: dict[str, Any] = {"model": asdict(model.config), "facts": facts}
    if dataset is not None:
        about["dataset"] = asdict(dataset.options)
        about["task_ids"] = dataset.task_ids
        about["fingerprint"] = dataset.fingerprint()
    with replacing_folder(folder) as draft:
        save_tensors(draft / "model.safetensors", model.state_dict())
        atomic_write_json(draft / "config.json", about)
    return folder


def load_trm(folder: str | Path, dataset: ArcDataset | None = None) -> TRM:
    """A saved TRM, in evaluation mode, on the CPU.

    With `dataset`, DatasetError unless it is the one the model was trained on (the first option that differs is
    named). Raises SavedModelError, one line, where the folder holds no whole model.
    """
    folder = resolve_path(folder)
    try:
        about = json.loads((folder / "config.json").read_text())
        model = TRM(TRMConfig.from_dict(about["model"]))
        tensors, _ = load_tensors(folder / "model.safetensors")
        model.load_state_dict(tensors)
    except FileNotFoundError as error:
        raise SavedModelError(f"{folder}: no TRM there ({error.filename or error})") from None
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SavedModelError(f"{folder}: not a whole TRM ({' '.join(str(error).split())[:200]})") from None
    if dataset is not None:
        check_dataset(about, dataset, folder)
    return model.eval()


def check_dataset(about: Mapping, dataset: ArcDataset, where: str | Path) -> None:
    """Raise unless `dataset` is what the model of a config.json was trained on."""
    if "dataset" not in about:
        raise SavedModelError(f"{where}: was not trained on an ARC data set")
    dataset.options.check_same(DatasetOptions(**about["dataset"]), f"the checkpoint {where}")
    if about["fingerprint"] != dataset.fingerprint():
        raise SavedModelError(f"{where}: was trained on other data with the same options; build the data set again")


def _as_pattern(own: str) -> str:
    return re.escape(own).replace(r"\\1", r"(\d+)")


def _as_target(official: str) -> str:
    return official.replace(r"(\d+)", r"\1").replace(r"\.", ".")


def _halting_rows(tensor: Tensor, to: str) -> Tensor:
    if to == "own":
        return tensor[:1]
    unused = torch.zeros_like(tensor) if tensor.ndim == 2 else torch.full_like(tensor, -5.0)
    return torch.cat([tensor, unused])

"""One door for trained TRMs: a saved folder, a training checkpoint of ours, or a published `step_N`."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from arc_helpers.runs import resolve_path
from arc_helpers.runs.checkpoint import CheckpointError, load_state
from arc_helpers.trm.canvas import VOCAB_SIZE
from arc_helpers.trm.data import ArcDataset
from arc_helpers.trm.model import TRM, TRMConfig
from arc_helpers.trm.saved import SavedModelError, load_trm, rename_official

#: what the published ARC commands set, for a checkpoint that lies without its all_config.yaml
_PUBLISHED = {"H_cycles": 3, "L_cycles": 4, "halt_max_steps": 16, "puzzle_emb_len": 16, "pos_encodings": "rope"}
_TAKEN = ("H_cycles", "L_cycles", "halt_max_steps", "halt_exploration_prob", "num_heads", "expansion", "rope_theta")


class Opened(NamedTuple):
    """A TRM in evaluation mode on the CPU, and where it comes from.

    layout: canvases it was trained on; colors: whether with new colours. notes: what had to be assumed, a line each.
    """

    model: TRM
    name: str
    layout: str = "tight"
    colors: bool = False
    notes: tuple[str, ...] = ()


def open_trm(path: str | Path, dataset: ArcDataset | None = None, **changes: int | None) -> Opened:
    """Open a TRM: a folder that `save_trm` wrote, `checkpoint*.pt` of a training here, or a published `step_N`.

    A folder with published checkpoints means the latest of them. Pickled files are read with weights_only, and what
    is more than tensors is refused. Of a training checkpoint the averaged weights are taken; published ones are
    averaged already where their training was (`ema=True`). changes: H_cycles, L_cycles or halt_max_steps in place of
    what the checkpoint says. Raises SavedModelError, one line; DatasetError if a model of ours was not trained on
    `dataset`.
    """
    path = resolve_path(path)
    if (path / "config.json").is_file():
        facts = json.loads((path / "config.json").read_text()).get("facts", {})
        trained = {"layout": facts.get("layout", "tight"), "colors": facts.get("augment") == "colors"}
        opened = Opened(load_trm(path, dataset), path.name, **trained)
    else:
        opened = _from_pickle(_latest(path) if path.is_dir() else path, dataset)
    given = {name: value for name, value in changes.items() if value}
    differ: dict[str, Any] = {
        name: value for name, value in given.items() if getattr(opened.model.config, name) != value
    }
    notes = [
        f"{name} = {value} as asked; the checkpoint has {getattr(opened.model.config, name)}"
        for name, value in differ.items()
    ]
    opened.model.config = replace(opened.model.config, **differ)
    return opened._replace(notes=(*opened.notes, *notes))


def _latest(folder: Path) -> Path:
    steps = {int(m[1]): p for p in folder.iterdir() if (m := re.fullmatch(r"step_(\d+)(?:\.pt)?", p.name))}
    if not steps:
        raise SavedModelError(f"{folder}: no TRM there; wanted config.json with model.safetensors, or step_N")
    return steps[max(steps)]


def _from_pickle(path: Path, dataset: ArcDataset | None) -> Opened:
    if not path.is_file():
        raise SavedModelError(f"{path}: no such file or folder")
    try:
        state = load_state(path)
    except CheckpointError:  # its advice, to delete the file, is for a run's own
        raise SavedModelError(
            f"{path}: not a file of tensors by name; a TRM checkpoint is, and nothing else is unpickled"
        ) from None
    if {"ema", "model_config"} <= state.keys():
        return _trained_here(path, state, dataset)
    if not all(isinstance(t, Tensor) for t in state.values()):
        raise SavedModelError(f"{path}: holds no tensors by name; a TRM checkpoint does")
    return _published(path, state)


def _trained_here(path: Path, state: Mapping[str, Any], dataset: ArcDataset | None) -> Opened:
    options = state["options"]
    if dataset is not None and options.get("fingerprint") != dataset.fingerprint():
        raise SavedModelError(f"{path}: was trained on other data; give the data set that it was trained on")
    weights = {k.removeprefix("module."): v for k, v in state["ema"].items() if k.startswith("module.")}
    model = _filled(TRMConfig.from_dict(state["model_config"]), weights, path)
    return Opened(model, path.stem, options.get("layout", "tight"), options.get("augment") == "colors")


def _published(path: Path, state: Mapping[str, Tensor]) -> Opened:
    try:
        tensors = rename_official(state, "own")
    except SavedModelError as error:
        raise SavedModelError(f"{path}: {error}") from None
    arch, notes = _arch(path)
    config = _read_shape(path, tensors, arch)
    if "num_heads" not in arch:
        notes.append(f"num_heads = {config.num_heads}: assumed, 64 channels a head as published")
    return Opened(_filled(config, tensors, path), path.name, "official", notes=tuple(notes))


def _arch(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The `arch` of all_config.yaml beside the checkpoint; without it, what the published ARC commands set."""
    file = path.with_name("all_config.yaml")
    if not file.is_file():
        assumed = ", ".join(f"{name} = {value}" for name, value in _PUBLISHED.items())
        return dict(_PUBLISHED), [f"no all_config.yaml beside it: {assumed} assumed, as the published ARC runs"]
    try:
        arch = yaml.safe_load(file.read_text(encoding="utf-8"))["arch"]
        return {**_PUBLISHED, **{name: value for name, value in arch.items() if value is not None}}, []
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise SavedModelError(f"{file}: holds no arch ({' '.join(str(error).split())[:100]})") from None


def _read_shape(path: Path, tensors: Mapping[str, Tensor], arch: Mapping[str, Any]) -> TRMConfig:
    """The config that fits a published checkpoint: sizes from its tensors, the rest from its `arch`."""
    needed = ("embed.weight", "conditioner.task.weight", "blocks.0.mlp.down.weight", "halt_head.weight", "z_H_start")
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise SavedModelError(f"{path}: not a whole TRM, {', '.join(missing)} missing")
    vocabulary, width = tensors["embed.weight"].shape
    rows, row_width = tensors["conditioner.task.weight"].shape
    prefix = int(arch["puzzle_emb_len"]) or -(-row_width // width)
    if vocabulary != VOCAB_SIZE or row_width != width:
        raise SavedModelError(
            f"{path}: {vocabulary} tokens and vectors of {row_width} for a task; a TRM for ARC has {VOCAB_SIZE} tokens "
            f"and vectors as wide as it is, {width}"
        )
    fields: dict[str, Any] = {name: arch[name] for name in _TAKEN if name in arch}
    if "halt_exploration_prob" in fields:
        fields["halt_exploration"] = fields.pop("halt_exploration_prob")
    mixer = tensors.get("blocks.0.mixer.gate_up.weight")
    shape = {
        "hidden_size": width,
        "num_layers": 1 + max(int(m[1]) for name in tensors if (m := re.match(r"blocks\.(\d+)\.", name))),
        "num_heads": int(arch.get("num_heads", max(1, width // 64))),
        "conditioned_rows": rows,
        "prefix_len": prefix,
        "rope": "1d" if arch["pos_encodings"] == "rope" and mixer is None else "none",
        "mixer": "attention" if mixer is None else "mlp",
        "canvas_cells": 900 if mixer is None else mixer.shape[1] - prefix,
    }
    try:
        config = TRMConfig(**{**fields, **shape})
    except (ValueError, TypeError) as error:
        raise SavedModelError(f"{path}: {error}") from None
    inner = tensors["blocks.0.mlp.down.weight"].shape[1]
    return config if config.inner(width) == inner else replace(config, width_multiple=inner)


def _filled(config: TRMConfig, tensors: Mapping[str, Tensor], path: Path) -> TRM:
    with torch.device("meta"):  # a table of a million rows is not drawn first
        model = TRM(config)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise SavedModelError(f"{path}: not a whole TRM ({' '.join(str(error).split())[:200]})") from None
    return model.requires_grad_(True).eval()

"""A trained model as a folder, and back: adapters, config, and what the library forgets. No code of a folder is run."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from arc_helpers.liza.reload import AUTO_MAP, CODE, FILE
from arc_helpers.liza.repair import LizaError, check_versions, is_repaired
from arc_helpers.liza.schedule import mag_weight, set_mag_weight
from arc_helpers.liza.titanize import NOT_OF_THE_BASE, TARGETS, inner_model, quiet, titanize_model
from arc_helpers.liza.window import set_window, window_of
from arc_helpers.lm.door import find_folder, open_tensors, open_tokenizer
from arc_helpers.runs import atomic_write_json, replacing_folder

NOTES = "liza.json"
ADAPTER = "adapter_model.safetensors"
PREFIX = "tptt_model.base_model."  # before the names of the file in those of the model


def save_liza(model: PreTrainedModel, tokenizer, folder: str | Path) -> Path:
    """Write a titanized model; returns the folder. Its base stays where it is, its place is noted.

    `load_liza` opens it, and so does `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`.
    """
    folder = Path(folder).absolute()  # save_pretrained fails on a bare name
    base = inner_model(model).get_base_model().config.to_dict()
    model.config.base_model_config = {name: value for name, value in base.items() if name not in NOT_OF_THE_BASE}
    set_mag_weight(model, mag_weight(model))  # the library would save the weight it was built with
    window, sinks = window_of(model)
    notes = {"mag_weight": mag_weight(model), "repaired": is_repaired(model), "window": window, "sinks": sinks}
    with replacing_folder(folder) as draft, quiet():
        model.save_pretrained(str(draft))
        for code in draft.glob("*.py"):  # tptt's as released, which would build another model
            code.unlink()
        (draft / FILE).write_text(CODE, encoding="utf-8")
        settings = _read(draft / "config.json")
        atomic_write_json(draft / "config.json", {**settings, "auto_map": AUTO_MAP})
        tokenizer.save_pretrained(draft)
        atomic_write_json(draft / NOTES, notes)
    return folder


def load_liza(
    folder: str | Path, base: str | Path | None = None, download: bool = False
) -> tuple[PreTrainedModel, object]:
    """(model in evaluation mode, tokenizer) as they were saved: mode, adapters, MaG weight, repair and window.

    Python code in the folder is not run: the model is built by the installed tptt, its base opened like any other.
    folder: a path, or a hub id with download=True. base: where the base model is now, if it was moved.
    Raises LizaError or lm.ModelError, one line.
    """
    check_versions()
    folder = Path(folder).absolute() if Path(folder).is_dir() else find_folder(folder, download)
    if not (folder / NOTES).is_file():
        raise LizaError(f"{folder}: has no {NOTES}; only folders that save_liza has written are loaded")
    notes, settings = _read(folder / NOTES), _read(folder / "config.json")
    source = str(base or settings["base_model_name"])
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise LizaError(f"{source}: the base model is not there any more; pass base=<its folder>")
    model = titanize_model(source, repaired=notes["repaired"], download=download, **_recipe(folder, settings))
    _fill(folder, model)
    if notes["window"]:
        set_window(model, notes["window"], notes["sinks"])
    set_mag_weight(model, notes["mag_weight"])
    return model, open_tokenizer(folder)


def _recipe(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What titanize_model is told. LizaError where the folder was made by another recipe than it has."""
    lora = settings.get("lora_config") or {}
    fixed = {"use_rslora": False, "use_dora": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}}
    odd = [name for name, value in fixed.items() if (lora.get(name) or value) != value]
    if sorted(lora.get("target_modules", ())) != sorted(TARGETS):
        odd.append("target_modules")
    if odd or "operator_mode" not in settings:
        what = f"lora_config.{odd[0]} = {lora.get(odd[0])}" if odd else "no operator_mode"
        raise LizaError(f"{folder}: is of another recipe ({what}); only what save_liza writes is loaded")
    names = ("operator_mode", "base_scale_attn", "cross_gate", "learned_gate")
    recipe = {name: settings[name] for name in names if name in settings}
    return recipe | {name: lora[name] for name in ("r", "lora_alpha", "lora_dropout")}


@torch.no_grad()
def _fill(folder: Path, model: PreTrainedModel) -> None:
    """The saved adapters into the model: the same names and shapes, or LizaError."""
    saved = {PREFIX + name: tensor for name, tensor in open_tensors(folder / ADAPTER).items()}
    own = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    odd = sorted(saved.keys() ^ own.keys()) or [n for n in own if own[n].shape != saved[n].shape]
    if odd:
        where = odd[0].removeprefix(PREFIX)
        raise LizaError(f"{folder / ADAPTER}: does not fit its base ({where} is on one side only, or of another shape)")
    for name, parameter in own.items():
        parameter.copy_(saved[name])


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))

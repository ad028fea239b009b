"""A joint model as a folder: adapters, TRM and LoRA, without the language model, whose width it remembers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from arc_helpers.hybrid.model import HybridConfig, HybridError, HybridModel
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import (
    atomic_write_json,
    load_tensors,
    output_path,
    replacing_folder,
    resolve_path,
    save_tensors,
)
from arc_helpers.trm import TRM, TRMConfig, open_trm


def save_hybrid(model: HybridModel, folder: str | Path, **facts: str | float) -> Path:
    """Write model.safetensors and config.json. facts: what else is known of it. Returns the folder."""
    folder = output_path(folder)
    with replacing_folder(folder) as draft:
        save_tensors(draft / "model.safetensors", model.state_dict())
        atomic_write_json(draft / "config.json", {**model.about(), "llm": model.lm.name, "facts": facts})
    return folder


def load_hybrid(folder: str | Path, lm: LoadedLM) -> HybridModel:
    """A saved joint model on a language model of the same width, in evaluation mode.

    Raises HybridError, one line, where the folder holds no whole one or the widths differ.
    """
    folder = resolve_path(folder)
    try:
        about = json.loads((folder / "config.json").read_text())
        config, shape = HybridConfig(**about["hybrid"]), TRMConfig.from_dict(about["trm"])
        tensors, _ = load_tensors(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise HybridError(f"{folder}: no joint model there ({error.filename or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise HybridError(f"{folder}: not a whole joint model ({' '.join(str(error).split())[:200]})") from None
    model = HybridModel(lm, TRM(shape), config)
    if model.about()["llm_width"] != about["llm_width"]:
        raise HybridError(
            f"{folder}: its adapters are for states {about['llm_width']} wide ({about['llm']}), {lm.name} has "
            f"{model.about()['llm_width']}"
        )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise HybridError(f"{folder}: not a whole joint model ({' '.join(str(error).split())[:200]})") from None
    return model.eval()


def load_pretrained(
    path: str | Path,
    hidden_size: int,
    canvas_side: int,
    halt_max_steps: int,
    mends: bool = False,
    log: Callable[[str], None] = print,
) -> TRM:
    """A TRM that was pretrained, to be joined: whatever `trm.open_trm` opens. `log` gets what is other than it was.

    mends: with room for drafts, which it does not see yet. HybridError, one line, for another width or canvas.
    """
    opened = open_trm(path, halt_max_steps=halt_max_steps)
    trm = opened.model
    if trm.config.hidden_size != hidden_size:
        raise HybridError(
            f"{path}: hidden_size of the TRM is {trm.config.hidden_size}, of this run {hidden_size}; give the same"
        )
    if trm.config.mixer == "mlp" and trm.config.canvas_cells != canvas_side**2:
        raise HybridError(
            f"{path}: the TRM has a fixed canvas of {trm.config.canvas_cells} cells, canvas_side = {canvas_side} "
            f"needs {canvas_side**2}"
        )
    for note in opened.notes:
        log(note)
    if not mends or trm.config.mends:
        return trm
    grown = TRM(replace(trm.config, mends=True))
    grown.load_state_dict({**grown.state_dict(), **trm.state_dict()})
    return grown

"""A trained model as a folder, and back: what the library saves (adapters, config, code), and what it forgets."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from arc_helpers.liza.repair import LizaError, check_code, check_versions, is_repaired, repair_model
from arc_helpers.liza.schedule import mag_weight, set_mag_weight
from arc_helpers.liza.titanize import NOT_OF_THE_BASE, inner_model, open_base, quiet
from arc_helpers.liza.window import set_window, window_of
from arc_helpers.lm.door import open_by_code, open_tokenizer
from arc_helpers.runs import atomic_write_json, choose_device, replacing_folder

NOTES = "liza.json"
OWN_CODE = {"AutoConfig": "configuration_tptt.TpttConfig", "AutoModelForCausalLM": "modeling_tptt.TpttModel"}


def save_liza(model: PreTrainedModel, tokenizer, folder: str | Path) -> Path:
    """Write a titanized model; returns the folder. Its base stays where it is, its place is noted."""
    folder = Path(folder).absolute()  # save_pretrained fails on a bare name
    base = inner_model(model).get_base_model().config.to_dict()
    model.config.base_model_config = {name: value for name, value in base.items() if name not in NOT_OF_THE_BASE}
    set_mag_weight(model, mag_weight(model))  # the library would save the weight it was built with
    window, sinks = window_of(model)
    notes = {"mag_weight": mag_weight(model), "repaired": is_repaired(model), "window": window, "sinks": sinks}
    with replacing_folder(folder) as draft, quiet():
        model.save_pretrained(str(draft))
        tokenizer.save_pretrained(draft)
        atomic_write_json(draft / NOTES, notes)
    return folder


def load_liza(
    folder: str | Path, base: str | Path | None = None, download: bool = False
) -> tuple[PreTrainedModel, object]:
    """(model in evaluation mode, tokenizer) as they were saved: mode, adapters, MaG weight, repair and window.

    The folder's own Python code is run (trust_remote_code), but only if each file of it is tptt's, byte by byte, which
    is what save_liza writes; never code of its base. base: where the base model is now, if it was moved; download: it
    may be a hub id. Raises LizaError or lm.ModelError, one line.
    """
    check_versions()
    folder = Path(folder).absolute()
    if not (folder / NOTES).is_file():
        raise LizaError(f"{folder}: has no {NOTES}; only folders that save_liza has written are loaded")
    check_code(folder)
    notes, settings, words = (_read(folder / name) for name in (NOTES, "config.json", "tokenizer_config.json"))
    for name, found, own in (("config", settings, OWN_CODE), ("tokenizer_config", words, None)):
        if found.get("auto_map") != own:  # it could send the loader elsewhere for its code
            raise LizaError(f"{folder / name}.json: auto_map = {found.get('auto_map')}: must be {own}")
    source = str(base or settings["base_model_name"])
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise LizaError(f"{source}: the base model is not there any more; pass base=<its folder>")
    opened, _ = open_base(source, download)
    with quiet():
        tokenizer = open_tokenizer(folder, trust_remote_code=True)
        model = open_by_code(folder, base_model_name=str(opened.path))
    inner_model(model).get_base_model().set_attn_implementation("eager")  # a reload falls back to sdpa
    model.to(choose_device().device).eval()  # and comes in training mode
    if notes["repaired"]:
        repair_model(model)
    if notes["window"]:
        set_window(model, notes["window"], notes["sinks"])
    set_mag_weight(model, notes["mag_weight"])
    return model, tokenizer


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))

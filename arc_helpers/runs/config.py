"""The knobs of a notebook with their values: a profile's, a preset's over them, and what was asked for over both."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from arc_helpers.runs.env import home, project_root
from arc_helpers.runs.explain import explain_error, explain_unknown, show
from arc_helpers.runs.knobs import NOTEBOOKS, Knobs, Profile, RunKnobs


class ConfigError(ValueError):
    """One line: the name, the value and what is allowed."""


def check_run(**values: Any) -> RunKnobs:
    """Check profile, seed, out_dir and fresh. Raises ConfigError, one line."""
    return _checked(RunKnobs, values, prefix="")


def load_profile(name: str) -> Profile:
    """Read configs/<name>.yaml. Raises ConfigError, one line, where the name or a value in it is wrong."""
    check_run(profile=name)
    path = _profile_path(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold one section a notebook")
    return _checked(Profile, values, prefix=f"{path.name}: ")


def resolve(notebook: str, profile: str, overrides: Mapping[str, Any]) -> Any:
    """The knobs of one notebook, a model of this module: the profile's values, over them a preset's, over them each
    override but None.

    notebook: with or without its number ("02_multilora_ttt"). Raises ConfigError, one line, such as
    "multilora_ttt.k = 0: must be >= 1".
    """
    name = section(notebook)
    if name not in NOTEBOOKS:
        raise ConfigError(f"notebook = {show(notebook)}: must be one of {', '.join(NOTEBOOKS)}")
    base: Knobs = getattr(load_profile(profile), name)
    unknown = [key for key in overrides if key not in type(base).model_fields]
    if unknown:  # before None is dropped: a typo is a typo whatever its value
        raise ConfigError(explain_unknown(f"{name}.{unknown[0]}", overrides[unknown[0]], type(base).model_fields))
    values = {key: value for key, value in overrides.items() if value is not None}
    preset = base.presets.get(str(values.get("preset", getattr(base, "preset", ""))), {})
    return _checked(type(base), {**base.model_dump(), **preset, **values}, prefix=f"{name}.")


def kept_by(notebook: str) -> str:
    """What of a run of this notebook that was stopped is not done again; "" for nothing, or for a strange notebook."""
    field = Profile.model_fields.get(section(notebook))
    return getattr(field.annotation, "kept", "") if field else ""


def knob_names(notebook: str) -> list[str]:
    """The names of a notebook's knobs, in their order. Raises ConfigError for a notebook that has none."""
    name = section(notebook)
    if name not in NOTEBOOKS:
        raise ConfigError(f"notebook = {show(notebook)}: must be one of {', '.join(NOTEBOOKS)}")
    return list(Profile.model_fields[name].annotation.model_fields)


def section(notebook: str) -> str:
    """A notebook's section in a profile: its name without the number."""
    return re.sub(r"^\d+_", "", notebook)


def _profile_path(name: str) -> Path:
    """The project's own, such as ARC_ROOT's, or those that come with the code."""
    folders = [project_root() / "configs", home() / "configs"]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise ConfigError(f"profile = {name}: {name}.yaml is in none of {', '.join(map(str, folders))}")


def _checked(model: type[Knobs], values: Mapping[str, Any], prefix: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_error(error.errors()[0], model, prefix)) from None

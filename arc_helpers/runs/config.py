"""Every knob of every notebook: type, bounds and meaning. Their values are in configs/<profile>.yaml."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from arc_helpers.runs.env import PACKAGE, project_root

PROFILES = ("tiny", "laptop", "gpu", "kaggle")
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class ConfigError(ValueError):
    """One line: the name, the value and what is allowed."""


# None means "the profile's value" in a notebook, so that 0 and "" are what lifts a limit that a profile sets.
Limit = Annotated[int | None, Field(ge=0), AfterValidator(lambda value: value or None)]
Seconds = Annotated[float | None, Field(ge=0), AfterValidator(lambda value: value or None)]
Text = Annotated[str | None, AfterValidator(lambda value: value or None)]
Positive = Annotated[int, Field(ge=1)]


class Knobs(BaseModel):
    """What the knobs of every notebook have in common: no default hides in the code, no typo passes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _plain_value(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and (int in kinds or float in kinds):  # Python takes True for 1
            raise PydanticCustomError("number_expected", "must be a number, not true or false")
        return str(value) if isinstance(value, Path) else value


class RunKnobs(Knobs):
    """What every notebook has besides the knobs of its profile."""

    profile: Literal[PROFILES] = "laptop"
    seed: int = Field(default=0, ge=0, lt=2**32)
    out_dir: Text = None
    fresh: bool = True


class BaseModelKnobs(Knobs):
    """00_base_model: train the embedded model."""

    preset: Literal["tiny", "nano", "micro", "base", "large"] = Field(description="size of the model")
    arc_training: str = Field(description="set name, folder or file of ARC tasks to train on")
    re_arc: Text = Field(description="RE-ARC file; empty = do without")
    concept_arc: Text = Field(description="ConceptARC file; empty = do without")
    procedural_share: float = Field(ge=0, le=1, description="share of training tasks made by our generators")
    max_side: int = Field(ge=1, le=30, description="largest grid side trained on, in cells")
    max_len: int = Field(ge=16, description="context, in tokens")
    batch_tokens: int = Field(ge=16, description="tokens a training step")
    deadline_seconds: Seconds = Field(description="wall-clock budget of the training; 0 = no limit")
    max_steps: Limit = Field(description="most training steps; 0 = no limit")
    autocast: bool = Field(description="bfloat16 matrix products, for devices where they are real")
    lr_muon: float = Field(gt=0, description="learning rate of the matrices (Muon)")
    lr_adamw: float = Field(gt=0, description="learning rate of everything else (AdamW)")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    decay_fraction: float = Field(ge=0, le=1, description="share of the training at its end with falling rates")
    resume: bool = Field(description="go on from the last checkpoint, if there is one")
    out_model: str = Field(description="folder the trained model is written to")


class TokenizationDebugKnobs(Knobs):
    """01_tokenization_debug: what the model sees of one pseudo-task."""

    model_dir: str = Field(min_length=1, description="Hugging Face folder of the model")
    problem_path: str = Field(min_length=1, description="set name, task file or folder of tasks")
    task_id: Text = Field(description="which of its tasks; empty = the first")
    num_pseudo: Positive = Field(description="pseudo-tasks made from the task")
    pseudo_index: int = Field(ge=0, description="the one that is shown, from 0")
    max_len: int = Field(ge=16, description="longest sequence, in tokens")
    max_tokens_show: Positive = Field(description="rows of the token table")


class MultiloraTttKnobs(Knobs):
    """02_multilora_ttt: test-time training, K adapters at once."""

    model_dir: str = Field(min_length=1, description="Hugging Face folder of the base model")
    data_dir: str = Field(min_length=1, description="set name, folder or challenges file of the tasks")
    solutions: Text = Field(description="Kaggle solutions file; empty = none")
    task_ids: Text = Field(description="only these tasks, ids separated by commas; empty = all")
    max_tasks: Limit = Field(description="most tasks; 0 = all")
    max_side: Limit = Field(description="only tasks whose visible grids fit this side, in cells; 0 = all")
    mode: Literal["head", "top_m", "full"] = Field(description="depth: last hidden state, last layers, every layer")
    k: Positive = Field(description="tasks trained at once, one adapter each")
    steps: int = Field(ge=0, description="training steps a group; 0 = no training")
    num_pseudo: Positive = Field(description="pseudo-tasks a task")
    r: Positive = Field(description="rank of an adapter")
    alpha: float = Field(gt=0, description="scale of an adapter: its output is multiplied by alpha / r")
    lr: float = Field(gt=0, description="learning rate")
    views: int = Field(ge=1, le=16, description="augmented views that vote")
    select: Literal["votes", "product"] = Field(description="rank answers by votes, or by a product of experts")
    control: bool = Field(description="also answer without training, to compare with")
    max_len: int = Field(ge=16, description="longest sequence, in tokens")
    quantization: Literal["none", "4bit"] = Field(description="how the base model is loaded")
    quant_type: Literal["nf4", "fp4"] = Field(description="4-bit number format")
    double_quant: bool = Field(description="quantise the 4-bit scales too")
    deadline_seconds: Seconds = Field(description="wall-clock budget of the run; 0 = no limit")
    trust_remote_code: bool = Field(description="run Python code found in the model folder")


class Profile(Knobs):
    """One configs/<name>.yaml: every knob of every notebook."""

    name: str
    description: str
    base_model: BaseModelKnobs
    tokenization_debug: TokenizationDebugKnobs
    multilora_ttt: MultiloraTttKnobs


NOTEBOOKS = tuple(name for name in Profile.model_fields if name not in ("name", "description"))


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


def resolve(notebook: str, profile: str, overrides: Mapping[str, Any]) -> BaseModel:
    """The knobs of one notebook: the profile's values, and over them each override that is not None.

    notebook: with or without its number ("02_multilora_ttt"). Raises ConfigError, one line, such as
    "multilora_ttt.k = 0: must be >= 1".
    """
    name = section(notebook)
    if name not in NOTEBOOKS:
        raise ConfigError(f"notebook = {_show(notebook)}: must be one of {', '.join(NOTEBOOKS)}")
    base: Knobs = getattr(load_profile(profile), name)
    unknown = [key for key in overrides if key not in type(base).model_fields]
    if unknown:  # before None is dropped: a typo is a typo whatever its value
        raise ConfigError(explain_unknown(f"{name}.{unknown[0]}", overrides[unknown[0]], type(base).model_fields))
    values = {key: value for key, value in overrides.items() if value is not None}
    return _checked(type(base), {**base.model_dump(), **values}, prefix=f"{name}.")


def knob_names(notebook: str) -> list[str]:
    """The names of a notebook's knobs, in their order. Raises ConfigError for a notebook that has none."""
    name = section(notebook)
    if name not in NOTEBOOKS:
        raise ConfigError(f"notebook = {_show(notebook)}: must be one of {', '.join(NOTEBOOKS)}")
    return list(Profile.model_fields[name].annotation.model_fields)


def section(notebook: str) -> str:
    """A notebook's section in a profile: its name without the number."""
    return re.sub(r"^\d+_", "", notebook)


def _profile_path(name: str) -> Path:
    """A wheel has no repository around it: its profiles are in the package, where kaggle/ puts them."""
    folders = [PACKAGE.parent / "configs", project_root() / "configs", PACKAGE / "configs"]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise ConfigError(f"profile = {name}: {name}.yaml is in none of {', '.join(map(str, folders))}")


def _checked(model: type[Knobs], values: Mapping[str, Any], prefix: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error.errors()[0], model, prefix)) from None


def _explain(error: Mapping[str, Any], model: type[BaseModel], prefix: str) -> str:
    """One line out of one of pydantic's errors."""
    *parents, _ = error["loc"]
    name = prefix + ".".join(error["loc"])
    for parent in parents:
        model = model.model_fields[parent].annotation  # type: ignore[assignment]
    match error["type"]:
        case "extra_forbidden":
            return explain_unknown(name, error["input"], model.model_fields)
        case "missing":
            return f"{name}: is missing (a profile holds every knob)"
        case "literal_error":
            allowed = f"must be {error['ctx']['expected']}"
        case "string_too_short":
            allowed = "must not be empty"
        case kind if kind.startswith(("greater_than", "less_than")):
            [(bound, limit)] = error["ctx"].items()
            allowed = f"must be {BOUNDS[bound]} {limit:.15g}"
        case kind if kind.startswith("int"):
            allowed = "must be an integer"
        case kind if kind.startswith(("float", "finite")):
            allowed = "must be a number"
        case kind if kind.startswith("bool_"):
            allowed = "must be true or false"
        case kind if kind.startswith("string"):
            allowed = "must be text"
        case _:
            allowed = error["msg"]
    return f"{name} = {_show(error['input'])}: {allowed}"


def explain_unknown(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One line about a name that does not exist: the nearest one that does, and all of them."""
    allowed = list(allowed)
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{name} = {_show(value)}: unknown; {hint}allowed: {', '.join(allowed)}"


def _show(value: Any) -> str:
    """Text without quotes where that is unambiguous: a command line's k=0 reads as the YAML file's k: 0."""
    return value if isinstance(value, str) and value and value.isprintable() and " " not in value else repr(value)

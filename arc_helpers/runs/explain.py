"""What is said about a value that is wrong: one line with its name, the value and what is allowed."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def explain_error(error: Mapping[str, Any], model: type[BaseModel], prefix: str) -> str:
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
    return f"{name} = {show(error['input'])}: {allowed}"


def explain_unknown(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One line about a name that does not exist: the nearest one that does, and all of them."""
    allowed = list(allowed)
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{name} = {show(value)}: unknown; {hint}allowed: {', '.join(allowed)}"


def show(value: Any) -> str:
    """Text without quotes where that is unambiguous: a command line's k=0 reads as the YAML file's k: 0."""
    return value if isinstance(value, str) and value and value.isprintable() and " " not in value else repr(value)

"""JSON files read strictly: a repeated key is a fault and does not silently drop a task."""

import json
from pathlib import Path

from arc_helpers.arc.task import TaskError


class RepeatedKey(TaskError):
    """Stands where the value of a repeated key would be: only the task that owns the key is at fault."""

    def __repr__(self) -> str:
        return "a key that appears twice"


def read_json(path: Path) -> object:
    """The value in a JSON file, with a RepeatedKey object as the value of every repeated key.

    Raises TaskError with one line if the file cannot be read or is not JSON.
    """
    try:
        return parse_json(Path(path).read_bytes())
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise TaskError(f"{path}: {error}") from None


def parse_json(text: str | bytes) -> object:
    """Like `read_json` for a text; raises ValueError with one line."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError is one too
        raise ValueError(f"not valid JSON: {error}") from None


def _unique_keys(items: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(items)
    if len(mapping) < len(items):
        names = [name for name, _ in items]
        mapping |= {name: RepeatedKey(f"the key {name!r} appears twice") for name in mapping if names.count(name) > 1}
    return mapping

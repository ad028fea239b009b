"""JSON files read strictly: a repeated key is kept as a fault instead of silently dropping a task."""

import json
from pathlib import Path

from arc_helpers.arc.task import TaskError


def read_json(path: Path) -> object:
    """The value in a JSON file. A repeated key gets a TaskError *object* as its value: only its task is bad.

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
        mapping |= {
            name: TaskError(f"the key {name!r} appears twice") for name in mapping if names.count(name) > 1
        }
    return mapping

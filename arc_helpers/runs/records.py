"""Plain JSON values and files of one JSON object a line, which a killed run leaves readable."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """The same value in JSON's own types: numpy and torch numbers and arrays, tuples, paths, NaN (as None).

    Raises TypeError on anything else.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # JSON has no NaN and no infinity
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return plain(value.tolist())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON: {value!r}")


def append_record(path: str | Path, record: Mapping[str, Any]) -> None:
    """Append one line and hand it to the system at once: it survives kill -9 of this process.

    A last line that an earlier kill tore is cut off first, so that it does not swallow this one.
    """
    append_bytes(path, (json.dumps(plain(record), allow_nan=False) + "\n").encode())


def append_bytes(path: str | Path, line: bytes, durable: bool = False) -> None:
    """Append a whole line; a torn one before it is cut off. durable: it is on the disk when this returns."""
    with open(path, "a+b") as file:
        _cut_torn_line(file)
        file.write(line)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """All records of a file; [] if there is none. A torn last line is left out.

    Raises ValueError, naming file and line, where any other line is not JSON.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is nothing, or torn
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
    return records


def _cut_torn_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)

"""JSON files read strictly and within bounds: a repeated key is a fault and does not silently drop a task."""

import json
import lzma
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from arc_helpers.arc.task import TaskError

MIB = 2**20
MAX_FILE = 1024 * MIB  # bytes of one JSON file; all public sets together have less
MAX_LINE = 32 * MIB  # bytes of one line; RE-ARC's longest, 1000 pairs of large grids, has under 4
MAX_LINES = 4096 * MIB  # bytes of all lines of one file, unpacked
LINES = (".jsonl", ".jsonl.xz")


class RepeatedKey(TaskError):
    """Stands where the value of a repeated key would be: only the task that owns the key is at fault."""

    def __repr__(self) -> str:
        return "a key that appears twice"


def read_json(path: Path) -> object:
    """The value in a JSON file, with a RepeatedKey object as the value of every repeated key.

    Raises TaskError with one line if the file cannot be read, is larger than MAX_FILE or is not JSON.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_FILE:
            raise TaskError(f"{path}: has {size // MIB} MiB; a JSON file may have {MAX_FILE // MIB}")
        return parse_json(Path(path).read_bytes())
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from None
    except TaskError:
        raise
    except ValueError as error:
        raise TaskError(f"{path}: {error}") from None


def read_lines(path: Path) -> Iterator[tuple[int, object]]:
    """(number from 1, value) of every line of a .jsonl or .jsonl.xz file, one in memory at a time, blank ones left out;
    the value of a line that is no JSON is a TaskError.

    Raises TaskError with one line if the file cannot be read or unpacked, or is beyond MAX_LINE or MAX_LINES.
    """
    total = 0
    try:
        with (lzma.open if path.suffix.lower() == ".xz" else open)(path, "rb") as file:
            for number in count(1):
                line = file.readline(MAX_LINE + 1)
                total += len(line)
                if len(line) > MAX_LINE or total > MAX_LINES:
                    what, cap = ("line", MAX_LINE) if len(line) > MAX_LINE else ("file", MAX_LINES)
                    raise TaskError(f"{path}: line {number}: the {what} has more than {cap // MIB} MiB, unpacked")
                if not line:
                    return
                if line.strip():
                    yield number, _line_value(line, f"{path}: line {number}")
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from None
    except (lzma.LZMAError, EOFError) as error:
        raise TaskError(f"{path}: is not a complete xz file: {error}") from None


def _line_value(line: bytes, where: str) -> object:
    try:
        return parse_json(line)
    except ValueError as error:
        return TaskError(f"{where}: {error}")


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
        counts = Counter(name for name, _ in items)
        mapping |= {name: RepeatedKey(f"the key {name!r} appears twice") for name, n in counts.items() if n > 1}
    return mapping

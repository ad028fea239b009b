"""Checksums of the files that a run goes on from: such a file is what was written, or it is put aside.

Beside the files of a folder stands `.checksums`, a line a write, as `sha256sum` prints it. A line is there before its
file takes the place of the older one, so whenever a run is killed, the file's line is among them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arc_helpers.runs.checkpoint import replacing
from arc_helpers.runs.records import append_bytes, plain

LEDGER = ".checksums"
DAMAGED = ".damaged"  # what a file that is not whole is called from then on


@contextmanager
def sealing(path: str | Path) -> Iterator[Path]:
    """As `replacing`, for a file that a run goes on from: its checksum is noted before it takes its place."""
    path = Path(path)
    with replacing(path) as draft:
        yield draft
        append_bytes(path.parent / LEDGER, f"{sha256_of(draft)}  {path.name}\n".encode(), durable=True)


def seal_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """`atomic_write_json`, sealed."""
    with sealing(path) as draft:
        draft.write_text(json.dumps(plain(value), indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def is_whole(path: str | Path) -> bool:
    """Whether a file is there and is, to the bit, one that was sealed."""
    path = Path(path)
    return path.is_file() and sha256_of(path) in sealed(path.parent).get(path.name, ())


def sealed(folder: str | Path) -> dict[str, set[str]]:
    """{file name: checksums of its versions} of what was sealed in a folder; a damaged line says nothing."""
    ledger, found = Path(folder) / LEDGER, {}
    if ledger.is_file():
        for line in ledger.read_bytes().decode(errors="replace").split("\n")[:-1]:
            checksum, _, name = line.partition("  ")
            found.setdefault(name, set()).add(checksum)
    return found


def usable(path: str | Path, say: Callable[[str], None] = print) -> bool:
    """Whether a run can go on from a file. One that is damaged is renamed to <name>.damaged, and `say` gets a line."""
    path = Path(path)
    if not path.is_file() or is_whole(path):
        return path.is_file()
    aside = path.with_name(path.name + DAMAGED)
    try:
        os.replace(path, aside)
    except FileNotFoundError:  # another process of the same run was faster
        return False
    say(f"{path}: is not what was written (its checksum differs): kept as {aside.name}, and made anew")
    return False


def sha256_of(path: str | Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What a run depends on, in a few characters: of a model folder, of data, of the package's own code.

A file is hashed once and remembered by its size, its time of change and its inode. Of a large one samples are taken,
64 KiB of every 4 MiB: of 15 GB of weights that is a second's reading, and no matrix of them is missed.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from arc_helpers.runs.checkpoint import atomic_write_json
from arc_helpers.runs.env import PACKAGE

WHOLE = 64 * 2**20  # bytes; larger files are sampled
EVERY, PIECE = 4 * 2**20, 64 * 2**10


def fingerprint(path: str | Path) -> str:
    """Of a file, or of all files below a folder (of their names, too; what begins with a dot is left out)."""
    path = Path(path)
    memory = _Memory()
    if path.is_file():
        found = memory.hash_of(path)
    else:
        # the order of a listing means nothing
        lines = sorted(f"{file.relative_to(path).as_posix()} {memory.hash_of(file)}" for file in _files(path))
        found = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    memory.keep()
    return found


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """Of the package's Python files, as they are now."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Iterable[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            yield file


def _content_hash(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= WHOLE:
            return hashlib.file_digest(file, lambda: digest).hexdigest()[:16]
        for place in (*range(0, size, EVERY), size - PIECE):
            file.seek(place)
            digest.update(file.read(PIECE))
    return digest.hexdigest()[:16]


class _Memory:
    """Hashes of files that were large enough to be worth it, in the user's cache folder, where there can be one."""

    worth = 2**20  # bytes

    def __init__(self) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.file, self.new = Path(base) / "arc_helpers" / "fingerprints.json", False
        try:
            self.known = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}
        if not isinstance(self.known, dict):
            self.known = {}

    def hash_of(self, path: Path) -> str:
        stat = path.stat()
        if stat.st_size < self.worth:
            return _content_hash(path)
        key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        if not isinstance(self.known.get(key), str):
            self.known[key], self.new = _content_hash(path), True
        return self.known[key]

    def keep(self) -> None:
        if self.new:
            with suppress(OSError):  # no home, a full or read-only disk: it is hashed again next time
                atomic_write_json(self.file, dict(list(self.known.items())[-1000:]))

"""Documents to read: what every installation holds, or texts of the user's; some for training, some held out, some for
tests, by document."""

import ast
import functools
import importlib.util
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from arc_helpers.texts.records import TextError, read_records

INSTALLED = "installed"  # the name of the texts that need no network
PACKAGES = ("numpy", "matplotlib")  # of these the docstrings; the suite needs both anyway
LONG, PART = 60_000, 20_000  # characters: a text longer than the first is cut into parts of about the second
COLUMNS = ("text", "content", "document", "body", "prompt")
LEAST = 500  # characters of docstrings that are read as a text
PARTS = ("train", "held_out", "test")


@dataclass(frozen=True)
class Documents:
    """Texts by what they are for, none in two parts. sources: a line each: what, whose, which licence."""

    train: list[str]
    held_out: list[str]
    test: list[str]
    sources: tuple[str, ...]

    @property
    def report(self) -> str:
        """What was read, in a few lines."""
        sizes = (f"{len(getattr(self, p)):,} {p} ({sum(map(len, getattr(self, p))) / 1e6:.2f} M)" for p in PARTS)
        return "\n".join([f"documents (characters): {', '.join(sizes)}", *self.sources])


def read_documents(source: str | Path = INSTALLED, one_in: int = 10) -> Documents:
    """The documents of "installed", of a file or folder of texts, or of a hub data set.

    "installed": Python's help topics and docstrings, and those of numpy and matplotlib. Of rows their `text` is read;
    a plain file is one document, a long one (a novel) several, cut between paragraphs. One document in `one_in`, by its
    checksum, is held out, another is for tests, so a text is always on the same side.
    Raises TextError, one line, where a part would be empty.
    """
    if str(source) == INSTALLED:
        texts, lines = list(_installed()), tuple(_licences())
    else:
        texts, lines = _read(source)
    parts: dict[str, list[str]] = {name: [] for name in PARTS}
    for text in dict.fromkeys(texts):
        place = zlib.crc32(text.encode("utf-8", "replace")) % one_in
        parts["held_out" if place == 0 else "test" if place == 1 else "train"].append(text)
    if len(texts) < 3 or not parts["train"]:
        raise TextError(f"{source}: holds {len(texts)} documents; at least 3 are needed, one for each part")
    for name in ("held_out", "test"):  # of a handful of documents the checksums may leave a part empty
        if not parts[name]:
            parts[name].append(parts["train"].pop())
    return Documents(**parts, sources=lines)


def cut_windows(rows: Sequence[Sequence[int]], length: int, count: int, end: int) -> list[list[int]]:
    """At most `count` windows of `length` token ids, of documents as ids: each from the beginning of one, or of a part.

    Windows of different documents come first. Where no document is as long, they are cut from all in one row, the id
    `end` behind each. Raises TextError where all together are shorter than one window.
    """
    if max(map(len, rows), default=0) < length:
        rows = [[token for row in rows for token in (*row, end)]]
    pieces = [[list(row[i : i + length]) for i in range(0, len(row) - length + 1, length)] for row in rows]
    in_turn = [piece[i] for i in range(max(map(len, pieces))) for piece in pieces if i < len(piece)]
    if not in_turn:
        raise TextError(f"the texts have {len(rows[0]):,} tokens together: too small for one window of {length:,}")
    return in_turn[:count]


def _read(source: str | Path) -> tuple[list[str], tuple[str, ...]]:
    notes: list[str] = []
    texts, bad = [], []
    for where, value in read_records(source, notes.append):
        found = value if isinstance(value, str) else _text_of(value)
        if isinstance(value, TextError) or not found or not found.strip():
            bad.append(str(value) if isinstance(value, TextError) else f"{where}: has no {' or '.join(COLUMNS[:2])}")
        else:
            texts += _parts(found)
    if not texts:
        raise TextError(f"{source}: holds no text" + (f" ({bad[0]})" if bad else ""))
    if bad:
        notes.append(f"{len(bad):,} rows without a text are left out, the first: {bad[0]}")
    return texts, (f"{source}: of the user", *notes)


def _parts(text: str) -> list[str]:
    """A text that is short enough as it is; else its paragraphs, in order, in parts of some PART characters."""
    if len(text) <= LONG:
        return [text]
    parts = [""]
    for paragraph in text.split("\n\n"):
        if len(parts[-1]) >= PART:
            parts.append("")
        parts[-1] += paragraph + "\n\n"
    return parts


def _text_of(row: object) -> str | None:
    if not isinstance(row, Mapping):
        return None
    return next((row[name] for name in COLUMNS if isinstance(row.get(name), str)), None)


def python_topics() -> list[tuple[str, str]]:
    """(name, text) of the help topics that every Python brings along: its language reference (PSF-2.0)."""
    from pydoc_data.topics import topics

    return sorted(topics.items())


@functools.cache  # parsing them takes seconds
def python_docstrings() -> tuple[tuple[str, str], ...]:
    """(name, text) of the modules of Python's own library, those in packages left out: their docstrings (PSF-2.0)."""
    return tuple(_docstrings(sorted(Path(os.__file__).parent.glob("*.py"))))


def _installed() -> Iterator[str]:
    yield from (text for _, text in python_topics())
    yield from (text for name, text in python_docstrings() if len(text) > LEAST and "test" not in name)
    modules = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for root in map(Path, (spec and spec.submodule_search_locations) or ()):
            found = sorted(root.rglob("*.py"))
            modules += [path for path in found if "test" not in str(path.relative_to(root)).lower()]
    yield from (text for _, text in _docstrings(modules) if len(text) > LEAST)


def _docstrings(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(name, text) of each module that has docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in paths:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):  # a package's own broken or foreign file is no text of ours
            continue
        strings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        if any(strings):
            yield path.stem, "\n\n".join(filter(None, strings))


def _licences() -> Iterator[str]:
    yield "Python's help topics and docstrings: PSF-2.0"
    for name in PACKAGES:
        try:
            found = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        licence = (found["License-Expression"] or found["License"] or "see its metadata").splitlines()[0]
        yield f"docstrings of {name} {found['Version']}: {licence}"

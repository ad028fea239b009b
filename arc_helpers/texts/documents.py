"""Documents to read: what every installation holds, or texts of the user's; some for training, some held out, some for
tests, by document."""

import ast
import importlib.util
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from arc_helpers.texts.records import TextError, read_records

INSTALLED = "installed"  # the name of the texts that need no network
PACKAGES = ("numpy", "matplotlib")  # of these the docstrings; the suite needs both anyway
LONG, PART = 60_000, 20_000  # characters: a text longer than the first is cut into parts of about the second
COLUMNS = ("text", "content", "document", "body")
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
        raise TextError(f"corpus = {source}: holds {len(texts)} documents; at least 3 are needed, one for each part")
    for name in ("held_out", "test"):  # of a handful of documents the checksums may leave a part empty
        if not parts[name]:
            parts[name].append(parts["train"].pop())
    return Documents(**parts, sources=lines)


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
        raise TextError(f"corpus = {source}: holds no text" + (f" ({bad[0]})" if bad else ""))
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


def _installed() -> Iterator[str]:
    from pydoc_data.topics import topics

    yield from (topics[name] for name in sorted(topics))
    yield from _docstrings(Path(os.__file__).parent.glob("*.py"))
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec and spec.submodule_search_locations:
            yield from _docstrings(Path(spec.submodule_search_locations[0]).rglob("*.py"))


def _docstrings(paths) -> Iterator[str]:
    """One document a module: its docstrings, where they are long enough to be read as a text."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(paths):
        if "test" in str(path).lower():
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):  # a package's own broken or foreign file is no text of ours
            continue
        strings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        text = "\n\n".join(filter(None, strings))
        if len(text) > 500:
            yield text


def _licences() -> Iterator[str]:
    yield "Python's help topics and docstrings: PSF-2.0"
    for name in PACKAGES:
        try:
            found = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        licence = (found["License-Expression"] or found["License"] or "see its metadata").splitlines()[0]
        yield f"docstrings of {name} {found['Version']}: {licence}"

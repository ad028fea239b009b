"""Records out of the files that people have: JSON, JSON lines, CSV, Parquet, Arrow, plain text, packed or not, a folder
of them, or a data set of the hub. What is not understood is told row by row, and costs itself alone."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arc_helpers.arc.json_file import MIB
from arc_helpers.runs import resolve_path

MAX_TEXT = 1024 * MIB  # bytes of one file of text, unpacked
PACKED: dict[str, Callable] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
TABLES = (".parquet", ".arrow", ".feather")
TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md", ".rst")
LISTS = ("data", "rows", "dialogs", "dialogues", "conversations", "examples", "train", "records")
HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"


class TextError(ValueError):
    """A file of texts, or a row of one, that cannot be used; one line: where, what, what is allowed."""


class Record(NamedTuple):
    """One row. where: file and line or row. value: what stands there, or a TextError that says why nothing does."""

    where: str
    value: Any


def read_records(source: str | Path, say: Callable[[str], object] = lambda line: None) -> Iterator[Record]:
    """Every record of a file, a folder or a hub id, in order; a bad row is a TextError in its place.

    Of a folder that has training files, only these are read. Only a hub id reaches for the network, once.
    say: gets a line about what was left out. Raises TextError where the source as a whole cannot be read.
    """
    path = resolve_path(source)
    if path.is_dir():
        files = _files_in(path, say)
        for file in files:
            yield from _safely(file) if len(files) > 1 else read_file(file)
    elif path.is_file():
        yield from read_file(path)
    elif re.fullmatch(HUB_ID, str(source)) and not path.parent.is_dir():
        yield from _hub(str(source))
    else:
        raise TextError(f"{source}: no such file or folder ({path}), and no data set's name (owner/name)")


def read_file(path: Path) -> Iterator[Record]:
    """The records of one file, by what it ends in. Raises TextError, one line."""
    kind = _kind(path)
    if kind in TABLES:
        yield from _table(path, kind)
        return
    if kind not in TEXTS:
        raise TextError(f"{path}: must end in {', '.join((*TEXTS, *TABLES))}, the texts also with {', '.join(PACKED)}")
    text = read_text(path)
    if not text.strip():
        raise TextError(f"{path}: is empty")
    if kind in (".csv", ".tsv"):
        yield from _csv(path, text, "\t" if kind == ".tsv" else None)
    elif kind in (".jsonl", ".ndjson"):
        yield from _lines(path, text)
    elif kind == ".json":
        yield from _json(path, text)
    else:
        yield Record(str(path), text)


def read_text(path: Path) -> str:
    """A file's text: UTF-8, or UTF-16 and UTF-32 with their mark, unpacked. Raises TextError, one line."""
    opened = PACKED.get(path.suffix.lower(), open)
    try:
        with opened(path, "rb") as file:
            data = file.read(MAX_TEXT + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise TextError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(data) > MAX_TEXT:
        raise TextError(f"{path}: has more than {MAX_TEXT // MIB} MiB of text; split it")
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextError(f"{path}: is no {encoding.removesuffix('-sig')} text (byte {error.start})") from None
    if "\0" in text:
        raise TextError(f"{path}: is a binary file, or a text in an unknown encoding")
    return text


def _kind(path: Path) -> str:
    """What a file is, its packing apart: .jsonl for a.jsonl.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _files_in(folder: Path, say: Callable[[str], object]) -> list[Path]:
    """The files of a folder that are read: those for training, where some are."""
    known = {*TEXTS[:5], ".txt", *TABLES}
    notes = {"dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json"}  # of a saved data set
    names = [p for p in sorted(folder.rglob("*")) if p.is_file() and _kind(p) in known and p.name not in notes]
    names = [p for p in names if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if not names:
        raise TextError(f"{folder}: holds no file that ends in {', '.join((*TEXTS[:6], *TABLES))}")
    train = [p for p in names if re.search(r"(^|[^a-z])train", str(p.relative_to(folder)).lower())]
    if train and len(train) < len(names):
        left = [str(p.relative_to(folder)) for p in names if p not in train]
        say(f"{folder}: only its training files are read, not {', '.join(left[:3])}{' …' if len(left) > 3 else ''}")
    return train or names


def _safely(path: Path) -> Iterator[Record]:
    """A file among others: what is wrong with it costs it alone."""
    try:
        yield from read_file(path)
    except TextError as error:
        yield Record(str(path), error)


def _parse(text: str, where: str) -> Any:
    """The JSON value of a text, or a TextError."""
    try:
        return json.loads(text)
    except RecursionError:
        return TextError(f"{where}: is nested too deeply")
    except ValueError as error:
        return TextError(f"{where}: is not JSON ({error})")


def _lines(path: Path, text: str) -> Iterator[Record]:
    # by "\n" alone: str.splitlines also cuts at characters that JSON allows inside a text
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Record(f"{path}:{number}", _parse(line, f"{path}:{number}"))


def _json(path: Path, text: str) -> Iterator[Record]:
    """A list of rows, an object that holds one, an object of rows by id, one row, or JSON lines by a wrong name."""
    value: Any = _parse(text, str(path))
    if isinstance(value, TextError):
        first = text.lstrip().split("\n", 1)
        if len(first) > 1 and not isinstance(_parse(first[0], ""), TextError):
            yield from _lines(path, text)
            return
        raise value
    inner = [value[name] for name in LISTS if isinstance(value, dict) and isinstance(value.get(name), list)]
    rows = value if isinstance(value, list) else inner[0] if len(inner) == 1 and _is_list_of_rows(inner[0]) else None
    if rows is not None:
        yield from (Record(f"{path}, row {n}", row) for n, row in enumerate(rows, 1))
    elif isinstance(value, dict) and len(value) > 1 and all(isinstance(row, dict | list) for row in value.values()):
        yield from (Record(f"{path}, row {key!r}", row) for key, row in value.items())
    else:
        yield Record(str(path), value)


def _is_turn(value: object) -> bool:
    """One message of a dialogue, not a dialogue."""
    if not isinstance(value, dict) or not any(isinstance(value.get(k), str) for k in ("role", "from", "speaker")):
        return False
    return not any(isinstance(entry, list) for name, entry in value.items() if name != "content")


def _is_list_of_rows(value: list) -> bool:
    return bool(value) and not _is_turn(value[0]) and not isinstance(value[0], str)


def _csv(path: Path, text: str, delimiter: str | None) -> Iterator[Record]:
    csv.field_size_limit(MAX_TEXT)
    if delimiter is None:
        head = text.split("\n", 1)[0]
        delimiter = max(",;\t|", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    names = reader.fieldnames or []
    if len(names) < 1 or any(not name or not name.strip() for name in names[1:]):
        raise TextError(f"{path}: its first line must name the columns; it is {names}")
    try:
        for row in reader:
            clean = {(name or "").strip().lower(): value for name, value in row.items() if value is not None}
            yield Record(f"{path}:{reader.line_num}", clean)
    except csv.Error as error:
        yield Record(f"{path}:{reader.line_num}", TextError(f"{path}:{reader.line_num}: is not CSV ({error})"))


def _table(path: Path, kind: str) -> Iterator[Record]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise TextError(f"{path}: needs `pip install pyarrow`, or the same data as .jsonl") from None
    try:
        if kind == ".parquet":
            batches = pq.ParquetFile(path).iter_batches(1024)
        else:
            with path.open("rb") as file:
                is_file = file.read(6) == b"ARROW1"
            source = pa.memory_map(str(path))
            opened = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            batches = (opened.get_batch(i) for i in range(opened.num_record_batches)) if is_file else iter(opened)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield Record(f"{path}, row {number}", row)
    except (pa.ArrowException, OSError) as error:
        why = str(error).splitlines()[0][:120]
        raise TextError(f"{path}: is not a whole {kind[1:]} file ({why})") from None


def _hub(name: str) -> Iterator[Record]:
    """A data set of the hub, asked for once; its own library would try six times. Offline, what is in its cache."""
    try:
        from huggingface_hub import HfApi, constants

        from arc_helpers.lm.door import hub_token

        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(name, token=hub_token(), timeout=20)
        from datasets import load_dataset

        rows = load_dataset(name, split="train", token=hub_token())
    except ImportError:
        raise TextError(f"{name}: needs `pip install datasets`, or the data as a file") from None
    except Exception as error:  # whatever the hub, the network or a file format raises is one line to the user
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise TextError(f"{name}: cannot be fetched from the hub ({why}); without a network, give a file") from None
    yield from (Record(f"{name}, row {n}", row) for n, row in enumerate(rows, 1))

"""What is in a run's folder, what of it is damaged, what can be kept; and the folder mended, with nothing deleted."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from arc_helpers.runs.checkpoint import DRAFT, atomic_write_bytes
from arc_helpers.runs.folder import FolderError, Marker, RunFolder, held, read_marker, set_aside, write_marker
from arc_helpers.runs.seal import DAMAGED, LEDGER, is_whole, sealed, usable

ADOPTED = "adopted by hand"


def examine(folder: str | Path, adopt: bool = False) -> Iterator[str]:
    """A line for each thing that is found, mended as it is told. adopt: mark a folder that no run has made, so that
    the next run in it sets what it holds aside. Raises FolderError, one line, where there is nothing to examine."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder")
    marker = read_marker(folder)
    if marker is None:
        if not adopt:
            raise FolderError(f"{folder}: no run has made it (no marker); --adopt lets runs have it")
        write_marker(folder, Marker(ADOPTED, "done", {}, {}))
        yield f"adopted: a run in it sets its {len(held(folder))} files and folders aside"
        return
    owner = RunFolder(folder, marker.made_by)
    owner.lock()
    try:
        yield f"made by {marker.made_by or 'a run that is not known any more'}, {_state(marker)}"
        if marker.moving_to:
            yield f"was being set aside when it was killed: moved to {set_aside(folder)}"
            return
        yield from _sealed_files(folder)
        yield from _tables(folder)
        yield from _drafts(folder)
    finally:
        owner.release()


def _state(marker: Marker) -> str:
    return {
        "prepared": "made ready, not begun",
        "running": "stopped before its end: the same command goes on with it",
        "done": "ended",
        "damaged": "its marker is damaged: the next run in it sets it aside",
    }[marker.state]


def _sealed_files(folder: Path) -> Iterator[str]:
    whole = 0
    for ledger in sorted(folder.rglob(LEDGER)):
        for name in sorted(sealed(ledger.parent)):
            file = ledger.parent / name
            if is_whole(file):
                whole += 1
            elif file.is_file():
                said: list[str] = []
                usable(file, said.append)
                yield from said
        for file in sorted(ledger.parent.iterdir()):  # a line of the ledger that is damaged vouches for nothing
            if file.parent.name == "results" and file.suffix == ".json" and file.name not in sealed(ledger.parent):
                file.rename(file.with_name(file.name + DAMAGED))
                yield f"{file}: nothing says that it is what was written: kept as {file.name}{DAMAGED}"
    yield f"{whole} files that a run goes on from are whole"


def _tables(folder: Path) -> Iterator[str]:
    for table in sorted(folder.rglob("*.jsonl")):
        lines = table.read_bytes().splitlines(keepends=True)
        good = [line for line in lines if _parses(line)]
        if len(good) < len(lines):
            shutil.copy2(table, table.with_name(table.name + DAMAGED))
            atomic_write_bytes(table, b"".join(good))
            yield f"{table}: {len(lines) - len(good)} of {len(lines)} lines are no JSON: left out, the old file kept"
    for file in sorted(folder.rglob("*.json")):
        if file.name != LEDGER and not _parses(file.read_bytes()):
            yield f"{file}: is no JSON; the run writes it again"


def _drafts(folder: Path) -> Iterator[str]:
    for draft in sorted(folder.rglob(".*")):
        if DRAFT.fullmatch(draft.name):
            remove: Callable = shutil.rmtree if draft.is_dir() else Path.unlink
            remove(draft)
            yield f"{draft}: half a file of a write that was killed: removed"


def _parses(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

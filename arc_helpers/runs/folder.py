"""A folder that one run owns: locked while it works, marked as its own, never mixed with another run, never deleted.

`.arc-run.json`, the marker, says which run it is and what it depends on. A folder that has something in it and no
marker is refused: it is somebody's. A folder with one is gone on with where the run is the same, and else *set aside*:
all that is in it is moved to `<name>.1`, or the next number that is free.
"""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from arc_helpers.runs.checkpoint import DRAFT, atomic_write_json, sync
from arc_helpers.runs.config import ConfigError
from arc_helpers.runs.records import plain

MARKER, LOCK = ".arc-run.json", ".arc-run.lock"
UNOWNED = {LOCK, ".DS_Store", ".ipynb_checkpoints"}  # what a folder may hold and still count as empty
Verb = Literal["new", "resume", "set aside"]
State = Literal["prepared", "running", "done", "damaged"]


class FolderError(ConfigError):
    """A folder cannot be written to by this run. One line: which, why, what to do."""


@dataclass(frozen=True)
class Marker:
    """What a marker says. asked: parameters; found: what they stand for, such as a hash of the model's files."""

    made_by: str = ""
    state: State = "damaged"
    asked: Mapping[str, Any] | None = None
    found: Mapping[str, Any] | None = None
    process: str = ""  # who wrote it: "process 12 on host"
    moving_to: str | None = None  # the folder is being set aside


@dataclass(frozen=True)
class Verdict:
    """What becomes of a folder when a run starts in it, and why, in one line."""

    verb: Verb
    why: str = ""


class RunFolder:
    """One run's folder.

    made_by: the notebook or command that writes. asked, found: what its results depend on, flat; compared with what
    an earlier run here depended on. goes_on: a run that has ended is gone on with, too. ours: whatever is in the
    folder belongs to this run, as on Kaggle: nothing is refused.
    """

    def __init__(
        self,
        path: str | Path,
        made_by: str,
        asked: Mapping[str, Any] | None = None,
        found: Mapping[str, Any] | None = None,
        *,
        goes_on: bool = False,
        ours: bool = False,
    ):
        self.path, self.made_by, self.goes_on, self.ours = Path(path), made_by, goes_on, ours
        self.asked, self.found = plain(dict(asked or {})), plain(dict(found or {}))
        self.verdict = Verdict("new")
        self._lock: Any = None

    def judge(self, fresh: bool = False) -> Verdict:
        """What would become of the folder; nothing is changed. fresh: do not go on with an earlier run.

        Raises FolderError where the folder is refused.
        """
        try:
            return self._judge(fresh)
        except OSError as error:
            raise FolderError(f"{self.path}: cannot be read ({error.strerror or error})") from None

    def prepare(self, fresh: bool = False) -> Verdict:
        """Do what `judge` says and let go of the folder again: another process is about to open it."""
        verdict = self.open(fresh)
        if verdict.verb != "resume":
            self._mark("prepared")
        self.release()
        return verdict

    def open(self, fresh: bool = False) -> Verdict:
        """Lock the folder, do what `judge` says, and mark it as this run's. Raises FolderError, one line."""
        self.judge(fresh)  # before anything is made
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock()
            self.verdict = self.judge(fresh)
            marker = read_marker(self.path)
            if self.verdict.verb == "set aside" or (marker and marker.moving_to):
                aside = set_aside(self.path)
                self.verdict = Verdict("set aside", f"{self.verdict.why}: the earlier run is in {aside}")
            self._mark("running")
        except OSError as error:
            self.release()
            raise FolderError(f"{self.path}: cannot be written ({error.strerror or error})") from None
        except FolderError:
            self.release()
            raise
        return self.verdict

    def lock(self) -> None:
        """Keep other processes out. Raises FolderError, one line, where one is in."""
        from filelock import FileLock, Timeout

        # a second run of the same kernel, say from the top, is the same process: it has the lock already
        lock = FileLock(self.path / LOCK, timeout=0, is_singleton=True, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            who = getattr(read_marker(self.path), "process", "") or "another process"
            raise FolderError(
                f"{self.path}: another run writes here ({who}); wait for it, stop it, or choose another out_dir"
            ) from None
        self._lock = lock

    def finish(self) -> None:
        """The run has ended, and its folder is free."""
        self._mark("done")
        self.release()

    def release(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    def _judge(self, fresh: bool) -> Verdict:
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path}: is a file, a folder is needed; choose another name, or move it away")
        marker = read_marker(self.path)
        if marker is None:
            return self._judge_unmarked()
        if marker.state == "prepared" or marker.moving_to:
            return Verdict("new")
        inner = [p.parent.name for p in self.path.glob(f"*/{MARKER}") if is_a_run(read_marker(p.parent))]
        verdict = self._compare(marker, fresh)
        if verdict.verb == "set aside" and inner:
            raise FolderError(f"{self.path}: holds other runs ({', '.join(sorted(inner)[:3])}); choose another out_dir")
        return verdict

    def _judge_unmarked(self) -> Verdict:
        names = sorted(held(self.path))
        alone = names == [f"{self.made_by}.ipynb"]  # papermill writes there before the notebook's first cell
        if not names or alone or self.ours:
            return Verdict("new")
        raise FolderError(
            f"{self.path}: holds {', '.join(names[:3])}{', …' * (len(names) > 3)}, which no run of this version made; "
            f"choose another folder, or let runs have it: python -m arc_helpers doctor {self.path} --adopt"
        )

    def _compare(self, marker: Marker, fresh: bool) -> Verdict:
        if fresh:
            return Verdict("set aside", "fresh")
        if marker.state == "damaged":
            return Verdict("set aside", "its marker is damaged")
        if marker.made_by != self.made_by:
            return Verdict("set aside", f"{marker.made_by} wrote here")
        changed = first_change(marker.asked or {}, self.asked)
        if changed:
            return Verdict("set aside", changed)
        known = {name: value for name, value in self.found.items() if name in (marker.found or {})}
        changed = first_change({name: (marker.found or {})[name] for name in known}, known)
        if changed and marker.state == "running" and not self.ours:
            raise FolderError(
                f"{self.path}: an unfinished run is here, and {changed}; fresh=true sets it aside and starts anew, or "
                "bring back what has changed"
            )
        if changed or (marker.state == "done" and not self.goes_on):
            return Verdict("set aside", changed or "it had ended")
        return Verdict("resume", "the run that ended here" if marker.state == "done" else "the run that was stopped")

    def _mark(self, state: State) -> None:
        before = read_marker(self.path) if self.verdict.verb == "resume" else None
        found = {**(before.found or {} if before else {}), **self.found}
        process = f"process {os.getpid()} on {socket.gethostname()}"
        write_marker(self.path, Marker(self.made_by, state, self.asked, found, process))


def built_folder(path: str | Path, made_by: str) -> Path:
    """An empty folder for what is made anew each time, such as a report; an earlier one of the same maker is removed.

    Raises FolderError, one line, where it holds anything else.
    """
    path = Path(path)
    check_built(path, made_by)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_marker(path, Marker(made_by, "done"))  # first: what is removed, or made, in part is still its maker's
        for entry in path.iterdir():
            if entry.name != MARKER:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    except OSError as error:
        raise FolderError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


@contextmanager
def replacing_folder(path: str | Path, made_by: str = "a model") -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place, whole and on the disk, if the block succeeds.

    What was made there before is replaced inside the folder of a run, and set aside elsewhere. Raises FolderError, one
    line, where the folder holds anything else.
    """
    path = Path(path).absolute()
    check_built(path, made_by)
    draft, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        write_marker(draft, Marker(made_by, "done"))
        for file in draft.rglob("*"):
            sync(file)
        if held(path) and not is_a_run(read_marker(path.parent)):
            set_aside(path)
        if path.exists():
            os.rename(path, old)
        os.rename(draft, path)
        sync(path.parent)
    finally:
        for leftover in (draft, old):
            shutil.rmtree(leftover, ignore_errors=True)


def check_built(path: Path, made_by: str) -> None:
    """Raise FolderError, one line, where a folder holds anything that this maker has not made."""
    marker = read_marker(path)
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path}: is a file, a folder is needed")
    if held(path) and (marker is None or marker.made_by != made_by):
        raise FolderError(
            f"{path}: holds {', '.join(sorted(held(path))[:3])}, which was not made as {made_by}; "
            "give an empty folder, or one that is not there yet"
        )


def held(folder: Path) -> set[str]:
    """Names of what is in a folder and would be missed."""
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names - UNOWNED - {MARKER} if not DRAFT.fullmatch(name)}


def is_a_run(marker: Marker | None) -> bool:
    """Whether a marker is a run's, not that of something built by a command."""
    return marker is not None and marker.asked is not None


def set_aside(folder: Path) -> Path:
    """Move all that is in a marked folder to <name>.N; returns that. Killed in the middle, it goes on when called
    again.

    The lock stays. Raises OSError where nothing can be moved.
    """
    folder = Path(folder)
    marker = read_marker(folder) or Marker()
    number = 1
    while (folder.parent / f"{folder.name}.{number}").exists():
        number += 1
    target = Path(marker.moving_to or folder.parent / f"{folder.name}.{number}")
    target.mkdir(exist_ok=True)
    write_marker(folder, replace(marker, moving_to=str(target)))
    for name in held(folder):
        shutil.move(folder / name, target / name)
    write_marker(target, replace(marker, moving_to=None))
    (folder / MARKER).unlink()
    return target


def read_marker(folder: str | Path) -> Marker | None:
    """A folder's marker; None where there is none. One that is not what was written has the state "damaged"."""
    try:
        record = json.loads((Path(folder) / MARKER).read_bytes())
        checksum = record.pop("sha256")
        return Marker(**record) if checksum == _checksum(record) else Marker()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return Marker()


def write_marker(folder: str | Path, marker: Marker) -> None:
    """Mark a folder, atomically."""
    record = plain(vars(marker))
    atomic_write_json(Path(folder) / MARKER, {**record, "sha256": _checksum(record)})


def first_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A line about the first value that differs, or None."""
    for name in {**before, **now}:
        if name not in now:
            return f"{name} is missing now"
        if name not in before:
            return f"{name} is new"
        if before[name] != now[name]:
            return f"{name} was {before[name]} and is {now[name]} now"
    return None


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

"""The files of one run: metrics.jsonl, tasks.jsonl, config.yaml, figures/, summary.json."""

import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from arc_helpers.runs.checkpoint import atomic_write_json, atomic_write_text, replacing
from arc_helpers.runs.env import DeviceChoice, choose_device, project_root
from arc_helpers.runs.folder import RunFolder
from arc_helpers.runs.mirror import open_mirror
from arc_helpers.runs.records import append_record, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("torch", "transformers", "numpy", "arc-helpers")


class RunLog:
    """Writes what a run leaves behind, each line at once; summary.json exists only after close().

    out_dir: an open RunFolder, which close() ends, or a folder inside one. config: a pydantic model or a mapping,
    written to config.yaml. device: what summary.json names; None asks choose_device().
    """

    def __init__(
        self,
        out_dir: str | Path | RunFolder,
        notebook: str,
        profile: str,
        seed: int,
        config: BaseModel | Mapping[str, Any],
        device: DeviceChoice | None = None,
    ):
        self._folder = out_dir if isinstance(out_dir, RunFolder) else None
        self.out_dir = out_dir.path if isinstance(out_dir, RunFolder) else Path(out_dir)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._run = {"notebook": notebook, "profile": profile, "seed": seed}
        self._device = device or choose_device()
        self._unfinished = False
        self._start = time.monotonic()
        knobs = config.model_dump() if isinstance(config, BaseModel) else dict(config)
        record = {**self._run, "config": plain(knobs)}
        atomic_write_text(self.out_dir / "config.yaml", yaml.safe_dump(record, sort_keys=False))
        self._mirror = open_mirror(self.out_dir, record)

    def metric(self, step: int, **scalars: Any) -> None:
        """Append one line to metrics.jsonl; NaN and infinity become null."""
        record = plain({"step": step, **scalars})
        append_record(self.out_dir / "metrics.jsonl", record)
        self._mirror.log(record)

    def task(self, task_id: str, **fields: Any) -> None:
        """Append one line to tasks.jsonl."""
        append_record(self.out_dir / "tasks.jsonl", {"task_id": task_id, **fields})

    def figure(self, fig: "Figure", name: str) -> Path:
        """Save a matplotlib figure as figures/<name>.png and return its path."""
        path = self.out_dir / "figures" / f"{name}.png"
        with replacing(path) as draft:
            fig.savefig(draft, format="png", bbox_inches="tight")
        return path

    def leave_unfinished(self) -> None:
        """What close() ends is not the run: the same command goes on with it."""
        self._unfinished = True

    def close(self, **numbers: Any) -> dict[str, Any]:
        """Write summary.json (flat: numbers, strings, booleans, None) and return it.

        Raises ValueError where a value is nested.
        """
        summary = {
            **self._run,
            "seconds": round(time.monotonic() - self._start, 3),
            "device": self._device.device,
            "dtype": self._device.dtype,
            "git": git_version(),
            **{f"version_{name}": version for name, version in versions().items()},
            **plain(numbers),
        }
        for name, value in summary.items():
            if isinstance(value, dict | list):
                raise ValueError(f"summary.{name}: must be one number, text, boolean or None, not {value!r}")
        atomic_write_json(self.out_dir / "summary.json", summary)
        self._mirror.close(summary)
        if self._folder is not None:
            self._folder.release() if self._unfinished else self._folder.finish()
        return summary


def versions() -> dict[str, str]:
    """Versions of Python and the packages that decide a result, from metadata (nothing is imported)."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package.replace("-", "_")] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_version() -> str:
    """Short commit hash of the project, with "-dirty" where tracked files differ; "unknown" without git."""
    command = ["git", "-C", str(project_root()), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"

"""Weights & Biases as an optional mirror of a run's numbers, never in the way."""

import importlib.util
import os
from pathlib import Path
from typing import Any

MODES = ("disabled", "offline", "online")


class Mirror:
    """The mirror that does nothing."""

    def log(self, record: dict[str, Any]) -> None:
        """Send one line of metrics."""

    def close(self, summary: dict[str, Any]) -> None:
        """Send the summary and end."""


class WandbMirror(Mirror):
    """Mirrors to Weights & Biases."""

    def __init__(self, out_dir: Path, record: dict[str, Any], mode: Any):
        import wandb

        self._run = wandb.init(
            project=f"arc-{record['notebook']}",
            config=record,
            dir=str(out_dir),
            mode=mode,
            settings=wandb.Settings(silent=True),
        )

    def log(self, record: dict[str, Any]) -> None:
        self._run.log({name: value for name, value in record.items() if value is not None})

    def close(self, summary: dict[str, Any]) -> None:
        self._run.summary.update(summary)
        self._run.finish()


def open_mirror(out_dir: str | Path, record: dict[str, Any], mode: str | None = None) -> Mirror:
    """A mirror in the W&B project "arc-<record's notebook>"; `log` takes metrics, `close` a summary.

    mode: one of MODES; None: what WANDB_MODE says, disabled where it says nothing and offline where it says something
    else, such as "dryrun". WANDB_MODE=disabled wins over both. offline writes below out_dir, for `wandb sync`; online
    needs WANDB_API_KEY, and never asks for a login. Where W&B is missing or fails, the run goes on without it, and a
    line says so. Raises ValueError on another mode.
    """
    asked = os.environ.get("WANDB_MODE", "").lower()
    if mode is None:
        mode = asked if asked in MODES else "offline" if asked else "disabled"
    if mode not in MODES:
        raise ValueError(f"wandb = {mode!r}: must be one of {', '.join(MODES)}")
    if "disabled" in (mode, asked):
        return Mirror()
    if importlib.util.find_spec("wandb") is None:
        print("W&B: not installed (pip install wandb); the run goes on without it.")
        return Mirror()
    if mode == "online" and not os.environ.get("WANDB_API_KEY"):
        print("W&B: online but no WANDB_API_KEY: logging offline.")
        mode = "offline"
    try:
        return WandbMirror(Path(out_dir), record, mode)
    except Exception as error:  # a mirror must never stop the run it mirrors
        print(f"W&B: not mirrored ({error})")
        return Mirror()

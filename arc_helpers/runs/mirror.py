"""Weights & Biases as an optional mirror of a run's numbers: off unless WANDB_MODE is set."""

import importlib.util
import os
from pathlib import Path
from typing import Any


class Mirror:
    """The mirror that does nothing."""

    def log(self, record: dict[str, Any]) -> None:
        """Send one line of metrics."""

    def close(self, summary: dict[str, Any]) -> None:
        """Send the summary and end."""


class WandbMirror(Mirror):
    """Mirrors to Weights & Biases, in a folder of the run unless WANDB_MODE=online and a key is there."""

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


def open_mirror(out_dir: Path, record: dict[str, Any]) -> Mirror:
    """The mirror that WANDB_MODE (offline, online, disabled) asks for. It never asks for a login."""
    mode = os.environ.get("WANDB_MODE", "disabled").lower()
    if mode == "disabled" or importlib.util.find_spec("wandb") is None:
        return Mirror()
    if mode == "online" and not os.environ.get("WANDB_API_KEY"):
        print("W&B: WANDB_MODE=online but no WANDB_API_KEY: logging offline.")
        mode = "offline"
    try:
        return WandbMirror(out_dir, record, "online" if mode == "online" else "offline")
    except Exception as error:  # a mirror must never stop the run it mirrors
        print(f"W&B: not mirrored ({error})")
        return Mirror()

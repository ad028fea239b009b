"""Weights & Biases for pretraining runs: offline unless told otherwise, and never in the way."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arc_helpers.runs.mirror import Mirror, WandbMirror

MODES = ("disabled", "offline", "online")


def open_tracker(out_dir: str | Path, config: Mapping[str, Any], mode: str = "offline") -> Mirror:
    """A mirror of the run in the W&B project "arc-trm-pretrain"; `log` takes metrics, `close` a summary.

    offline writes below out_dir, for `wandb sync`; online needs WANDB_API_KEY. Where W&B is missing or fails, the
    run goes on without it, and a line says so. Raises ValueError on another mode.
    """
    if mode not in MODES:
        raise ValueError(f"wandb = {mode!r}: must be one of {', '.join(MODES)}")
    if mode == "disabled" or os.environ.get("WANDB_MODE") == "disabled":
        return Mirror()
    if importlib.util.find_spec("wandb") is None:
        print("W&B: not installed (pip install wandb); the run goes on without it.")
        return Mirror()
    if mode == "online" and not os.environ.get("WANDB_API_KEY"):
        print("W&B: online but no WANDB_API_KEY: logging offline.")
        mode = "offline"
    try:
        return WandbMirror(Path(out_dir), {"notebook": "trm-pretrain", **config}, mode)
    except Exception as error:  # a mirror must never stop the run it mirrors
        print(f"W&B: not mirrored ({error})")
        return Mirror()

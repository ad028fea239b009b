"""Tokens, from the environment or Kaggle's secrets, asked for only when a run needs one. Never printed or written."""

import os
import re
from collections.abc import Mapping
from typing import Any

from arc_helpers.runs import resolve_path

TOKENS = ("HF_TOKEN", "WANDB_API_KEY")


def needed_tokens(values: Mapping[str, Any]) -> list[str]:
    """Which tokens a run with these values cannot do without: a hub id as its model; W&B online."""
    model = str(values.get("model_dir") or "")
    hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model) and not model.startswith("models/")
    wanted = ["HF_TOKEN"] if hub and not resolve_path(model).exists() else []
    return wanted + (["WANDB_API_KEY"] if os.environ.get("WANDB_MODE", "").lower() == "online" else [])


def provide_tokens(values: Mapping[str, Any]) -> list[str]:
    """Put what the run needs into the environment, where Hugging Face and W&B look; returns the names found."""
    found = []
    for name in needed_tokens(values):
        token = os.environ.get(name) or _kaggle_secret(name)
        if token:
            os.environ[name] = token
            found.append(name)
    return found


def _kaggle_secret(name: str) -> str | None:
    try:
        from kaggle_secrets import UserSecretsClient
    except ImportError:
        return None
    try:
        return UserSecretsClient().get_secret(name)
    except Exception:  # its errors are its own; whatever they are, there is no token, and the run says what it lacks
        return None

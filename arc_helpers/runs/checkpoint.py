"""Files that are either the old version or the new one, never half of one, whenever the process dies."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_helpers.runs.env import HOST
from arc_helpers.runs.records import plain

if TYPE_CHECKING:
    import torch
    from torch import Tensor


#: what a kill in the middle of a write leaves
DRAFT = re.compile(r"\..+\.\d+\.(tmp|old)")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # same folder: a rename across disks is a copy
    try:
        yield draft
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def atomic_write_bytes(path: str | Path, value: bytes) -> None:
    """Replace a file at once; folders are made."""
    with replacing(path) as draft:
        draft.write_bytes(value)


def atomic_write_text(path: str | Path, value: str) -> None:
    """Replace a UTF-8 text file at once; folders are made."""
    atomic_write_bytes(path, value.encode())


def atomic_write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Replace a JSON file at once. Numpy values become plain ones, NaN becomes null; else TypeError."""
    atomic_write_text(path, json.dumps(plain(value), indent=indent, allow_nan=False) + "\n")


def save_tensors(path: str | Path, tensors: "Mapping[str, Tensor]", meta: Mapping[str, Any] | None = None) -> None:
    """Write tensors and JSON metadata as one safetensors file, at once.

    Tensors are copied to the CPU; those that share memory are written in full each.
    """
    from safetensors.torch import save_file

    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as draft:
        save_file(copies, draft, metadata={"meta": json.dumps(plain(meta or {}), allow_nan=False)})


def load_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Read what save_tensors wrote, on the CPU: (tensors, meta).

    Raises FileNotFoundError, or ValueError where the file is not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("meta", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


class CheckpointError(ValueError):
    """A file of a run that cannot be gone on from; one line."""


def load_state(path: str | Path, device: "str | torch.device" = HOST) -> dict[str, Any]:
    """A training state that torch.save wrote, its tensors on `device`. No code is run that it may hold.

    Raises CheckpointError where it is not a whole one.
    """
    import torch

    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch.load raises what its zip, its pickle and its tensors raise
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"{path}: not a whole checkpoint ({why}); delete it to start anew") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a whole checkpoint ({type(state).__name__}); delete it to start anew")
    return state


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows keeps such lists itself and opens no folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

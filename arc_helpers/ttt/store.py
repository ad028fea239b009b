"""Where computed states are kept: in memory, then in a file, by budget; what fits neither is computed again."""

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GIB = 2**30
GPU_SHARE = 0.25  # of a GPU's memory that is free now: copying states to it costs time at every step


@dataclass(frozen=True)
class Stored:
    """States that are not in memory: `load()` reads or computes them. Its length is that of the states."""

    tokens: int
    load: Callable[[], Any]

    def __len__(self) -> int:
        return self.tokens


class StateStore:
    """Keeps states, objects with a tensor `hidden`, as long as there is room.

    memory_gib: of the computer's memory; of a GPU that the states are on, a quarter of what is free comes first.
    disk_gib: of disk, in `folder` (None: the system's for temporary files). The file has no name, so nothing is left
    behind, whatever ends the run. A disk that turns out to be full ends its use, and costs nothing else.
    """

    def __init__(self, memory_gib: float, disk_gib: float = 0.0, folder: str | Path | None = None):
        self._memory, self._disk, self._folder = memory_gib * GIB, disk_gib * GIB, folder
        self._budgets = f"{memory_gib:g} GiB of memory and {disk_gib:g} GiB of disk"
        self._gpu: float | None = None
        self._file: io.FileIO | None = None
        self._end, self._failure = 0, ""
        self.on_disk = self.dropped = 0

    @property
    def notes(self) -> list[str]:
        """What a run should say of it: one line, or none where all fitted."""
        if not self.dropped:
            return []
        reason = self._failure or f"do not fit into {self._budgets}"
        return [f"cache: the states of {self.dropped} pseudo-tasks {reason}: computed again at every step"]

    def keep(self, states: Any, compute: Callable[[], Any]) -> Any:
        """The states, or what loads them where that is not this device's memory. compute(): the same states anew."""
        size = states.hidden.nbytes
        if states.hidden.is_cuda and self._fits_gpu(states.hidden.device, size):
            return states
        if size <= self._memory:
            self._memory -= size
            return replace(states, hidden=states.hidden.cpu())
        if size <= self._disk:
            kept = self._write(states)
            if kept is not None:
                return kept
        self.dropped += 1
        return Stored(len(states), compute)

    def _fits_gpu(self, device: torch.device, size: int) -> bool:
        if self._gpu is None:
            self._gpu = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
        if size > self._gpu:
            return False
        self._gpu -= size
        return True

    def _write(self, states: Any) -> Stored | None:
        """States that are in the file from now on; None where it cannot take them."""
        hidden, start = states.hidden.cpu().contiguous(), self._end
        rest = memoryview(hidden.reshape(-1).view(torch.uint8).numpy())
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115  as long as this lives
            self._file.seek(start)
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._disk, self._failure = 0, f"could not be written to disk ({error.strerror})"
            return None
        self._disk -= hidden.nbytes
        self._end += hidden.nbytes
        self.on_disk += 1
        shell = replace(states, hidden=hidden[:0])
        return Stored(len(states), lambda: replace(shell, hidden=self._read(start, hidden.shape, hidden.dtype)))

    def _read(self, start: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        data = bytearray(os.pread(self._file.fileno(), shape.numel() * dtype.itemsize, start))
        return torch.frombuffer(data, dtype=dtype).view(shape)

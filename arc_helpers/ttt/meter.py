"""What a stretch of work takes: seconds, memory and, where there is a GPU that says so, how busy it was."""

import resource
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

EVERY = 1.0  # seconds between two looks at the GPU


@dataclass
class Cost:
    """What training took."""

    tokens: int = 0  # positions of all sequences that were run: answer positions in mode "head", else all
    padded_tokens: int = 0  # the same with the padding beside them
    seconds: float = 0.0  # wall clock
    peak_mib: float = 0.0  # on a CPU: of the whole process
    utilisation: float | None = None  # of the GPU, 0 to 1, where it says so

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def padding_ratio(self) -> float:
        """Padded over real tokens: 1.0 is no padding."""
        return self.padded_tokens / self.tokens if self.tokens else 1.0

    def stats(self) -> dict[str, float]:
        """What is worth a line in a log; without the GPU's utilisation where it is not known."""
        known = {} if self.utilisation is None else {"gpu_utilisation": round(self.utilisation, 3)}
        return {
            "train_seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "padding_ratio": self.padding_ratio,
            "peak_mib": self.peak_mib,
            **known,
        }


class Meter:
    """`with Meter(device) as meter:` measures what happens inside.

    seconds: wall clock. peak_mib: most memory of torch's on a GPU; on a CPU the most that the process ever had (RSS).
    utilisation: mean of nvidia-smi's samples, 0 to 1; None without a GPU, without nvidia-smi, or before a sample.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds, self.peak_mib = 0.0, 0.0
        self._samples: list[float] = []
        self._over = threading.Event()

    @property
    def utilisation(self) -> float | None:
        return sum(self._samples) / len(self._samples) if self._samples else None

    def __enter__(self) -> "Meter":
        self._watcher = None
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            gpu = f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
            self._watcher = threading.Thread(target=self._watch, args=(gpu,), daemon=True)
            self._watcher.start()
        self._start = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds = time.monotonic() - self._start
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()
            self.peak_mib = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB on Linux
            self.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

    def _watch(self, gpu: str) -> None:
        while not self._over.wait(EVERY):
            share = gpu_utilisation(gpu)
            if share is None:
                return
            self._samples.append(share)


def gpu_utilisation(gpu: str) -> float | None:
    """How busy a GPU (index or UUID) just was, 0 to 1; None where nvidia-smi is missing or does not tell."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", gpu]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return float(said.strip()) / 100
    except (OSError, subprocess.SubprocessError, ValueError):  # "[N/A]" on some cards and slices of cards
        return None


class LiveMemory(TorchDispatchMode):
    """`with LiveMemory() as live:` counts the bytes of the tensors that were made inside and still live (`now`), and
    the most there ever were (`peak`). It does so for `meta` tensors, too: what a large model takes is counted without
    it, and a question about a value, which they have not, is answered with yes. What is copied to the CPU by that name
    is not counted: on a GPU it would be elsewhere.

    limit: bytes above which torch.OutOfMemoryError is raised, as a GPU of that size would.
    """

    def __init__(self, limit: float = float("inf")):
        super().__init__()
        self.limit = limit
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return True
        for tensor in tree_leaves((args, kwargs)):
            self._look(tensor, new=False)
        out = func(*args, **(kwargs or {}))
        device = (kwargs or {}).get("device") if func is torch.ops.aten._to_copy.default else None
        elsewhere = device is not None and device.type == "cpu"
        for tensor in tree_leaves(out):
            self._look(tensor, new=not elsewhere)
        if self.now > self.limit:
            raise torch.OutOfMemoryError(f"simulated: out of memory, {self.now} of {self.limit:.0f} bytes")
        return out

    def _look(self, tensor: object, new: bool) -> None:
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            size = storage.nbytes() if new else 0
            self._known[storage._cdata] = weakref.ref(storage, self._forget(storage._cdata, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> Callable[[object], None]:
        def gone(_: object) -> None:
            self._known.pop(key, None)
            self.now -= size

        return gone

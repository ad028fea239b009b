"""What a stretch of work takes: seconds, memory and, where there is a GPU that says so, how busy it was."""

import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import torch

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

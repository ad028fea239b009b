"""Where a run happens: kind of front end, folders, device and dtype (each choice with its reason)."""

import glob
import os
import random
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Kind = Literal["terminal", "jupyter", "papermill", "pytest", "kaggle-interactive", "kaggle-batch", "kaggle-rerun"]
Dtype = Literal["float32", "bfloat16", "float16"]
PACKAGE = Path(__file__).resolve().parents[1]
HOST = "cpu"  # the computer's own memory: where files are read to, and what is carried between processes
PACKAGED = PACKAGE / "packaged"  # what setup.py puts into a wheel: configs/, notebooks/, models/


@dataclass(frozen=True)
class Environment:
    """Where this process runs.

    kind: the front end. root: what relative paths are under. writable: what outputs are under.
    headless: no human watches, so no live widgets. on_kaggle: any of the three Kaggle kinds.
    """

    kind: Kind
    root: Path
    writable: Path
    headless: bool
    on_kaggle: bool


def detect() -> Environment:
    """Look at environment variables and loaded modules only; nothing is imported or created."""
    kind = _kind()
    no_human = kind in ("papermill", "pytest", "kaggle-batch", "kaggle-rerun") or _flag("ARC_HEADLESS")
    return Environment(
        kind=kind,
        root=project_root(),
        writable=_writable(),
        headless=no_human or (kind == "terminal" and not sys.stderr.isatty()),
        on_kaggle=kind.startswith("kaggle"),
    )


def project_root() -> Path:
    """The folder that relative paths mean: ARC_ROOT; the repository around the code; where there is none, as with an
    installed package, /kaggle/working on Kaggle, else the repository around the working folder, or that folder."""
    if os.environ.get("ARC_ROOT"):
        return Path(os.environ["ARC_ROOT"]).expanduser().resolve()
    if _is_repository(PACKAGE.parent):
        return PACKAGE.parent
    if _on_kaggle():
        return _kaggle_root() / "working"
    cwd = Path.cwd()
    return next((folder for folder in (cwd, *cwd.parents) if _is_repository(folder)), cwd)


def home() -> Path:
    """Where configs/, notebooks/ and the embedded models are: the repository around the code, or the package."""
    return PACKAGE.parent if _is_repository(PACKAGE.parent) else PACKAGED


def resolve_path(path: str | Path, must_exist: bool = False) -> Path:
    """Absolute path of an input: `~` expanded, a relative path under project_root() wherever we run.

    A relative path that is not there is also looked up where outputs go, on Kaggle in both mount layouts of
    /kaggle/input, and in what the package carries. With must_exist, a path that is nowhere raises FileNotFoundError
    with the places tried.
    """
    path = Path(path).expanduser()
    local = project_root() / path  # joining an absolute path gives that path
    if path.is_absolute():
        places = [local]
    else:
        places = [_writable() / path, local, home() / path]
        mounted = _find_mounted(path) if _on_kaggle() else None
        places[2:2] = [mounted] if mounted else []
    for place in places:
        if place.exists():
            return place
    if must_exist:
        also = f" nor under {_kaggle_root() / 'input'}" if _on_kaggle() and not path.is_absolute() else ""
        raise FileNotFoundError(f"{path}: not found (looked at {local}{also})")
    return local


def output_path(path: str | Path) -> Path:
    """Absolute path of an output: as resolve_path, but never an input; on Kaggle under /kaggle/working, and where the
    project is read-only under the first of the working folder, the user's home and the system's temporary folder that
    is not."""
    return _writable() / Path(path).expanduser()  # joining an absolute path gives that path


@dataclass(frozen=True)
class DeviceChoice:
    """device: "cpu" or "cuda". dtype: the name of a torch dtype. reason: one sentence for people."""

    device: str
    dtype: Dtype
    reason: str

    def computing_in(self, dtype: Dtype) -> "DeviceChoice":
        """The same device, for work that has a number format of its own."""
        if dtype == self.dtype:
            return self
        where = "The CPU" if self.device == "cpu" else self.reason.partition(":")[0]
        return replace(self, dtype=dtype, reason=f"{where}; {dtype} is what this notebook computes in.")


def choose_device(prefer: str | None = None) -> DeviceChoice:
    """The device and dtype to compute in. prefer: None (the best there is), "cpu" or "cuda".

    A device that is visible but does not work (a P100 under an image built without it) is found by running
    one tiny operation, and the CPU is taken instead. Raises ValueError on another `prefer`.
    """
    import torch

    if prefer not in (None, "cpu", "cuda"):
        raise ValueError(f"device {prefer!r}: must be 'cpu' or 'cuda'")
    cpu = "float32 on the CPU, where float16 is 18 times slower"
    if prefer == "cpu":
        return DeviceChoice("cpu", "float32", f"The CPU was asked for; {cpu}.")
    if not torch.cuda.is_available():
        return DeviceChoice("cpu", "float32", f"No CUDA device is visible; {cpu}.")
    try:
        name = torch.cuda.get_device_name(0)
        capability = torch.cuda.get_device_capability(0)
        (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).sum().item()
    except Exception as error:  # whatever a driver, a library or an old card raises, the CPU still works
        first_line = str(error).strip().split("\n")[0]
        return DeviceChoice("cpu", "float32", f"CUDA is visible but does not work ({first_line}); {cpu}.")
    # torch.cuda.is_bf16_supported() says yes on a T4, which only emulates it: ask the capability instead.
    version = f"{name} has compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return DeviceChoice("cuda", "bfloat16", f"{version}: bfloat16 is native from 8.0 on.")
    return DeviceChoice("cuda", "float16", f"{version}: below 8.0 bfloat16 is emulated (T4), so float16.")


def has_bfloat16(device: str) -> bool:
    """Whether matrix products in bfloat16 are native there, and so faster than float32: CUDA devices from compute
    capability 8.0 on, CPUs with AVX-512 BF16 or AMX (where torch can tell, from 2.13 on)."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def take_gpu(number: int) -> bool:
    """Make the GPU of that number this process's own (torchrun's LOCAL_RANK); False where there are not so many."""
    import torch

    if choose_device().device == "cpu" or number >= torch.cuda.device_count():
        return False
    torch.cuda.set_device(number)
    return True


def seed_everything(seed: int) -> None:
    """Seed random, numpy and torch (all devices). seed: 0 … 2**32 - 1, numpy's range, or ValueError."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _kind() -> Kind:
    if _flag("KAGGLE_IS_COMPETITION_RERUN"):
        return "kaggle-rerun"
    if _on_kaggle():
        return "kaggle-interactive" if os.environ["KAGGLE_KERNEL_RUN_TYPE"].lower() == "interactive" else "kaggle-batch"
    if _in_kernel():
        return "papermill" if _flag("ARC_HEADLESS") else "jupyter"
    if "PYTEST_VERSION" in os.environ:  # set by pytest for the whole session, collection included
        return "pytest"
    return "terminal"


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() not in ("", "0", "false", "no")


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def _on_kaggle() -> bool:
    return bool(os.environ.get("KAGGLE_KERNEL_RUN_TYPE")) or _flag("KAGGLE_IS_COMPETITION_RERUN")


def _kaggle_root() -> Path:
    return Path(os.environ.get("ARC_KAGGLE_ROOT", "/kaggle"))


def _is_repository(folder: Path) -> bool:
    return (folder / "configs").is_dir() and (folder / "pyproject.toml").is_file()


def _writable() -> Path:
    if _on_kaggle():
        return _kaggle_root() / "working"
    root = project_root()
    places = (root, Path.cwd(), Path(os.path.expanduser("~")), Path(tempfile.gettempdir()))
    return next((place for place in places if place.is_dir() and os.access(place, os.W_OK | os.X_OK)), root)


def _find_mounted(path: Path) -> Path | None:
    """The first match of a relative path in the newer or the older layout of /kaggle/input."""
    if not path.parts or ".." in path.parts:
        return None
    mounts = _kaggle_root() / "input"
    tails = [path]
    # A path written for the newer layout also works on an older mount, which knows no group and no owner.
    strip = {"competitions": 1, "datasets": 2, "models": 2}.get(path.parts[0]) if path.parts else None
    if strip and len(path.parts) > strip:
        tails.append(Path(*path.parts[strip:]))
    # The last two find what a bundled data set carries, such as models/arc-micro.
    patterns = ("", "competitions", "datasets", "datasets/*", "models", "models/*", "*", "datasets/*/*")
    for tail in tails:
        for pattern in patterns:
            for found in sorted(mounts.glob(str(Path(pattern) / glob.escape(str(tail))))):
                return found
    return None

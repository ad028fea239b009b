"""A simulated GPU: code runs as on CUDA, computes on the CPU, and fails where CUDA fails.

    with simulated_cuda(capability=(7, 5), memory_gib=2) as machine:
        x = torch.ones(3, device="cuda")        # x.device == cuda:0, torch.cuda.memory_allocated() == 512
        x + torch.ones(3)                       # RuntimeError: ... at least two devices, cuda:0 and cpu!

What raises, as on a GPU: tensors of two devices that meet (a CPU tensor of 0 dimensions and CPU indices are allowed
where CUDA allows them, writing into a CPU tensor is not); a CPU generator for a device tensor; `.numpy()`; operators
that CUDA has not in 16 bits; matrix products of integers; more storage than a card has (torch.OutOfMemoryError).
`torch.cuda` answers for the cards: available, count, name, capability, memory, streams, events, seeds. Autocast has
CUDA's lists, attention the fused or the plain kernel that CUDA would take.

What is not simulated: speed; the order of work (all is synchronous, so a missing synchronize is not found); the memory
of kernels' own temporaries, and fragmentation; torch.compile (a function stays as it is), Triton, flex attention's
kernel; bitsandbytes on a device; NCCL; a device generator that is used for a CPU tensor; int32 targets, which CUDA
refuses.

`ARC_SIMULATED_CUDA="7.5"` (or "9.0:2": two cards; "7.5:1:0.5": of 0.5 GiB) switches it on in every Python that a test
starts, a notebook's kernel too: tests/no_network/sitecustomize.py looks at it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from simulated_cuda import kernels, runtime
from simulated_cuda import tensor as device_tensors
from simulated_cuda.cards import Card, Machine
from simulated_cuda.tensor import CudaTensor

__all__ = ["Card", "CudaTensor", "Machine", "install_from_environment", "simulated_cuda"]
VARIABLE = "ARC_SIMULATED_CUDA"


@contextmanager
def simulated_cuda(
    capability: tuple[int, int] = (7, 5), memory_gib: float | None = None, devices: int = 1
) -> Iterator[Machine]:
    """Simulate so many cards. memory_gib: of each; None means what a card of that capability has.

    Gives the Machine: `machine.cards[0].allocated`, `.peak`, `.total` are bytes, `.ooms` counts what did not fit.
    Tensors made inside do not work outside.
    """
    if device_tensors.machine is not None:
        raise RuntimeError("a GPU is simulated already")
    if torch.cuda.is_available():
        raise RuntimeError("this machine has a real GPU: the simulated one would hide it")
    machine = device_tensors.machine = Machine(capability, memory_gib, devices)
    library, before = kernels.register(), []
    try:
        for owner, name, value in list(runtime.torch_functions(machine)):
            before.append((owner, name, owner.__dict__.get(name, before)))
            setattr(owner, name, value)
        yield machine
    finally:
        for owner, name, value in reversed(before):
            if value is before:  # it was inherited
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        library._destroy()
        kernels.forget_cast_weights()
        device_tensors.machine = None


def install_from_environment() -> None:
    """Simulate, for as long as this process lives, what ARC_SIMULATED_CUDA says."""
    capability, *rest = os.environ[VARIABLE].split(":")
    major, _, minor = capability.partition(".")
    devices = int(rest[0]) if rest else 1
    simulation = simulated_cuda((int(major), int(minor)), float(rest[1]) if len(rest) > 1 else None, devices)
    simulation.__enter__()
    _for_ever.append(simulation)


_for_ever: list = []  # a context manager that nobody holds would be closed

"""What code asks of `torch.cuda`, answered for the simulated cards; and the few functions of torch that must know."""

import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # optimisers import it; it must see torch's own functions
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device

from simulated_cuda import kernels
from simulated_cuda import tensor as device_tensors
from simulated_cuda.cards import Machine
from simulated_cuda.tensor import CudaTensor, is_device, to_lazy


class Stream:
    """A stream on which everything is done at once."""

    def __init__(self, device=None, priority=0, **_):
        self.device = torch.device("cuda", device_tensors.machine.index(device))
        self.cuda_stream = 0

    def wait_stream(self, stream) -> None: ...
    def wait_event(self, event) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event=None) -> "Event":
        event = event or Event()
        event.record()
        return event

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_) -> None: ...


class Event:
    """A moment."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False, **_):
        self._time: float | None = None

    def record(self, stream=None) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        return (end._time - self._time) * 1000

    def query(self) -> bool:
        return True

    def synchronize(self) -> None: ...
    def wait(self, stream=None) -> None: ...


class _AnyGenerator(type(torch._C.Generator)):
    def __instancecheck__(cls, value) -> bool:
        return isinstance(value, torch._C.Generator)


def make_generator_class(machine: Machine) -> type:
    """What stands for torch.Generator: it knows which generators are a card's."""

    class Generator(torch._C.Generator, metaclass=_AnyGenerator):
        def __new__(cls, device="cpu"):
            device = torch.device(device)
            made = torch._C.Generator.__new__(cls)
            if is_device(device):
                made._index = machine.generators[made._cdata] = machine.index(device)
            return made

        @property
        def device(self) -> torch.device:
            return torch.device("cuda", self._index) if hasattr(self, "_index") else torch.device("cpu")

        def __del__(self):
            machine.generators.pop(self._cdata, None)

    return Generator


def cuda_functions(machine: Machine) -> dict[str, Any]:
    """The names of torch.cuda that are replaced."""
    card = lambda device=None: machine.cards[machine.index(device)]  # noqa: E731

    def set_device(device) -> None:
        machine.current = machine.index(device)

    def exchange(index: int) -> int:
        before, machine.current = machine.current, machine.current if index < 0 else index
        return before

    def properties(device=None) -> SimpleNamespace:
        one = card(device)
        named = {"name": one.name, "total_memory": one.total, "uuid": f"00000000-0000-0000-0000-{one.index:012d}"}
        return SimpleNamespace(major=one.capability[0], minor=one.capability[1], multi_processor_count=40, **named)

    def reset_peak(device=None) -> None:
        card(device).peak = card(device).allocated

    def seed_all(seed: int) -> None:
        for one in machine.cards:
            one.generator.manual_seed(int(seed) % 2**63)

    def set_rng_states(states) -> None:
        for one, state in zip(machine.cards, states, strict=True):
            one.generator.set_state(state)

    def stats(device=None) -> dict:
        return {"allocated_bytes.all.current": card(device).allocated, "allocated_bytes.all.peak": card(device).peak}

    nothing = lambda *args, **kwargs: None  # noqa: E731
    return {
        "is_available": lambda: machine.count() > 0,
        "is_initialized": lambda: True,
        "_initialized": True,  # torch.utils.checkpoint looks at it
        "init": nothing,
        "_lazy_init": nothing,
        "_lazy_call": lambda function, **kwargs: function(),
        "device_count": machine.count,
        "current_device": lambda: machine.current,
        "set_device": set_device,
        "_exchange_device": exchange,
        "_maybe_exchange_device": exchange,
        "get_device_name": lambda device=None: card(device).name,
        "get_device_capability": lambda device=None: card(device).capability,
        "get_device_properties": properties,
        "get_arch_list": lambda: [f"sm_{a}{b}" for a, b in {one.capability for one in machine.cards}],
        "is_bf16_supported": lambda including_emulation=True: including_emulation or card().capability >= (8, 0),
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device=None: machine.index(device) and None,
        "ipc_collect": nothing,
        "empty_cache": nothing,
        "mem_get_info": lambda device=None: (card(device).total - card(device).allocated, card(device).total),
        "memory_allocated": lambda device=None: card(device).allocated,
        "max_memory_allocated": lambda device=None: card(device).peak,
        "memory_reserved": lambda device=None: card(device).allocated,
        "max_memory_reserved": lambda device=None: card(device).peak,
        "memory_stats": stats,
        "reset_peak_memory_stats": reset_peak,
        "reset_accumulated_memory_stats": nothing,
        "set_per_process_memory_fraction": nothing,
        "Stream": Stream,
        "Event": Event,
        "stream": lambda stream: stream or contextlib.nullcontext(),
        "set_stream": nothing,
        "current_stream": Stream,
        "default_stream": Stream,
        "manual_seed": lambda seed: card().generator.manual_seed(int(seed) % 2**63) and None,
        "manual_seed_all": seed_all,
        "initial_seed": lambda: card().generator.initial_seed(),
        "get_rng_state": lambda device="cuda": card(device).generator.get_state(),
        "set_rng_state": lambda state, device="cuda": card(device).generator.set_state(state) and None,
        "get_rng_state_all": lambda: [one.generator.get_state() for one in machine.cards],
        "set_rng_state_all": set_rng_states,
        "default_generators": tuple(one.generator for one in machine.cards),
    }


def torch_functions(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Every (owner, name, value) that is replaced, torch.cuda's among them."""
    functions = cuda_functions(machine)
    _device._device_constructors()  # a set that torch makes once, of its own functions
    for name, value in functions.items():
        for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
            if module is torch.cuda or hasattr(module, name):
                yield module, name, value
    yield torch._C, "_cuda_getCurrentRawStream", lambda index: 0  # bitsandbytes takes it when it is imported
    yield torch, "Generator", make_generator_class(machine)
    yield torch, "tensor", _through_cpu(torch.tensor)
    yield torch, "as_tensor", _through_cpu(torch.as_tensor)
    for name in ("empty", "zeros", "ones"):
        yield torch, name, _pinned(getattr(torch, name))
    yield torch, "load", _load_to(torch.load)
    yield torch, "clear_autocast_cache", _also(torch.clear_autocast_cache, kernels.forget_cast_weights)
    yield torch, "_has_compatible_shallow_copy_type", _compatible(torch._has_compatible_shallow_copy_type)
    yield torch, "compile", _uncompiled
    yield torch.Tensor, "data", _data_property()
    yield torch.Tensor, "to", _to
    yield torch.Tensor, "cuda", _cuda
    yield torch.Tensor, "pin_memory", _pin_memory
    yield torch.Tensor, "is_pinned", lambda self, device=None: getattr(self, "_pinned", False)
    other_names = {"set_device_index": "set_device", "current_device_index": "current_device"}
    other_names["get_memory_info"] = "mem_get_info"
    for name in dir(torch.accelerator):
        if (ours := other_names.get(name, name)) in functions:
            yield torch.accelerator, name, functions[ours]
    yield torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda")


def default_device() -> torch.device | None:
    """The device of `with torch.device(...)` or torch.set_default_device."""
    modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, _device.DeviceContext)]
    context = modes[-1] if modes else getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return context.device if context else None


def _through_cpu(make: Callable) -> Callable:
    """`torch.tensor` and `torch.as_tensor` onto a card: made on the CPU and moved, as torch does it."""

    def made(data, *, dtype=None, device=None, requires_grad=False, **options):
        device = torch.device(device or default_device() or getattr(data, "device", "cpu"))
        if isinstance(data, CudaTensor):
            return data.to(device=device, dtype=dtype)
        if requires_grad:  # as_tensor has no such option
            options["requires_grad"] = True
        if not is_device(device):
            return make(data, dtype=dtype, device=device, **options)
        return (
            make(data, dtype=dtype, device=torch.device("cpu"), **options)
            .detach()
            .to(device)
            .requires_grad_(requires_grad)
        )

    return made


def _pinned(make: Callable) -> Callable:
    """A factory whose `pin_memory=True` needs no driver."""

    def made(*args, pin_memory=False, **options):
        found = make(*args, **options)
        return found.pin_memory() if pin_memory else found

    return made


def _load_to(load: Callable) -> Callable:
    """torch.load, whose map_location also says where device tensors go."""

    def loaded(file, map_location=None, **options):
        elsewhere = isinstance(map_location, str | torch.device) and not is_device(torch.device(map_location))
        device_tensors.unpickle_on_cpu = elsewhere
        try:
            with torch.serialization.safe_globals([device_tensors.rebuild]):
                return load(file, map_location=map_location, **options)
        finally:
            device_tensors.unpickle_on_cpu = False

    return loaded


def _also(function: Callable, more: Callable) -> Callable:
    def both():
        function()
        more()

    return both


def _compatible(function: Callable) -> Callable:
    """On a GPU `module.to` changes a parameter's .data; with tensors of other kinds torch makes a new parameter."""

    def compatible(tensor, other) -> bool:
        return isinstance(tensor, CudaTensor) or isinstance(other, CudaTensor) or function(tensor, other)

    return compatible


def _data_property() -> property:
    plain = torch._C.TensorBase.data

    def set_data(self, new):
        if isinstance(self, CudaTensor) and isinstance(new, CudaTensor):
            plain.__set__(self, new)
            self.elem, self.index, self.block = new.elem, new.index, new.block
        elif isinstance(self, CudaTensor) or isinstance(new, CudaTensor):
            swap(self, new)
        else:
            plain.__set__(self, new)

    return property(plain.__get__, set_data)


def swap(self: torch.Tensor, new: torch.Tensor) -> None:
    """Give a parameter values on another kind of device; it stays the object that it is."""
    made = new.detach().clone() if new.requires_grad else new.detach()
    made.requires_grad_(self.requires_grad)
    if isinstance(self, torch.nn.Parameter):
        made = torch.nn.Parameter(made, self.requires_grad)
    torch.utils.swap_tensors(self, made)


def _to(self: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """`tensor.to`; C++ is told "cuda" by the name that it has there."""
    kwargs = {name: to_lazy(value) for name, value in kwargs.items()}
    return torch._C.TensorBase.to(self, *map(to_lazy, args), **kwargs)


def _cuda(self: torch.Tensor, device=None, non_blocking=False, memory_format=torch.preserve_format) -> torch.Tensor:
    index = device_tensors.machine.index(device)
    return self.to(torch.device("cuda", index), non_blocking=non_blocking, memory_format=memory_format)


def _pin_memory(self: torch.Tensor, device=None) -> torch.Tensor:
    if self.is_pinned():
        return self
    pinned = self.clone()
    pinned._pinned = True
    return pinned


def _uncompiled(model=None, **options):
    """torch.compile is not simulated: what it would compile runs as it is."""
    return model if model is not None else lambda function: function

"""A tensor that says it is on `cuda:N`, and what happens when an operator meets one.

To torch's C++ code it is on the device "lazy": no backend here uses that, autograd runs it in the calling thread, and a
tensor that C++ code makes "where this one is" comes back to `simulated_cuda.factories`. Python code sees `cuda:N`.
"""

from typing import Any

import torch
from torch import Tensor

from simulated_cuda.rules import Plan, plan_of, refuse

KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA) | torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
PLAIN = frozenset({int, float, bool, type(None), str, torch.dtype, torch.device, torch.memory_format, torch.layout})
HALF = (torch.float16, torch.bfloat16)
machine: Any = None  # the Machine that is simulated now
unpickle_on_cpu = False  # torch.load was told to
aten = torch.ops.aten


class CudaTensor(Tensor):
    """elem: its values, on the CPU. index: its card. block: its bytes there."""

    elem: Tensor
    index: int
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, elem: Tensor, index: int) -> "CudaTensor":
        block = machine.block(elem.untyped_storage(), index)
        self = Tensor._make_wrapper_subclass(
            cls,
            elem.shape,
            strides=elem.stride() if elem.layout == torch.strided else None,
            storage_offset=elem.storage_offset() if elem.layout == torch.strided else 0,
            dtype=elem.dtype,
            layout=elem.layout,
            device=torch.device("lazy", index),
            _extra_dispatch_keys=KEYS,
        )
        self.elem, self.index, self.block = elem, index, block
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        handler = HANDLERS.get(func)
        return handler(*args, **(kwargs or {})) if handler else dispatch(func, args, kwargs or {})

    # --- what Python asks of a tensor

    device = property(lambda self: torch.device("cuda", self.index))
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def get_device(self) -> int:
        return self.index

    def numpy(self, *, force: bool = False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, dtype=None):
        return self.numpy()

    def tolist(self):
        return self.elem.tolist()

    def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
        made = self.elem.new_tensor(data, dtype=dtype).to(self.device if device is None else device)
        return made.requires_grad_(requires_grad)

    def pin_memory(self, device=None):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def is_pinned(self, device=None) -> bool:
        return False

    def untyped_storage(self):
        return self.elem.untyped_storage()

    def data_ptr(self) -> int:
        return self.elem.data_ptr()

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user support the deepcopy protocol at the moment"
            )
        made = rebuild(self.elem.detach().clone(memory_format=torch.preserve_format), self.index, self.requires_grad)
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("elem", "index", "block")})
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol):
        return rebuild, (self.elem.detach(), self.index, self.requires_grad, getattr(self, "_is_param", False))

    def __repr__(self, *, tensor_contents=None):
        return repr(self.elem.detach())[:-1] + f", device='{self.device}')"

    def __format__(self, spec):
        return self.elem.item().__format__(spec) if self.dim() == 0 else object.__format__(self, spec)


def rebuild(elem: Tensor, index: int, requires_grad: bool, is_param: bool = False) -> Tensor:
    """A tensor out of a pickle or a deep copy."""
    if unpickle_on_cpu:
        return torch.nn.Parameter(elem, requires_grad) if is_param else elem.requires_grad_(requires_grad)
    made = CudaTensor(elem, index).requires_grad_(requires_grad)
    if is_param:
        made._is_param = True
    return made


def to_lazy(value: Any) -> Any:
    """A device as C++ knows it; anything else as it is."""
    if isinstance(value, str) and value.startswith("cuda"):
        value = torch.device(value)
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("lazy", machine.index(value))
    return value


def is_device(device: torch.device | None) -> bool:
    """Whether it names a card, under either name."""
    return device is not None and device.type in ("cuda", "lazy")


# --- operators


def dispatch(func, args: tuple, kwargs: dict) -> Any:
    """Refuse what CUDA refuses, compute on the CPU, and put the results on the card."""
    plan = plan_of(func)
    if plan.composite:
        return func.decompose(*args, **kwargs)
    held: list[CudaTensor] = []
    host: list[Tensor] = []
    bare = [_strip(value, held, host) for value in args]
    named = {name: _strip(value, held, host) for name, value in kwargs.items()}
    index = held[0].index if held else 0
    if host or len(held) > 1:
        refuse_mixed(plan, args, kwargs, held, host)
    elif not held:
        raise RuntimeError(f"the simulated GPU: {func} came without a device tensor")
    refuse(plan, held)
    if plan.has_device and named.get("device") is not None:
        index = machine.index(named["device"]) if is_device(named["device"]) else None
        named["device"] = torch.device("cpu")
    named.pop("pin_memory", None)
    if plan.has_generator:
        named["generator"] = machine.generator(named.get("generator"), index)
    found = run(plan, bare, named, index)
    return _wrap(found, index, held)


def run(plan: Plan, args: list, kwargs: dict, index: int | None) -> Any:
    """Compute on the CPU: products of 16-bit numbers in float32, as CUDA adds them up; random numbers of the card."""
    if plan.in_float32 and any(isinstance(a, Tensor) and a.dtype in HALF for a in args):
        return _in_float32(plan, args, kwargs)
    if plan.draws and index is not None:
        kept, own = torch.get_rng_state(), machine.cards[index].generator
        torch.default_generator.set_state(own.get_state())
        try:
            return plan.func(*args, **kwargs)
        finally:
            own.set_state(torch.get_rng_state())
            torch.default_generator.set_state(kept)
    try:
        return plan.func(*args, **kwargs)
    except RuntimeError as error:  # CUDA has it in 16 bits, a CPU has not
        if "not implemented for 'Half'" in str(error) or "not implemented for 'BFloat16'" in str(error):
            return _in_float32(plan, args, kwargs)
        raise


def refuse_mixed(plan: Plan, args: tuple, kwargs: dict, held: list, host: list) -> None:
    """Raise where tensors of two devices meet, unless CUDA allows it."""
    if len({tensor.index for tensor in held}) > 1:
        found = sorted({str(tensor.device) for tensor in held})
        raise RuntimeError(f"{MIXED}, {' and '.join(found)}! (in {plan.func})")
    for tensor in host:
        if any(tensor is value for value in plan.written(args, kwargs)):
            raise RuntimeError(f"{MIXED}, cpu and {held[0].device}! (writing into a CPU tensor, in {plan.func})")
    if plan.indices is not None:
        if not isinstance(args[0], CudaTensor):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        allowed = {id(tensor) for tensor in args[plan.indices] if isinstance(tensor, Tensor)}
        host = [tensor for tensor in host if id(tensor) not in allowed]
    if any(tensor.dim() > 0 or not plan.cpu_scalars for tensor in host):
        raise RuntimeError(f"{MIXED}, {held[0].device} and cpu! (in {plan.func})")


MIXED = "Expected all tensors to be on the same device, but found at least two devices"


def _strip(value: Any, held: list, host: list) -> Any:
    kind = type(value)
    if kind is CudaTensor:
        held.append(value)
        return value.elem
    if kind in PLAIN:
        return value
    if kind is list or kind is tuple:
        return [_strip(one, held, host) for one in value]
    if isinstance(value, Tensor):
        host.append(value)
    return value


def _wrap(found: Any, index: int | None, held: list[CudaTensor]) -> Any:
    if isinstance(found, Tensor):
        for tensor in held:  # an operator that works in place returns what it was given
            if tensor.elem is found:
                if found.shape != tensor.shape or found.stride() != tensor.stride():
                    raise NotImplementedError("the simulated GPU: a tensor that changes its own shape")
                return tensor
        return found if index is None else CudaTensor(found, index)
    if isinstance(found, list | tuple):
        made = [_wrap(one, index, held) for one in found]
        return made if type(found) is list else tuple(made)
    return found


def _in_float32(plan: Plan, args: list, kwargs: dict) -> Any:
    halves = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.dtype in HALF]
    dtype = halves[0].dtype if halves else torch.float16

    def up(value):
        if isinstance(value, Tensor):
            return value.float() if value.dtype in HALF else value
        return [up(one) for one in value] if isinstance(value, list) else value

    def down(value):
        if isinstance(value, Tensor):
            return value.to(dtype) if value.dtype == torch.float32 else value
        return type(value)(map(down, value)) if isinstance(value, list | tuple) else value

    wide, wide_named = [up(a) for a in args], {name: up(value) for name, value in kwargs.items()}
    found = plan.func(*wide, **wide_named)
    for before, after in zip((*args, *kwargs.values()), (*wide, *wide_named.values()), strict=True):
        if plan.writes and isinstance(before, Tensor) and before is not after:
            before.copy_(after)
            if found is after:
                return before
    return found if plan.keeps_float32 else down(found)


# --- operators of their own kind


def _to_copy(self, *, dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False, memory_format=None):
    elem = self.elem if isinstance(self, CudaTensor) else self
    made = aten._to_copy.default(elem, dtype=dtype, memory_format=memory_format)
    if device is not None and device.type == "meta":
        return made.to("meta")
    if device is not None and not is_device(device):
        return made
    return CudaTensor(made, self.index if device is None else machine.index(device))


def _copy_(self, source, non_blocking=False):
    values = source.elem if isinstance(source, CudaTensor) else source
    (self.elem if isinstance(self, CudaTensor) else self).copy_(values)
    return self


def _detach(self):
    return CudaTensor(self.elem.detach(), self.index)


HANDLERS = {
    aten._to_copy.default: _to_copy,
    aten.copy_.default: _copy_,
    aten.detach.default: _detach,
    aten._local_scalar_dense.default: lambda self: self.elem.item(),
    aten.record_stream.default: lambda self, stream: None,
}

"""What CUDA refuses, and what it allows where devices meet; from torch's own sources, version 2.13."""

from dataclasses import dataclass, field
from typing import Any

import torch

aten = torch.ops.aten

# LAPACK-like operators and a few others that CUDA has not in 16 bits; what the message calls them
NOT_IN_HALF = {
    "linalg_solve_triangular": "triangular_solve_cuda",
    "triangular_solve": "triangular_solve_cuda",
    "linalg_cholesky_ex": "cholesky_cuda",
    "cholesky_solve": "cholesky_solve_cuda",
    "cholesky_inverse": "cholesky_inverse_cuda",
    "linalg_qr": "geqrf_cuda",
    "geqrf": "geqrf_cuda",
    "linalg_householder_product": "orgqr_cuda",
    "linalg_inv_ex": "linalg_inv_ex_cuda",
    "linalg_lu_factor_ex": "lu_factor_cusolver",
    "linalg_lu": "lu_factor_cusolver",
    "_linalg_det": "lu_factor_cusolver",
    "_linalg_slogdet": "lu_factor_cusolver",
    "_linalg_solve_ex": "lu_factor_cusolver",
    "_linalg_svd": "linalg_svd_cuda",
    "_linalg_eigh": "linalg_eigh_cuda",
    "linalg_eig": "linalg_eig_cuda",
    "linalg_lstsq": "linalg_lstsq_cuda",
    "_cdist_forward": "cdist_cuda",
    "histc": "histogram_cuda",
}
# Matrix products: CUDA has them for floating point only
PRODUCTS = {"mm": "addmm_cuda", "addmm": "addmm_cuda", "bmm": "baddbmm_cuda", "baddbmm": "baddbmm_cuda"}
PRODUCTS |= {"mv": "addmv_impl_cuda", "addmv": "addmv_impl_cuda", "dot": "dot", "addr": "addr_cuda"}
IN_FLOAT32 = {*PRODUCTS, "convolution", "convolution_backward", "linear"}
INDICES = {
    "index": 1,
    "index_put": 1,
    "index_put_": 1,
    "_unsafe_index": 1,
    "_unsafe_index_put": 1,
    "_index_put_impl_": 1,
}
# A CPU scalar (0 dimensions) is allowed where torch's TensorIterator works, and in these
CPU_SCALARS = {"where", "masked_fill", "masked_fill_", "fill", "fill_", "index_fill", "index_fill_", *INDICES}
HALF_NAMES = {torch.float16: "Half", torch.bfloat16: "BFloat16"}
INTEGER_NAMES = {torch.int64: "Long", torch.int32: "Int", torch.int16: "Short", torch.int8: "Char", torch.uint8: "Byte"}
INTEGER_NAMES |= {torch.bool: "Bool"}


@dataclass
class Plan:
    """What holds for one operator.

    composite: it is made of others. writes: the positions and names of what it changes. indices: the position of its
    indices. cpu_scalars: a CPU tensor of 0 dimensions may meet device tensors. draws: random numbers, with no generator
    in its arguments. in_float32: it adds up products. keeps_float32: its float32 results stay so.
    """

    func: Any
    composite: bool = False
    writes: list[tuple[int, str]] = field(default_factory=list)
    indices: int | None = None
    cpu_scalars: bool = False
    has_device: bool = False
    has_generator: bool = False
    draws: bool = False
    in_float32: bool = False
    keeps_float32: bool = False
    not_in_half: str | None = None
    floats_only: str | None = None

    def written(self, args: tuple, kwargs: dict) -> list:
        """The arguments that it changes."""
        return [args[position] if position < len(args) else kwargs.get(name) for position, name in self.writes]


_plans: dict[Any, Plan] = {}


def plan_of(func) -> Plan:
    """The plan of an operator, made once."""
    plan = _plans.get(func)
    if plan is None:
        plan = _plans[func] = _make(func)
    return plan


def refuse(plan: Plan, held: list) -> None:
    """Raise what CUDA raises for a dtype that an operator has not."""
    if plan.not_in_half is None and plan.floats_only is None:
        return
    for tensor in held:
        if plan.not_in_half and tensor.dtype in HALF_NAMES:
            raise RuntimeError(f"\"{plan.not_in_half}\" not implemented for '{HALF_NAMES[tensor.dtype]}'")
        if plan.floats_only and tensor.dtype in INTEGER_NAMES:
            raise RuntimeError(f"\"{plan.floats_only}\" not implemented for '{INTEGER_NAMES[tensor.dtype]}'")


def _make(func) -> Plan:
    schema = func._schema
    name = schema.name.partition("::")[2]
    names = {argument.name for argument in schema.arguments}
    return Plan(
        func,
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"),
        writes=[
            (position, argument.name)
            for position, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ],
        indices=INDICES.get(name),
        cpu_scalars=torch.Tag.pointwise in func.tags or name in CPU_SCALARS or name.startswith("_foreach"),
        has_device="device" in names,
        has_generator="generator" in names,
        draws=torch.Tag.nondeterministic_seeded in func.tags and "generator" not in names,
        in_float32=name in IN_FLOAT32 or name.startswith("_scaled_dot_product"),
        not_in_half=NOT_IN_HALF.get(name),
        floats_only=PRODUCTS.get(name),
    )

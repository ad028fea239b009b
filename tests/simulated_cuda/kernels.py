"""Kernels that C++ looks up by dispatch key: making a tensor on a card, attention, and autocast."""

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from simulated_cuda import tensor as device_tensors
from simulated_cuda.tensor import HALF, CudaTensor

aten = torch.ops.aten

# torch/include/ATen/autocast_mode.h, version 2.13: the lists for CUDA, without what nothing here has (RNN cells, …)
LOWER = """_convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input
conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm
chain_matmul linalg_multi_dot scaled_dot_product_attention"""
FLOAT32 = """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim nuclear_norm
nuclear_norm.dim cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss
kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss
triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp norm.Scalar
norm.ScalarOpt_dim"""
FLOAT32_RESULT = """prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm
linalg_matrix_norm.str_ord sum sum.dim_IntList"""
WIDEST = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add"


def register() -> torch.library.Library:
    """Register every kernel; they live as long as the library that is returned."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Overriding a previously registered kernel.*|.*only once for all")
        for key in ("CUDA", "Lazy"):
            for operator in _factories():
                library.impl(operator, _factory(operator), key, allow_override=True)
        # indexing by a list makes a tensor "where this one is" with the Python key switched off
        library.impl("copy_", device_tensors.HANDLERS[aten.copy_.default], "Lazy", allow_override=True)
        library.impl("scaled_dot_product_attention", attention, "AutogradLazy")
        for names, make in ((LOWER, _lower), (FLOAT32, _float32), (FLOAT32_RESULT, _float32_result), (WIDEST, _widest)):
            for name in names.split():
                operator = _overload(name)
                library.impl(operator, make(operator), "AutocastCUDA", allow_override=True)
    return library


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload or "default")


# --- making tensors


def _factories() -> list:
    """Operators with a `device` and no tensor among their arguments, but for those that draw random numbers: torch
    makes these out of `empty` and an operator in place."""
    found = []
    for schema in torch._C._jit_get_all_schemas():
        names = {argument.name for argument in schema.arguments}
        if not schema.name.startswith("aten::") or "device" not in names or "generator" in names:
            continue
        if any("Tensor" in str(argument.type) for argument in schema.arguments):
            continue
        if not torch._C._dispatch_has_kernel(f"{schema.name}.{schema.overload_name}".rstrip(".")):
            continue  # TorchScript's own, such as aten::tensor
        operator = _overload(f"{schema.name.removeprefix('aten::')}.{schema.overload_name or 'default'}")
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CompositeImplicitAutograd")
        if not composite and torch.Tag.nondeterministic_seeded not in operator.tags:
            found.append(operator)
    return found


def _factory(operator: Any) -> Callable:
    def make(*args, device=None, pin_memory=None, **kwargs):
        index = device_tensors.machine.index(device)
        return CudaTensor(operator(*args, device=torch.device("cpu"), **kwargs), index)

    return make


# --- attention: the kernel that CUDA would take, by capability, dtype and mask


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False):
    """`scaled_dot_product_attention`: fused (nothing of T × T is kept) where CUDA has such a kernel, else plain."""
    if fused(query, key, value, attn_mask, dropout_p, enable_gqa):
        if enable_gqa and query.shape[-3] != key.shape[-3]:  # on a GPU the kernel does this inside
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
        found = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=scale
        )
        return found[0]
    options = {"scale": scale, "enable_gqa": enable_gqa}
    return aten._scaled_dot_product_attention_math(query, key, value, attn_mask, dropout_p, is_causal, None, **options)[
        0
    ]


def fused(query, key, value, mask, dropout_p: float, enable_gqa: bool) -> bool:
    """Whether CUDA has a fused kernel: flash from capability 8.0 on, in 16 bits and without a mask; the
    memory-efficient one in float32 and float16 (bfloat16 from 8.0 on), without grouped heads."""
    if not all(isinstance(x, CudaTensor) and x.dim() == 4 and x.numel() for x in (query, key, value)) or dropout_p:
        return False
    if query.shape[-1] != value.shape[-1] or len({x.dtype for x in (query, key, value)}) > 1:
        return False
    modern = device_tensors.machine.cards[query.index].capability >= (8, 0)
    switches = torch.backends.cuda
    flash = modern and mask is None and query.dtype in HALF and query.shape[-1] <= 256 and switches.flash_sdp_enabled()
    efficient = query.dtype in (torch.float32, torch.float16) or (modern and query.dtype == torch.bfloat16)
    return flash or (efficient and not enable_gqa and switches.mem_efficient_sdp_enabled())


# --- autocast, which C++ does by a device that these tensors only claim

_cast_weights: dict[int, tuple[weakref.ref, Tensor]] = {}


def forget_cast_weights() -> None:
    """What leaving the outermost autocast does."""
    _cast_weights.clear()


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, CudaTensor):
        if not value.is_floating_point() or value.dtype in (dtype, torch.float64):
            return value
        if not (dtype in HALF and value.requires_grad and value.is_leaf and torch.is_autocast_cache_enabled()):
            return value.to(dtype)
        kept = _cast_weights.get(id(value))
        if kept is None or kept[0]() is not value:
            kept = _cast_weights[id(value)] = (weakref.ref(value), value.to(dtype))
        return kept[1]
    return [_cast(one, dtype) for one in value] if isinstance(value, list | tuple) else value


def _cast_all(operator: Any, dtype: torch.dtype, args: tuple, kwargs: dict) -> Any:
    with torch._C._DisableAutocast():
        return operator(*(_cast(a, dtype) for a in args), **{name: _cast(a, dtype) for name, a in kwargs.items()})


def _lower(operator: Any) -> Callable:
    return lambda *args, **kwargs: _cast_all(operator, torch.get_autocast_dtype("cuda"), args, kwargs)


def _float32(operator: Any) -> Callable:
    return lambda *args, **kwargs: _cast_all(operator, torch.float32, args, kwargs)


def _float32_result(operator: Any) -> Callable:
    position = [argument.name for argument in operator._schema.arguments].index("dtype")

    def kernel(first, *args, **kwargs):
        with torch._C._DisableAutocast():
            asked = kwargs.get("dtype") or (args[position - 1] if len(args) >= position else None)
            if asked is not None or not first.is_floating_point() or first.dtype == torch.float64:
                return operator(first, *args, **kwargs)
            return operator(first, *args[: position - 1], **{**kwargs, "dtype": torch.float32})

    return kernel


def _widest(operator: Any) -> Callable:
    def kernel(*args, **kwargs):
        flat = [x for a in args for x in (a if isinstance(a, list | tuple) else [a]) if isinstance(x, CudaTensor)]
        wide = any(x.dtype == torch.float32 for x in flat)
        return _cast_all(operator, torch.float32 if wide else torch.get_autocast_dtype("cuda"), args, kwargs)

    return kernel

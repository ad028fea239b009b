"""Attention of GridLM, and what keeps packed documents apart: a mask, or a kernel that knows where each begins."""

import inspect
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import flex_attention as flex

try:
    from torch.nn.attention.varlen import varlen_attn  # torch >= 2.10
except ImportError:
    varlen_attn = None
else:  # 2.11 renamed the option
    renamed = "window_size" in inspect.signature(varlen_attn).parameters
    varlen_attn = partial(varlen_attn, **({"window_size": (-1, 0)} if renamed else {"is_causal": True}))

KERNELS = ("varlen", "flex", "mask")  # fastest first; "mask" works everywhere
TOLERANCE = 0.02  # of a kernel's relative error; bfloat16 leaves about 0.005, a leak between documents more than 0.3


def attend(q: Tensor, k: Tensor, v: Tensor, mask: "Tensor | flex.BlockMask | None") -> Tensor:
    """Attention of q [B, h, T, d] over k and v [B, h, S, d].

    mask: None is plain causality (and a single new token sees all); bool [B or 1, 1, T, S] says who sees whom;
    int32 [n + 1] are the starts of the documents of all rows laid end to end, and the total; a BlockMask is
    flex attention's.
    """
    if mask is None:
        if q.is_cpu and torch.is_autocast_enabled(q.device.type):
            # torch 2.13's fused kernel takes twice as long in bfloat16 on short sequences, nearly all of it backward
            with torch.autocast(q.device.type, enabled=False):
                fused = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=q.shape[2] > 1)
            return fused.to(v.dtype)
        return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
    if isinstance(mask, flex.BlockMask):  # autocast knows neither of the next two: make the types equal here
        run = compiled_flex() if q.is_cuda and not torch.compiler.is_compiling() else flex.flex_attention
        return run(q.to(v.dtype), k.to(v.dtype), v, block_mask=mask)
    if mask.dim() == 1:
        return _varlen(q.to(v.dtype), k.to(v.dtype), v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def packed_mask(ids: Tensor, start: int, kernel: str = "mask") -> "Tensor | flex.BlockMask":
    """What `attend` needs to keep the documents of ids [B, T] apart; each begins with the token `start`.

    Padding at the end of a row counts as part of its last document: nothing real comes after it, so nothing sees it.
    """
    number = (ids == start).cumsum(dim=1)  # which document of its row: [B, T]
    if kernel == "varlen":
        starts = (ids.flatten() == start).nonzero().flatten()
        return F.pad(starts, (0, 1), value=ids.numel()).int()
    if kernel == "flex":
        rows, length = ids.shape

        def sees(b, h, query, key):
            return (query >= key) & (number[b, query] == number[b, key])

        return flex.create_block_mask(sees, rows, None, length, length, device=ids.device)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
    return ((number[:, :, None] == number[:, None, :]) & causal)[:, None]


def choose_kernel(device: torch.device | str, dtype: torch.dtype, heads: int, head_dim: int) -> tuple[str, str]:
    """The first of KERNELS that works here, forward and backward, and agrees with the mask; and why the others don't.

    Decided by trial, since it depends on the GPU, the dtype, the width of a head and the version of torch.
    """
    reasons = []
    for kernel in KERNELS[:-1]:
        if kernel == "varlen" and varlen_attn is None:
            reasons.append("varlen: needs torch >= 2.10")
            continue
        try:
            error = _error(kernel, torch.device(device), dtype, heads, head_dim)
        except Exception as exception:  # whatever a kernel raises, the mask still works
            reasons.append(f"{kernel}: {str(exception).strip().splitlines()[0][:80]}")
            continue
        if error <= TOLERANCE:
            return kernel, f"{kernel} attention, {error:.4f} from the mask"
        reasons.append(f"{kernel}: is {error:.2f} from the mask")
    return "mask", "mask attention; " + "; ".join(reasons)


def _error(kernel: str, device: torch.device, dtype: torch.dtype, heads: int, head_dim: int) -> float:
    """Largest relative error of output and gradients against the float32 mask, on two packed rows."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(2, 256, dtype=torch.long)
    for row, begins in zip(ids, ((0, 40, 170), (0, 7, 99, 255)), strict=True):
        row[list(begins)] = 1
    ids = ids.to(device)
    qkv = torch.randn(3, 2, heads, 256, head_dim, generator=generator).to(device)
    found = []
    for name, kind in ((kernel, dtype), ("mask", torch.float32)):
        inputs = qkv.to(kind).requires_grad_(True)
        q, k, v = inputs.unbind()
        out = attend(q, k, v, packed_mask(ids, 1, name))
        (gradient,) = torch.autograd.grad(out.float().square().sum(), inputs)
        found.append((out.float(), gradient.float()))
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(*found, strict=True))


@cache
def compiled_flex():
    """Flex attention that stands alone; uncompiled it would build the whole score matrix on a GPU."""
    return torch.compile(flex.flex_attention)


def _varlen(q: Tensor, k: Tensor, v: Tensor, starts: Tensor) -> Tensor:
    rows, heads, length, width = q.shape
    flat = (x.transpose(1, 2).reshape(rows * length, heads, width) for x in (q, k, v))
    y = varlen_attn(*flat, starts, starts, length, length)
    return y.view(rows, length, heads, width).transpose(1, 2)

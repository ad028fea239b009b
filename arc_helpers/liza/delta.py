"""The delta rule, twice: token by token as it is written down, and in chunks as it is computed.

    u_t = β_t∘v_t − S_{t−1}ᵀ(β_t∘k_t)        what is new in v_t
    S_t = S_{t−1} + k_t u_tᵀ                 written under k_t
    o_t = S_tᵀ q_t                           read with q_t

q, k, v and the write gate β are [B, H, N, D], the state S is [B, H, D, D] (keys × values). β has one number a channel,
as in tptt. A rule of order n (DeltaProduct, arXiv 2502.10297) is this one over n virtual tokens for each real one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def delta_rule_recurrence(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor | None = None):
    """The three lines above in a loop: the oracle of the tests. Returns (o [B, H, N, D], the last state)."""
    state = _start(q, state)
    outputs = []
    for t in range(q.shape[2]):
        q_t, k_t, v_t, b_t = (x[:, :, t, :, None] for x in (q, k, v, beta))  # [B, H, D, 1]
        u_t = b_t * v_t - state.mT @ (b_t * k_t)
        state = state + k_t @ u_t.mT
        outputs.append((state.mT @ q_t).squeeze(-1))
    return torch.stack(outputs, dim=2), state


def chunked_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor | None = None, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """The same in chunks of `chunk` tokens (arXiv 2406.06484): inside a chunk all u_t solve one triangular system.

    Any N: the last chunk is filled with tokens whose k, v and β are zero, which write and erase nothing.
    Computed in float32 or wider, under autocast too: no device solves a system in 16 bits, and the state is a long sum.
    Returns (o [B, H, N, D], the last state [B, H, D, D]).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, v, beta = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q, k, v, beta))
        return _in_chunks(q, k, v, beta, _start(q, state), chunk)


def _in_chunks(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    length = q.shape[2]
    chunk = min(chunk, length)
    q, k, v, beta = (F.pad(x, (0, 0, 0, -length % chunk)).unflatten(2, (-1, chunk)) for x in (q, k, v, beta))
    gated = beta * k
    system = (gated @ k.mT).tril(-1)  # [B, H, chunks, C, C]; its diagonal of ones is implied
    right = torch.cat([gated, beta * v], dim=-1)
    erase, write = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True).chunk(2, dim=-1)
    read = (q @ k.mT).tril()
    outputs = []
    for c in range(q.shape[2]):
        u = write[:, :, c] - erase[:, :, c] @ state  # [B, H, C, D]
        outputs.append(q[:, :, c] @ state + read[:, :, c] @ u)
        state = state + k[:, :, c].mT @ u
    return torch.cat(outputs, dim=2)[:, :, :length], state


def _start(q: Tensor, state: Tensor | None) -> Tensor:
    batch, heads, _, dim = q.shape
    return q.new_zeros(batch, heads, dim, dim) if state is None else state

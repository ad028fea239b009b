"""The network that TRM applies again and again: post-norm blocks of attention (or a mixer) and SwiGLU.

After "Less is More: Recursive Reasoning with Tiny Networks" (Jolicoeur-Martineau 2025) and its published code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


def rms_norm(x: Tensor) -> Tensor:
    """x / rms(x) over the last axis, without a weight, in at least float32."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)).to(x.dtype)


def linear(n_in: int, n_out: int, bias: bool = False) -> nn.Linear:
    """A Linear with LeCun's truncated normal, as in the published code."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    truncated_normal(layer.weight, n_in**-0.5)
    return layer


def truncated_normal(tensor: Tensor, std: float) -> Tensor:
    """Fill in place with a normal cut at two sigma and widened again, so that `std` is the true one."""
    lost = 0.87962566103423978  # standard deviation of a unit normal cut at two sigma
    with torch.no_grad():
        return nn.init.trunc_normal_(tensor, std=std / lost, a=-2 * std / lost, b=2 * std / lost)


def rotary(coordinates: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [B, 1, S, head_dim], of positions on A axes.

    coordinates: [B, S, A]; the head_dim / 2 frequencies are shared out evenly among the A axes.
    """
    axes = coordinates.shape[-1]
    n = head_dim // 2 // axes
    steps = torch.arange(n, device=coordinates.device, dtype=torch.float64) / n
    frequencies = (1.0 / theta**steps).to(torch.promote_types(dtype, torch.float32))
    angles = (coordinates[..., None] * frequencies).flatten(-2)  # [B, S, head_dim / 2]
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x [B, heads, S, head_dim] by its angle."""
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Every position looks at every position, padding too, as published."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = linear(hidden_size, 3 * hidden_size)
        self.out = linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # [B, heads, S, head_dim] each
        if turn is not None:
            query, key = rotate(query, turn), rotate(key, turn)
        return self.out(attend(query, key, value).transpose(1, 2).reshape(batch, length, width))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without a mask, [B, heads, S, head_dim] each."""
    if query.is_cpu and torch.is_autocast_enabled(query.device.type):
        # torch 2.13's fused kernel takes 5 to 17 times as long backward in bfloat16 on CPUs as these products do.
        return (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


class SwiGLU(nn.Module):
    """down(silu(gate) · up), gate and up in one product."""

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.gate_up = linear(hidden_size, 2 * intermediate_size)
        self.down = linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Mix positions, then channels; each is added and the sum normalised (post-norm)."""

    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int, mixer: tuple[int, int] | None):
        """mixer: (length, intermediate size) of a SwiGLU over positions in place of attention."""
        super().__init__()
        self.attention = None if mixer else Attention(hidden_size, num_heads)
        self.mixer = SwiGLU(*mixer) if mixer else None
        self.mlp = SwiGLU(hidden_size, intermediate_size)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        if self.mixer is None:
            x = rms_norm(x + self.attention(x, turn))
        else:
            across = x.transpose(1, 2)  # [B, D, S]
            # Published so: this norm runs over positions, not over channels.
            x = rms_norm(across + self.mixer(across)).transpose(1, 2)
        return rms_norm(x + self.mlp(x))

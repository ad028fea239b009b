"""The two thin bridges: what a language model has read → TRM's prefix or start; what TRM has thought → soft tokens.

A plain linear map from one state of width 4096 to a latent of 900 × 512 has 1.9 G parameters, hundreds of times the
network it feeds (`naive_parameters`). A resampler, learned queries that attend to *all* states (Flamingo's Perceiver,
BLIP-2's Q-Former), takes 6 M, and throws nothing away beforehand.
"""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_helpers.trm import TRMConfig
from arc_helpers.trm.blocks import SwiGLU, linear, rms_norm

Mode = Literal["prefix", "carry", "both"]
MAX_SIDE = 30  # cells in a row or column that a carry has a direction for


class Latent(NamedTuple):
    """What a text says to TRM. Each is added to what TRM has of its own, or None.

    prefix: [B, P, D]. z_H, z_L: [B, P + N, D].
    """

    prefix: Tensor | None
    z_H: Tensor | None
    z_L: Tensor | None


class CrossBlock(nn.Module):
    """Pre-norm: queries look at a memory, then think for themselves. 8 D² parameters."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.out = linear(width, width), linear(width, width)
        self.key_value = linear(width, 2 * width)
        self.mlp = SwiGLU(width, 4 * width // 3)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """queries: [B, Q, D]. memory: [B, T, D]. mask: bool [B, T], True where there is something to look at."""
        query, (key, value) = self.query(rms_norm(queries)), self.key_value(memory).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))  # [B, h, ·, d]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        queries = queries + self.out(seen.transpose(1, 2).flatten(2))
        return queries + self.mlp(rms_norm(queries))


class Resampler(nn.Module):
    """Q learned queries on any number of states: [B, T, n_in] → [B, Q, D]."""

    def __init__(self, n_in: int, width: int, queries: int, layers: int):
        super().__init__()
        self.project = linear(n_in, width)
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.blocks = nn.ModuleList(CrossBlock(width, max(1, width // 64)) for _ in range(layers))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        memory = self.project(rms_norm(states.to(self.queries.dtype)))
        queries = self.queries.expand(len(states), -1, -1)
        for block in self.blocks:
            queries = block(queries, memory, mask)
        return rms_norm(queries)


class Spread(nn.Module):
    """Q vectors spread over a canvas: each position gets its own mixture of them, so the rank is at most Q.

    A cell's mixture is that of its row plus that of its column, so one table does for every canvas.
    """

    def __init__(self, queries: int, prefix_len: int):
        super().__init__()
        self.prefix = nn.Parameter(torch.randn(prefix_len, queries) * queries**-0.5)
        self.row = nn.Parameter(torch.randn(MAX_SIDE, queries) * queries**-0.5)
        self.column = nn.Parameter(torch.randn(MAX_SIDE, queries) * queries**-0.5)

    def forward(self, vectors: Tensor, width: Tensor, cells: int) -> Tensor:
        """vectors: [B, Q, D]. width: [B] cells in a row of the canvas. Returns [B, P + N, D]."""
        index = torch.arange(cells, device=width.device)
        mixture = self.row[index // width[:, None]] + self.column[index % width[:, None]]  # [B, N, Q]
        return torch.cat([self.prefix.expand(len(width), -1, -1), mixture], dim=1) @ vectors


class TextToLatentAdapter(nn.Module):
    """All states of a language model → TRM's conditioning: prefix vectors, the start of its latents, or both.

    Every way in has a gate of D numbers that starts at zero: a pretrained TRM starts unchanged. The first step
    therefore teaches the gates alone, the second everything. mode "carry" and "both": ValueError unless the gradient
    reaches the start (`TRMConfig.every_cycle_learns`); elsewhere it would be silently zero.
    """

    def __init__(self, llm_width: int, trm: TRMConfig, mode: Mode = "prefix", layers: int = 2):
        super().__init__()
        if mode not in get_args(Mode):
            raise ValueError(f"mode = {mode!r}: must be one of {', '.join(get_args(Mode))}")
        if mode != "prefix" and not trm.every_cycle_learns:
            raise ValueError(
                f"mode = {mode!r}: no gradient reaches TRM's start with H_cycles = {trm.H_cycles} and full_gradient = "
                "False; use mode = 'prefix', or a TRM with full_gradient or H_cycles = 1"
            )
        self.resampler = Resampler(llm_width, trm.hidden_size, trm.prefix_len, layers)
        ways = {"prefix": ("prefix",), "carry": ("z_H", "z_L"), "both": ("prefix", "z_H", "z_L")}[mode]
        self.gates = nn.ParameterDict({way: nn.Parameter(torch.zeros(trm.hidden_size)) for way in ways})
        self.spreads = nn.ModuleDict({way: Spread(trm.prefix_len, trm.prefix_len) for way in ways if way != "prefix"})

    def forward(self, states: Tensor, mask: Tensor, width: Tensor, cells: int) -> Latent:
        """states: [B, T, H] of any float dtype. mask: bool [B, T]. width: [B]; cells: N, of the canvas."""
        vectors = self.resampler(states, mask)
        found = {way: self.gates[way] * spread(vectors, width, cells) for way, spread in self.spreads.items()}
        if "prefix" in self.gates:
            found["prefix"] = self.gates["prefix"] * vectors
        return Latent(found.get("prefix"), found.get("z_H"), found.get("z_L"))


class LatentToTextAdapter(nn.Module):
    """TRM's z_H and z_L → M vectors that stand before a prompt as if they were embedded tokens.

    scale: root mean square of the language model's *embeddings*; its hidden states are up to 50 times as large, and
    vectors of that size would drown the text.
    """

    def __init__(self, trm_width: int, llm_width: int, scale: float, tokens: int = 4):
        super().__init__()
        if not 1 <= tokens <= 64:
            raise ValueError(f"tokens = {tokens}: must be >= 1 and <= 64")
        self.pool = Resampler(trm_width, trm_width, tokens, layers=1)
        self.out = linear(trm_width, llm_width)
        self.scale = scale

    def forward(self, latents: Tensor) -> Tensor:
        """latents: [B, 2 (P + N), D], z_H and z_L behind it. Returns [B, M, H]."""
        return self.scale * rms_norm(self.out(self.pool(latents)))


def naive_parameters(llm_width: int, cells: int, trm_width: int) -> int:
    """Weights of one dense map from one state to one latent."""
    return llm_width * cells * trm_width


def parameter_table(**modules: nn.Module) -> dict[str, int]:
    """How many numbers each module trains."""
    return {name: sum(p.numel() for p in module.parameters() if p.requires_grad) for name, module in modules.items()}

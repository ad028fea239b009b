"""The forward of S models of one shape over their own rows: what joint and per-task training of small GridLMs run.

The hooks of `ttt/multilora.py` and the module's own forward compute the same, and are what the tests compare with. Here
a step takes fewer and larger operations: adapters are merged into the weights, products that share an input are one
product, in bfloat16 where that is native, and what lies between them is compiled once, for rows of any length.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from arc_helpers.engine.attention import causal_attention
from arc_helpers.engine.weights import Layer, Weights
from arc_helpers.lm.gridlm import GridLMConfig
from arc_helpers.lm.prompt import IGNORE
from arc_helpers.runs import has_bfloat16

TOKENS_AT_ONCE = 2048  # beyond that, activations leave a core's cache
WORTH_COMPILING = 100_000  # tokens of training: eager, they take twice what compiling does


class Engine:
    """Runs GridLMs of one shape.

    products: dtype of matrix products and of what is kept for the way back; None: bfloat16 where it is native, else
        float32. Sums over tokens' residuals, norms and rotations are float32 in any case.
    compile: what lies between attentions is compiled (some seconds, once, for any number and length of rows); where
        that fails, the engine goes on without. `note` says what it runs with.
    dropout: share of each block's two outputs that is dropped in training.
    """

    def __init__(self, config: GridLMConfig, device: torch.device | str, *, products=None, compile: bool = False):
        native = has_bfloat16(str(device))
        self.config = config
        self.products = products or (torch.bfloat16 if native else torch.float32)
        self.dropout = config.dropout
        kind = "bfloat16 products" if self.products == torch.bfloat16 else "float32 products"
        self.note = kind if native else f"{kind} (bfloat16 is not native here)"
        options = {"eps": config.rms_norm_eps, "heads": config.num_attention_heads, "dtype": self.products}
        self._before: Callable = partial(before_attention, **options)
        self._after: Callable = partial(after_attention, eps=config.rms_norm_eps)
        if compile:
            self._compile(torch.device(device), options)

    def hidden(
        self, weights: Weights, ids: Tensor, positions: Tensor, rotary: tuple[Tensor, Tensor], training: bool = False
    ) -> Tensor:
        """Final hidden states, float32 [S, n, T, d], of ids [S n, T]: n rows of each of the S models, padded on the
        right. positions [S n, T, ≥ 3] and rotary (cos and sin [S n, 1, T, e / 2]) are those of `GridLMModel`."""
        models, length = len(weights.norm), ids.shape[1]
        x = self._embedded(weights.embedding, ids, positions)  # [S, n T, d]
        cos, sin = (angle.reshape(models, -1, 1, angle.shape[-1]) for angle in rotary)  # [S, n T, 1, e / 2]
        drop = self.dropout if training else 0.0
        for layer in weights.layers:
            q, k, v = self._before(x, cos, sin, layer)  # [S, n T, heads, e]
            rows = (t.view(len(ids), length, *t.shape[2:]) for t in (q, k, v))
            x = self._after(x, causal_attention(*rows).reshape(x.shape), layer, drop)
        return rms_norm(x, weights.norm[:, None], self.config.rms_norm_eps).view(models, -1, length, x.shape[-1])

    def losses(
        self, weights: Weights, ids: Tensor, labels: Tensor, positions: Tensor, rotary: tuple[Tensor, Tensor], **options
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy summed over the counted tokens of each of the S models, float32 [S], and their number, int [S].

        labels [S n, T]: of each token itself, −100 where it does not count. The rest as in `hidden`.
        """
        hidden = self.hidden(weights, ids, positions, rotary, **options)[:, :, :-1]
        models = len(hidden)
        logits = torch.bmm(hidden.flatten(1, 2), weights.head)  # [S, n (T - 1), V]
        goals = labels[:, 1:].reshape(models, -1)
        each = F.cross_entropy(logits.transpose(1, 2), goals, ignore_index=IGNORE, reduction="none")
        return each.sum(dim=1), (goals != IGNORE).sum(dim=1)

    def _embedded(self, tables: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """[S, n T, d]: each token's row of its model's table, and those of what its positions name besides a place."""
        models, rows, _ = tables.shape
        first = torch.arange(models, device=ids.device)[:, None] * rows
        flat = tables.flatten(0, 1)
        x = F.embedding(ids.reshape(models, -1) + first, flat)
        named = positions[..., 3:].reshape(models, ids.numel() // models, -1)  # as in `GridLMModel`
        if named.shape[-1]:
            vectors = F.embedding(named.clamp_min(0) + first[..., None], flat)
            x = x + (vectors * (named >= 0)[..., None]).sum(dim=-2)
        return x

    def _compile(self, device: torch.device, options: dict) -> None:
        """Compile, and try it on one small batch: where that fails, go on without."""
        eager = self._before, self._after
        self._before = _any_length(partial(compiled(before_attention), **options))
        self._after = _any_length(partial(compiled(after_attention), eps=options["eps"]))
        try:
            self._try(device)
        except Exception as error:  # no C++ compiler, an operation that it does not know, and so on
            self._before, self._after = eager
            self.note += f", not compiled: {str(error).strip().splitlines()[0][:120]}"
        else:
            self.note += ", compiled"

    def _try(self, device: torch.device) -> None:
        """One layer, forward and backward, as in training."""
        c, length = self.config, 24
        d, e = c.hidden_size, c.hidden_size // c.num_attention_heads
        shapes = [(d,), (d, 3 * d), (e,), (e,), (d, d), (d,), (d, 2 * c.intermediate_size), (c.intermediate_size, d)]
        layer = Layer(*(torch.zeros(1, *shape, device=device, requires_grad=True) for shape in shapes))
        x = torch.zeros(1, length, d, device=device, requires_grad=True)
        angle = torch.zeros(1, length, 1, e // 2, device=device)
        _, _, v = self._before(x, angle, angle, layer)
        self._after(x, v.reshape(x.shape), layer, self.dropout).sum().backward()


def before_attention(
    x: Tensor, cos: Tensor, sin: Tensor, layer: Layer, *, heads: int, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated, scaled queries, rotated keys, and values, [S, m, heads, e] each in `dtype`, of x, float32 [S, m, d];
    cos and sin [S, m, 1, e / 2]."""
    models, tokens, width = x.shape
    qkv = product(rms_norm(x, layer.input_norm[:, None], eps).to(dtype), layer.qkv)
    q, k, v = qkv.view(models, tokens, 3, heads, width // heads).unbind(2)
    scale = (width // heads) ** -0.5

    def rotated(part: Tensor, norm: Tensor) -> Tensor:
        a, b = rms_norm(part.float(), norm[:, None, None], eps).chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(dtype)

    return rotated(q, layer.q_norm * scale), rotated(k, layer.k_norm), v


def after_attention(x: Tensor, mixed: Tensor, layer: Layer, dropout: float, *, eps: float) -> Tensor:
    """The block's output [S, m, d], of its input x and what attention has mixed [S, m, d]."""
    x = x + F.dropout(product(mixed, layer.out), dropout)
    gate, up = product(rms_norm(x, layer.mlp_norm[:, None], eps).to(mixed.dtype), layer.gate_up).chunk(2, dim=-1)
    return x + F.dropout(product(F.silu(gate) * up, layer.down), dropout)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [S, m, i] times weight [S, i, o], in x's dtype."""
    weight = weight.to(x.dtype)
    if len(x) == 1:  # one large product is faster than a batch of one
        return (x[0] @ weight[0])[None]
    return torch.bmm(x, weight)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], None, eps) * weight


@cache
def compiled(function: Callable) -> Callable:
    """One for all engines: what was compiled for one shape is there for the next."""
    return torch.compile(function)


def _any_length(function: Callable) -> Callable:
    """The numbers of models and of tokens, [S, tokens, …], may change from call to call without compiling anew."""

    def call(*inputs, **options):
        for value in inputs:
            for tensor in value if isinstance(value, Layer) else [value]:
                if isinstance(tensor, Tensor):
                    if len(tensor) > 1:
                        torch._dynamo.maybe_mark_dynamic(tensor, 0)
                    if not isinstance(value, Layer):
                        torch._dynamo.maybe_mark_dynamic(tensor, 1)
        return function(*inputs, **options)

    return call

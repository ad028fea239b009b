"""tptt's linear attention made exact: the delta rule itself, at any length, with its memory carried into decoding.

What is wrong in tptt 0.12.1, and what stands here instead:

    operator    reads q∘u for tril(qkᵀ)u, and writes one token a chunk      `chunked_delta_rule`
    length      the chunk is a divisor of the length, so the length counts  the last chunk is filled up
    decoding    the state is saved in one shape, awaited in another         state and gate tail live in the KV cache
    masks       a decoding step looks at position 0 of the mask             the new tokens' own columns
    padding     pads erase, and stand in the gate's window                  pads do nothing, on either side

Nothing else is touched: projections, norms, virtual tokens and MaG are the library's.
"""

import hashlib
import inspect
import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from packaging.version import Version
from torch import Tensor, nn

from arc_helpers.liza.cache import memory_layer
from arc_helpers.liza.delta import chunked_delta_rule

#: ungated modes with a linear state: the ones the repair is proven for
MODES = (
    "delta_rule",
    "delta_rule_v",
    "delta_rule_kv",
    "delta_product",
    "delta_product_r",
    "delta_product_c",
)
TRANSFORMERS = (Version("5.20"), Version("5.24"))  # from, below
#: sha256 of the source files that the repair was proven on
PROVEN = {
    "0.12.1": {
        "__init__.py": "c1c4b11cb88ddfa9bd85a50cf3531908a2f4929dd84cd31536b82ccfe89934bb",
        "configuration_tptt.py": "fb65e390c078955f80438823b89bbc4310a3aa5a2501243f0b77b769184b9e96",
        "modeling_tptt.py": "b16d520697debf1889b9cf78c132916fad924602194fd20b14a2fffc93bd4bdb",
        "train_tptt.py": "831e078388d9889ce025168a299a99c2ac27543dda8d52fdb13dcaeb2f9c4bf5",
    }
}
GATE_TAPS = 3  # the write gate averages so many tokens


class LizaError(ValueError):
    """One line: what, where, what is allowed."""


def check_versions() -> None:
    """Raises LizaError, one line, where tptt is missing, or it or transformers is outside the proven range."""
    try:
        tptt = metadata.version("tptt")
    except metadata.PackageNotFoundError:
        raise LizaError("tptt is not installed: pip install 'arc-helpers[liza]'") from None
    # bitsandbytes tells every CPU, when peft imports it, that a kernel could be downloaded
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    if tptt not in PROVEN:
        raise LizaError(f"tptt {tptt}: the repair is proven for {', '.join(PROVEN)} only")
    transformers = metadata.version("transformers")
    low, high = TRANSFORMERS
    if not low <= Version(transformers) < high:
        raise LizaError(f"transformers {transformers}: notebook 07 needs >= {low}, < {high}")


def check_code(path: str | Path) -> None:
    """Every .py file of a folder (or the one file) must be tptt's own, byte by byte. Raises LizaError, one line."""
    path = Path(path)
    for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if not any(files.get(file.name) == digest for files in PROVEN.values()):
            raise LizaError(f"{file}: sha256 {digest[:12]}… is not that of tptt {' or '.join(PROVEN)}: not run")


def check_mode(operator_mode: str, repaired: bool = True) -> None:
    """Raises LizaError, one line, for a mode that does not exist or that the repair does not cover."""
    from tptt import TpttConfig

    allowed = MODES if repaired else tuple(TpttConfig.RECURRENT_MODES)
    if operator_mode not in allowed:
        covered = " (the repair covers no gated and no nonlinear mode)" if repaired else ""
        raise LizaError(f"operator_mode = {operator_mode!r}: must be one of {', '.join(allowed)}{covered}")


def liza_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The LiZAttention modules of a model in order, also those of a class that was loaded from a saved folder."""
    return (module for module in model.modules() if type(module).__name__ == "LiZAttention")


def is_repaired(model: nn.Module) -> bool:
    """Whether every LiZAttention of the model computes the exact rule."""
    layers = list(liza_layers(model))
    return bool(layers) and all(isinstance(layer.linear_attn, ExactLinearAttention) for layer in layers)


def repair_model(model: nn.Module) -> nn.Module:
    """Put the exact linear attention into every layer of a TpttModel, in place; returns the model.

    Raises LizaError, one line, for versions, code, modes or options that this was not proven on.
    """
    check_versions()
    layers = list(liza_layers(model))
    if not layers:
        raise LizaError(f"{type(model).__name__}: has no LiZAttention; titanize it first")
    check_code(inspect.getfile(type(layers[0])))
    check_mode(model.config.operator_mode)
    for layer in layers:
        attention = getattr(layer.base_attn.config, "_attn_implementation", "eager")
        if attention != "eager":
            raise LizaError(f"attn_implementation = {attention!r}: must be 'eager' (tptt casts other masks wrongly)")
        if layer.linear_attn.bidirectional or layer.max_self_attn_length:
            raise LizaError("bidirectional and max_self_attn_length must be off")
        if not isinstance(layer.linear_attn, ExactLinearAttention):
            layer.linear_attn = ExactLinearAttention(layer.linear_attn)
    return model


class ExactLinearAttention(nn.Module):
    """Stands where LiZAttention.linear_attn stood; uses the library's norms and virtual tokens."""

    def __init__(self, library: nn.Module):
        super().__init__()
        self.library = library
        self.order = library.recurrent_config["order"]
        self.gates = library.recurrent_config["beta_gate"]  # "k", "v" or "kv"
        self.bidirectional = False

    def forward(
        self, x: list[Tensor], attn_mask: Tensor | None = None, out_proj=None, past_key_values=None, **_
    ) -> Tensor:
        """x: projected q [B, L, H·D], k and v [B, L, Hkv·D]. attn_mask: the layer's. Returns [B, L, hidden]."""
        q, k, v = x
        length, dtype = q.shape[1], q.dtype
        layer = None if past_key_values is None else memory_layer(past_key_values, self.library.layer_idx)
        memory = {} if layer is None else layer.memory
        span = Span.of(attn_mask, length)
        if span and memory and not span.valid[:, 0].all():
            raise LizaError("left padding inside a sequence that has begun: pad the first block only")
        beta, tail = self._gate(torch.cat([k, v], dim=-1), k.shape[-1], span, memory.get("gate"))
        streams = [*self.library.prepare_attention_input(q, k, v), beta]  # each [B, H, L, D]
        if span:
            streams = [x * span.valid[:, None, :, None] for x in streams]
        streams, history = self._virtual_tokens(streams, span, memory)
        query, key, value, beta = streams
        chunk = self.library.linear_operator.max_chunk_size
        out, state = chunked_delta_rule(query, key, value, beta, state=memory.get("state"), chunk=chunk)
        if layer is not None:
            layer.memory = {"state": state, "gate": tail, **history}
        out = out[:, :, self.order - 1 :: self.order]
        return self.library.merge_head_output(out, out_proj, dtype, q.device)

    def _gate(self, kv: Tensor, width: int, span: "Span | None", tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """The write gate β [B, H, L, D] of k and v side by side [B, L, 2·Hkv·D], and the tokens it needs next."""
        kv = span.filled(kv) if span else kv
        before = kv[:, :1].expand(-1, GATE_TAPS - 1, -1) if tail is None else tail
        kv = torch.cat([before, kv], dim=1)
        length = kv.shape[1] - GATE_TAPS + 1
        x = kv.to(self.library.linear_precision)
        mean = sum(x[:, i : i + length] for i in range(GATE_TAPS)) / GATE_TAPS
        of = {"k": torch.sigmoid(mean[..., :width]), "v": torch.sigmoid(mean[..., width:])}
        gate = of["k"] * of["v"] if self.gates == "kv" else of[self.gates]
        gate = gate.unflatten(-1, (self.library.num_key_value_heads, -1)).transpose(1, 2)
        return gate.repeat_interleave(self.library.num_key_value_groups, dim=1), _last(kv, GATE_TAPS - 1, span, dim=1)

    def _virtual_tokens(self, streams: list[Tensor], span: "Span | None", memory: dict[str, Tensor]):
        """`order` virtual tokens for each token, side by side, and the tokens that the next ones are made of."""
        if self.order == 1:
            return streams, {}
        kept = self.order - 1
        expanded, history = [], {}
        for name, x in zip(("q", "k", "v", "beta"), streams, strict=True):
            before = memory.get(name, torch.zeros_like(x[:, :, :1]).expand(-1, -1, kept, -1))
            x = torch.cat([before, x], dim=2)
            history[name] = _last(x, kept, span, dim=2)
            virtual = self.library.virtual_token_expander(x)[:, :, kept:]  # [B, H, L, order, D]
            if span:  # a pad behind the last token would repeat it
                virtual = virtual * span.valid[:, None, :, None, None]
            expanded.append(virtual.flatten(2, 3))
        return expanded, history


class Span:
    """Where the real tokens of each row are: from `first` to `last`."""

    def __init__(self, valid: Tensor):
        self.valid = valid  # [B, L] bool
        steps = torch.arange(valid.shape[1], device=valid.device)
        self.first = torch.where(valid, steps, valid.shape[1] - 1).amin(dim=1)  # [B]
        self.last = torch.where(valid, steps, 0).amax(dim=1)

    @classmethod
    def of(cls, attn_mask: Tensor | None, length: int) -> "Span | None":
        """Read a mask [B, K], or a layer's [B, 1, L, K] (visible: True or 0); None where nothing is padded."""
        if attn_mask is None:
            return None
        if attn_mask.dim() == 4:  # what the new tokens see of themselves
            own = attn_mask.diagonal(offset=attn_mask.shape[-1] - length, dim1=-2, dim2=-1)[:, 0]
            valid = own if own.dtype == torch.bool else own >= 0
        else:
            valid = attn_mask[:, -length:].bool()
        return None if valid.all() else cls(valid)

    def filled(self, x: Tensor) -> Tensor:
        """x [B, L, F] with the nearest real token in place of pads."""
        steps = torch.arange(x.shape[1], device=x.device)[None]
        index = steps.clamp(self.first[:, None], self.last[:, None])
        return x.gather(1, index[..., None].expand_as(x))


def _last(x: Tensor, count: int, span: Span | None, dim: int) -> Tensor:
    """The `count` tokens of x up to the last real one; x has `count` tokens more at its front than the span."""
    if span is None:
        return x.narrow(dim, x.shape[dim] - count, count).clone()  # a view would keep all of x
    index = span.last[:, None] + 1 + torch.arange(count, device=x.device)  # [B, count]
    index = index.view(len(index), *[1] * (dim - 1), count, *[1] * (x.dim() - dim - 1))
    return x.gather(dim, index.expand(*x.shape[:dim], count, *x.shape[dim + 1 :]))

"""Softmax attention over a window and a few sinks, so that decoding costs the same after any context.

tptt always computes full attention, so LiZA saves neither time nor memory there. With this in its place the keys and
values are `window + sinks − 1` tokens, LiZA's state carries the rest, and nothing grows. Sinks are seen as if they
stood right before the window (StreamingLLM, arXiv 2309.17453), so no distance is longer than those of training.
"""

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv, rotate_half

from arc_helpers.liza.cache import WindowLayer, window_layer
from arc_helpers.liza.repair import LizaError, Span


def set_window(model: nn.Module, window: int | None, sinks: int = 4) -> nn.Module:
    """Let every attention of a Llama or Qwen2 model (titanized or not) see `window` tokens, its own included, and the
    first `sinks`; None brings full attention back. In place; returns the model. Takes no left padding.

    Raises LizaError, one line.
    """
    if window is not None and (window < 1 or sinks < 0):
        raise LizaError(f"window = {window}, sinks = {sinks}: must be >= 1 and >= 0")
    found = 0
    for decoder in [m for m in model.modules() if hasattr(m, "rotary_emb") and hasattr(m, "layers")]:
        for layer in decoder.layers:
            holder, name = (
                (layer.self_attn, "base_attn") if hasattr(layer.self_attn, "base_attn") else (layer, "self_attn")
            )
            attention = getattr(holder, name)
            full = attention.full[0] if isinstance(attention, WindowedAttention) else attention
            windowed = full if window is None else WindowedAttention(full, decoder.rotary_emb, window, sinks)
            setattr(holder, name, windowed)
            found += 1
    if not found:
        raise LizaError(f"{type(model).__name__}: has no decoder layers with rotary positions")
    return model


def window_of(model: nn.Module) -> tuple[int | None, int]:
    """(window, sinks) as they are set; (None, 0) for full attention."""
    for module in model.modules():
        if isinstance(module, WindowedAttention):
            return module.window, module.sinks
    return None, 0


class WindowedAttention(nn.Module):
    """Takes the place of a LlamaAttention or Qwen2Attention, with its projections under their names."""

    def __init__(self, full: nn.Module, rotary: nn.Module, window: int, sinks: int):
        super().__init__()
        self.full, self.rotary = [full], [rotary]  # lists: no second owner of their parameters
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = full.q_proj, full.k_proj, full.v_proj, full.o_proj
        self.config, self.layer_idx, self.head_dim, self.scaling = (
            full.config,
            full.layer_idx,
            full.head_dim,
            full.scaling,
        )
        self.window, self.sinks = window, sinks

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values=None,
        **_,
    ) -> tuple[Tensor, None]:
        """hidden_states [B, L, hidden] → [B, L, hidden], in blocks of `window` queries."""
        self._refuse_left_padding(attention_mask, hidden_states.shape[1], past_key_values)
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (p(hidden_states).view(heads).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        if past_key_values is None:
            layer = WindowLayer(self.window, self.sinks)
        else:
            layer = window_layer(past_key_values, self.layer_idx, self.window, self.sinks)
        blocks = zip(*(x.split(self.window, dim=2) for x in (q, k, v)), strict=True)
        out = torch.cat([self._block(q, k, v, layer) for q, k, v in blocks], dim=2)  # [B, H, L, D]
        return self.o_proj(out.transpose(1, 2).flatten(2)), None

    def _block(self, q: Tensor, k: Tensor, v: Tensor, layer: WindowLayer) -> Tensor:
        """Attention of one block of queries [B, H, n, D] to what the layer holds and to themselves."""
        start, held, count = layer.seen, layer.positions(), q.shape[2]
        keys, values = (repeat_kv(x, q.shape[1] // x.shape[1]) for x in layer.append(k, v))
        scores = q @ keys.mT  # [B, H, n, K]
        own = torch.arange(start, start + count)
        sinks = min(self.sinks, start + count)
        if start + count > self.window and sinks:  # some sink is farther than the window
            nearer = self._moved(q, own, own.clamp(max=self.sinks + self.window - 1)) @ keys[:, :, :sinks].mT
            far = own[:, None] - torch.arange(sinks) >= self.window  # [n, sinks]
            near_scores = scores[..., :sinks]
            scores = torch.cat([torch.where(far.to(q.device), nearer, near_scores), scores[..., sinks:]], dim=-1)
        scores = scores * self.scaling
        if count > 1:  # a single query may see all that is held
            distance = own[:, None] - torch.cat([held, own])
            seen = (distance >= 0) & ((distance < self.window) | (torch.cat([held, own]) < self.sinks))
            scores = scores.masked_fill(~seen.to(q.device), torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ values

    def _moved(self, q: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Queries that were rotated for `source` positions, as if they stood at `target`."""
        cos, sin = self.rotary[0](q, (source - target)[None].to(q.device))
        scale = (cos.square() + sin.square()).sqrt()  # some rotary kinds scale as well
        return (q * cos - rotate_half(q) * sin) / scale

    def _refuse_left_padding(self, attention_mask: Tensor | None, length: int, cache) -> None:
        span = Span.of(attention_mask, length)
        if span and (cache is not None or not span.valid[:, 0].all()):
            raise LizaError(
                "windowed attention takes no left padding, and none at all with a cache: one prompt at a time"
            )

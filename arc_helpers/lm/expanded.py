"""Attention with grouped keys on GPUs below compute capability 8.0 (a T4), where the fused kernel knows no groups.

transformers leaves the grouping to torch (`enable_gqa`) wherever there is no mask, and torch then falls back to the
plain kernel, which keeps a T × T matrix a head: more than everything else together (huggingface/transformers#48633).
With keys and values expanded before it, the fused kernel is taken, at the price of a few narrow copies.
"""

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_expanded"


def expand_keys(model: PreTrainedModel) -> bool:
    """Let a model that attends by torch's own function expand its keys and values first; whether it does now."""
    if model.config.get_text_config()._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend_expanded)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return True


def needs_expanding(device: torch.device) -> bool:
    """Whether the fused kernel of this device takes no grouped keys."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)


def attend_expanded(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options
) -> tuple[Tensor, None]:
    """transformers' `sdpa`, after keys and values [B, groups, T, d] have become [B, heads, T, d]."""
    groups = query.shape[1] // key.shape[1]
    # one new token makes a row of scores, not a matrix: the few keys are not worth a copy of the cache
    if groups > 1 and attention_mask is None and query.shape[2] > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

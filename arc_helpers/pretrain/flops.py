"""How much arithmetic training takes, and how much of a device's peak it uses (MFU)."""

import re
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PretrainedConfig

#: dense peak in FLOP/s by device: (bfloat16 or float16 tensor cores with float32 sums, float32). From NVIDIA's data
#: sheets of each card, without sparsity; the GeForce rows from its Ada and Ampere architecture papers.
PEAKS = {
    r"B200": (2250e12, 75e12),
    r"H200|H100 80GB HBM3|H100 SXM": (989e12, 67e12),
    r"H100 NVL": (835e12, 60e12),
    r"H100 PCIe": (756e12, 51e12),
    r"A100": (312e12, 19.5e12),
    r"L40S": (362e12, 91.6e12),
    r"L4": (121e12, 30.3e12),
    r"V100": (125e12, 15.7e12),
    r"T4": (65e12, 8.1e12),
    r"P100": (18.7e12, 9.3e12),  # no tensor cores
    r"RTX 4090": (165e12, 82.6e12),
    r"RTX 3090": (71e12, 35.6e12),
}


def peak_flops(device_name: str, half: bool) -> float | None:
    """Peak FLOP/s of a device by its name, in half precision or float32; None where it is not known (any CPU)."""
    for pattern, (in_half, in_float32) in PEAKS.items():
        if re.search(rf"\b({pattern})\b", device_name):
            return in_half if half else in_float32
    return None


def device_peak(device: torch.device, half: bool) -> float | None:
    """`peak_flops` of a torch device."""
    return peak_flops(torch.cuda.get_device_name(device), half) if device.type == "cuda" else None


def matrix_parameters(model: nn.Module, frozen: bool = False) -> int:
    """Weights that every token is multiplied with and that are trained, or `frozen`: all matrices but the embedding,
    which is looked up."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad != frozen]
    return sum(layer.in_features * layer.out_features for layer in layers)  # 4 bits pack several in a number


def training_flops(matrices: int, config: PretrainedConfig, lengths: Sequence[int], frozen: int = 0) -> float:
    """FLOPs of one forward and backward over documents of these lengths, in tokens.

    6 a token and weight, 4 where it is `frozen` and has no gradient of its own; and in each layer
    6 · hidden_size · length² for scores and mixing, since a token sees half of its document on average (PaLM's
    convention, arXiv 2204.02311 appendix B, but with causality counted).
    """
    squares = sum(length * length for length in lengths)
    a_token = 6.0 * matrices + 4.0 * frozen
    return a_token * sum(lengths) + 6.0 * config.num_hidden_layers * config.hidden_size * squares

"""Counted arithmetic against torch's own counter; peaks by name."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.pretrain.flops import device_peak, matrix_parameters, peak_flops, training_flops


def test_flops_are_what_torch_counts():
    """torch counts the whole square of attention; half of it is hidden by causality."""
    model, tokens = GridLMForCausalLM(GridLMConfig.preset("tiny")), 3 * 40
    ids = torch.randint(0, 10, (3, 40))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(ids, labels=ids).loss.backward()
    found = {str(operation): flops for operation, flops in counter.get_flop_counts()["Global"].items()}
    attention = sum(flops for operation, flops in found.items() if "bmm" in operation)
    linear = sum(found.values()) - attention
    matrices = matrix_parameters(model)
    assert linear == 6 * matrices * tokens
    assert training_flops(matrices, model.config, [40] * 3) == linear + attention / 2
    assert training_flops(matrices, model.config, [tokens]) == linear + 3 * attention / 2  # one long document


def test_the_embedding_costs_nothing_and_the_head_does():
    model = GridLMForCausalLM(GridLMConfig.preset("tiny"))
    all_matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert matrix_parameters(model) == all_matrices - model.model.embed_tokens.weight.numel()


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("NVIDIA H200", 989e12, 67e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 67e12),
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 19.5e12),
        ("NVIDIA L4", 121e12, 30.3e12),
        ("NVIDIA L40S", 362e12, 91.6e12),
        ("Tesla T4", 65e12, 8.1e12),
        ("Tesla P100-PCIE-16GB", 18.7e12, 9.3e12),
        ("AMD EPYC", None, None),
        ("NVIDIA T400", None, None),
    ],
)
def test_peaks_by_name(name, half, single):
    assert (peak_flops(name, True), peak_flops(name, False)) == (half, single)


def test_a_cpu_has_no_known_peak():
    assert device_peak(torch.device("cpu"), True) is None

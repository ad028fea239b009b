"""Small random models: sensitive (large weights), in float32 and in exact float64."""

import pytest
import torch
from memory_models import small_model
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from arc_helpers.memory.model import TTTForCausalLM


@pytest.fixture
def model() -> TTTForCausalLM:
    return small_model()


@pytest.fixture
def exact(monkeypatch):
    """Makes Qwen3's norm compute in the dtype of its input; as shipped it rounds float64 models to float32."""

    def forward(self, hidden):
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(Qwen3RMSNorm, "forward", forward)
    return lambda **changes: small_model(**changes).double()

"""Small joint models, fresh for each test."""

import pytest
import torch

from arc_helpers.hybrid.model import HybridConfig, HybridModel
from arc_helpers.hybrid.tiny import tiny_lm, tiny_trm


@pytest.fixture
def make():
    """make(kind="gridlm", trm={…}, open=0.3, **fields of HybridConfig): a joint model with its gates opened."""

    def joint(kind="gridlm", trm=None, opened=0.3, lm=None, **fields) -> HybridModel:
        model = HybridModel(lm or tiny_lm(kind), tiny_trm(**(trm or {})), HybridConfig(**{"canvas_side": 3, **fields}))
        if model.config.conditioning == "text":
            with torch.no_grad():
                for gate in model.to_latent.gates.values():
                    gate.fill_(opened)
        return model.eval()

    return joint

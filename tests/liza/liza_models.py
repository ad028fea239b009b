"""Models for the tests of LiZA."""

import torch


@torch.no_grad()
def stir(model, scale=0.05):
    """Adapters as after a training: LoRA B is not zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return model

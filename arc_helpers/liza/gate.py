"""A gate that is learned: how much of each output channel is LiZA's, from nothing on."""

import torch
from torch import Tensor, nn

from arc_helpers.liza.repair import liza_layers

GATE = "lora_gate"


class LearnedGate(nn.Module):
    """Stands where LiZAttention.memory_gate stood. A channel's share of LiZA is mag_weight · tanh(g), g learned from 0.

    So the model starts as its base, exactly. g [channels] is one more tensor of the adapter of the output projection:
    peft saves, loads and resumes it with the others.
    """

    def __init__(self, projection: nn.Module, mag_weight: Tensor):
        super().__init__()
        start = torch.zeros(projection.out_features, device=next(projection.parameters()).device)
        setattr(projection, GATE, nn.ParameterDict({"default": nn.Parameter(start)}))
        projection.adapter_layer_names = (*projection.adapter_layer_names, GATE)
        self.mag_weight, self._of = mag_weight, [projection]  # in a list: it is a part of another module

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The share of each channel, [channels], in the dtype of hidden_states [B, L, channels]."""
        return (self.mag_weight * torch.tanh(getattr(self._of[0], GATE)["default"])).to(hidden_states.dtype)


def learn_gates(model: nn.Module) -> nn.Module:
    """Give every LiZAttention of a model a LearnedGate, in place; returns the model."""
    for layer in liza_layers(model):
        layer.memory_gate = LearnedGate(layer.base_attn.o_proj, layer.memory_gate.mag_weight)
    return model

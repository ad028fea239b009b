"""The weights of S models of one shape, as a forward multiplies with them: query, key and value as one matrix, gate and
up as one; each [in, out], behind an axis of S."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arc_helpers.lm.gridlm import GridLMForCausalLM


class Layer(NamedTuple):
    """One block of S models: d is the hidden size, f the MLP's, e a head's width."""

    input_norm: Tensor  # [S, d]
    qkv: Tensor  # [S, d, 3 d]
    q_norm: Tensor  # [S, e]
    k_norm: Tensor  # [S, e]
    out: Tensor  # [S, d, d]
    mlp_norm: Tensor  # [S, d]
    gate_up: Tensor  # [S, d, 2 f]
    down: Tensor  # [S, f, d]


@dataclass(frozen=True)
class Weights:
    """All weights of S models."""

    embedding: Tensor  # [S, rows, d]
    layers: tuple[Layer, ...]
    norm: Tensor  # [S, d]
    head: Tensor  # [S, d, V]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.embedding, *(tensor for layer in self.layers for tensor in layer), self.norm, self.head]

    def detached(self) -> "Weights":
        """The same numbers as leaves, whose gradients several backward passes add to; then `flow_back`."""
        return self._mapped(lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))

    def flow_back(self, leaves: "Weights") -> None:
        """Send the gradients that leaves made by `detached` have gathered to what these weights were made of."""
        pairs = [(own, leaf.grad) for own, leaf in zip(self.tensors, leaves.tensors, strict=True)]
        wanted = [(own, grad) for own, grad in pairs if grad is not None]
        torch.autograd.backward([own for own, _ in wanted], [grad for _, grad in wanted])

    def _mapped(self, f: Callable[[Tensor], Tensor]) -> "Weights":
        layers = tuple(Layer(*map(f, layer)) for layer in self.layers)
        return Weights(f(self.embedding), layers, f(self.norm), f(self.head))


def gathered(
    model: GridLMForCausalLM, matrix: Callable[[str, nn.Module], Tensor], vector: Callable[[str, nn.Module], Tensor]
) -> Weights:
    """Weights from those of a GridLM's modules, each called for with its name and module: `matrix` gives [S, in, out]
    of a linear layer, [S, rows, d] of the embedding; `vector` [S, d] of a norm."""
    prefix = model.base_model_prefix
    layers = []
    for i, block in enumerate(model.model.layers):
        at, attention, mlp = f"{prefix}.layers.{i}", block.self_attn, block.mlp
        qkv = [matrix(f"{at}.self_attn.{name}", getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj")]
        gate_up = [matrix(f"{at}.mlp.{name}", getattr(mlp, name)) for name in ("gate_proj", "up_proj")]
        layers.append(
            Layer(
                vector(f"{at}.input_layernorm", block.input_layernorm),
                torch.cat(qkv, dim=2),
                vector(f"{at}.self_attn.q_norm", attention.q_norm),
                vector(f"{at}.self_attn.k_norm", attention.k_norm),
                matrix(f"{at}.self_attn.o_proj", attention.o_proj),
                vector(f"{at}.post_attention_layernorm", block.post_attention_layernorm),
                torch.cat(gate_up, dim=2),
                matrix(f"{at}.mlp.down_proj", mlp.down_proj),
            )
        )
    embedding = matrix("embedding", model.get_input_embeddings())
    head = matrix("head", model.get_output_embeddings())
    return Weights(embedding, tuple(layers), vector(f"{prefix}.norm", model.model.norm), head)


def shared_weights(model: GridLMForCausalLM) -> Weights:
    """The model's own weights, S = 1; gradients reach its parameters."""

    def matrix(name: str, module: nn.Module) -> Tensor:
        return (module.weight if isinstance(module, nn.Embedding) else module.weight.mT)[None]

    return gathered(model, matrix, lambda name, module: module.weight[None])

"""Adapters merged into the base's weights for a step, W_k = W + scale · B_k A_k, so that the engine can train them.

What a hook adds to each product is here part of the matrix: fewer and larger operations, the same gradients. It takes a
GridLM in plain float32 weights and adapters on all of its layers (`can_merge`); everything else keeps the hooks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from arc_helpers.engine import WORTH_COMPILING, Engine, Weights
from arc_helpers.engine.weights import gathered
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.ttt.multilora import MultiLoRAModel


def engine_for(model: MultiLoRAModel, tokens: float) -> Engine | None:
    """The engine that trains these adapters on so many tokens, None where hooks do: on a GPU, not measured yet, too."""
    if model.lm.device.type != "cpu" or not can_merge(model):
        return None
    return Engine(model.lm.model.config, model.lm.device, compile=tokens > WORTH_COMPILING)


def can_merge(model: MultiLoRAModel) -> bool:
    """Whether the engine can train these adapters."""
    lm, weights = model.lm, list(model.lm.model.parameters())
    plain = isinstance(lm.model, GridLMForCausalLM) and all(w.dtype == torch.float32 for w in weights)
    return plain and model.mode == "full" and model.bank.flat.dtype == torch.float32


def merged_weights(model: MultiLoRAModel, chosen: Sequence[int]) -> Weights:
    """The weights of the base with each of the `chosen` slots, which rise; gradients reach the bank."""
    bank, slots, together = model.bank, len(chosen), chosen[-1] - chosen[0] + 1 == len(chosen)
    index = torch.tensor(chosen, device=bank.flat.device)

    def of(name: str) -> Tensor:
        if together:
            return bank.rows(name, chosen[0], chosen[-1] + 1)
        return bank[name].index_select(0, index)

    def matrix(name: str, module: nn.Module) -> Tensor:
        embedding = isinstance(module, nn.Embedding)
        base = (module.weight if embedding else module.weight.mT).expand(slots, -1, -1)
        if f"{name}.A" in bank:
            a, b = of(f"{name}.A"), of(f"{name}.B")
            factors = (a, b) if embedding else (a.mT, b.mT)
            return torch.baddbmm(base, *factors, alpha=model.scaling)
        if name in bank:  # embedding and head, trained in full
            return base + (of(name) if embedding else of(name).mT)
        return base

    def vector(name: str, module: nn.Module) -> Tensor:
        base = module.weight.expand(slots, -1)
        return base * (1 + of(f"{name}.scale")) if f"{name}.scale" in bank else base

    return gathered(model.lm.model, matrix, vector)


def merged_losses(engine: Engine, model: MultiLoRAModel, examples: Sequence[Encoded], slots: Sequence[int]) -> Tensor:
    """What `cache.slot_losses` gives, [S], of slots that rise."""
    lm = model.lm
    ids = pad_sequence([torch.from_numpy(e.input_ids) for e in examples], True, lm.prompt_form.pad).to(lm.device)
    labels = pad_sequence([torch.from_numpy(e.labels) for e in examples], True, IGNORE).to(lm.device)
    positions = lm.model.grid_positions(ids)
    rotary = lm.model.model.rotary(positions)
    sums, counts = engine.losses(merged_weights(model, slots), ids, labels, positions, rotary)
    return sums / counts.clamp_min(1)

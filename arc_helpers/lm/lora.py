"""What makes a frozen language model learn: a LoRA of peft's beside its weights, and less memory for its gradients."""

from collections.abc import Sequence

import torch
from torch import nn

from arc_helpers.lm.loading import LoadedLM

FP16_LOSS_SCALE = 1024.0  # of losses over a base in float16; a power of two, so that scaling changes no digit


def add_lora(
    lm: LoadedLM,
    r: int,
    alpha: float | None = None,
    *,
    use_rslora: bool = False,
    target_modules: Sequence[str] | str = "all-linear",
    train_rows: bool = False,
) -> LoadedLM:
    """Put a trainable LoRA of rank r beside linear layers; the rest stays frozen. In place.

    Its output is scaled by alpha / r (alpha: default 2 r), or alpha / √r with `use_rslora`. target_modules: last parts
    of the layers' names, or "all-linear": all but the head. train_rows: embedding and head, too, in full; tied ones
    stay tied. (Of a trimmed model these are the few rows in use.)
    Raises ValueError, one line, where r < 1, peft is missing or a module is unknown.
    """
    if r < 1:
        raise ValueError(f"r = {r}: must be >= 1")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError("LoRA: peft is not installed; pip install peft, or leave the model frozen") from None
    layers = {name.rsplit(".", 1)[-1] for name, m in lm.model.named_modules() if isinstance(m, nn.Linear)}
    layers -= {name for name, m in lm.model.named_modules() if m is lm.head}
    wanted = sorted(layers) if target_modules == "all-linear" else list(target_modules)
    if unknown := [name for name in wanted if name not in layers]:
        raise ValueError(f"target_modules: {', '.join(unknown)} not in the model; it has {', '.join(sorted(layers))}")
    config = LoraConfig(r=r, lora_alpha=alpha or 2 * r, use_rslora=use_rslora, target_modules=wanted)
    inject_adapter_in_model(config, lm.model)
    for name, parameter in lm.model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()  # half precision would lose small steps
    if train_rows:
        embedding = lm.model.get_input_embeddings()
        if embedding.weight.shape == lm.head.weight.shape and torch.equal(embedding.weight, lm.head.weight):
            lm.head.weight = embedding.weight
        for module in (embedding, lm.head):
            module.weight.requires_grad_(True)
    return lm


def checkpoint_layers(lm: LoadedLM) -> LoadedLM:
    """Compute each layer again in the backward pass instead of keeping its activations. In place.

    The embeddings' output is made to ask for a gradient: with token ids alone nothing would, and no layer would be
    computed again. Raises ValueError for a model that has no checkpointing.
    """
    if not lm.model.supports_gradient_checkpointing:
        raise ValueError(f"activation checkpointing: {lm.name} ({lm.model.config.model_type}) has none; use False")
    # its name since transformers 5.23; the older one goes with version 6
    enable = getattr(lm.model, "activation_checkpointing_enable", None) or lm.model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    lm.model.enable_input_require_grads()
    lm.model.train()  # transformers checkpoints in training mode only
    return lm

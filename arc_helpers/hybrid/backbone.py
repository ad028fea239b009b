"""What may be done to the language model: a LoRA beside it, less memory for its gradients, another one in its place."""

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM

from arc_helpers.lm.loading import LoadedLM


def add_lora(lm: LoadedLM, r: int, alpha: float | None = None) -> LoadedLM:
    """Put a trainable LoRA of rank r (scale alpha / r, default 2) beside queries and values; the rest stays frozen.

    In place. Raises ValueError where r < 1, or where peft is missing.
    """
    if r < 1:
        raise ValueError(f"lora_r = {r}: must be >= 1")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError("lora_r: peft is not installed; pip install peft, or leave the model frozen") from None
    config = LoraConfig(r=r, lora_alpha=alpha or 2 * r, target_modules=["q_proj", "v_proj"])
    inject_adapter_in_model(config, lm.model)
    for name, parameter in lm.model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()  # half precision would lose small steps
    return lm


def checkpoint_layers(lm: LoadedLM) -> LoadedLM:
    """Compute each layer again in the backward pass instead of keeping its activations. In place.

    The embeddings' output is made to ask for a gradient: with token ids alone nothing would, and no layer would be
    computed again. Raises ValueError for a model that has no checkpointing.
    """
    if not lm.model.supports_gradient_checkpointing:
        raise ValueError(f"gradient_checkpointing = True: {lm.name} ({lm.model.config.model_type}) has none; use False")
    # its name since transformers 5.23; the older one goes with version 6
    enable = getattr(lm.model, "activation_checkpointing_enable", None) or lm.model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    lm.model.enable_input_require_grads()
    lm.model.train()  # transformers checkpoints in training mode only
    return lm


def random_twin(lm: LoadedLM, seed: int) -> LoadedLM:
    """The same architecture and tokenizer with fresh random weights: the control for what pretraining has put there."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(lm.model.config, dtype=lm.dtype)
    model = model.to(lm.device).eval().requires_grad_(False)
    return replace(lm, model=model, name=f"{lm.name} (random weights)")

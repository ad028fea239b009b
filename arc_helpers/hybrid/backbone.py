"""Another language model in the place of the trained one."""

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM

from arc_helpers.lm.loading import LoadedLM


def random_twin(lm: LoadedLM, seed: int) -> LoadedLM:
    """The same architecture and tokenizer with fresh random weights: the control for what pretraining has put there."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(lm.model.config, dtype=lm.dtype)
    model = model.to(lm.device).eval().requires_grad_(False)
    return replace(lm, model=model, name=f"{lm.name} (random weights)")

"""A GridLM that has learned nothing yet: what joint training on a run's own tasks alone can start from."""

import torch

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.runs import choose_device


def fresh_gridlm(
    size: str = "nano", *, layers: int | None = None, seed: int = 0, device: str | None = None, max_len: int = 2048
) -> LoadedLM:
    """A GridLM of random float32 weights, a function of size, layers and seed.

    size: one of `gridlm.PRESETS`; layers: in place of the size's own. device: None takes the machine's.
    Raises ValueError, one line, for a size that is not known, or layers below 1.
    """
    if layers is not None and layers < 1:
        raise ValueError(f"layers = {layers}: must be >= 1")
    torch.manual_seed(seed)
    config = GridLMConfig.preset(size, **({"num_hidden_layers": layers} if layers else {}))
    model = GridLMForCausalLM(config).to(device or choose_device().device)
    tokenizer = arc_tokenizer()
    form, name = PromptForm.from_tokenizer(tokenizer), f"fresh {size} × {config.num_hidden_layers}"
    return LoadedLM(model, tokenizer, form, name, max_len, model.device, torch.float32)

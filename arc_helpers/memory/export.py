"""Write a trained model as an ordinary Hugging Face folder with its card."""

from pathlib import Path

import torch

from arc_helpers.lm.loading import without_progress_bars
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import atomic_write_text


def save_model(
    model: TTTForCausalLM,
    tokens: DialogTokens,
    folder: str | Path,
    card: str = "",
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write config, weights (safetensors), tokenizer and README.md; the model is not changed."""
    folder = Path(folder)
    half = TTTForCausalLM(model.config).to(dtype)
    half.load_state_dict(model.state_dict())
    with without_progress_bars():
        half.save_pretrained(folder)
    tokens.tokenizer.save_pretrained(folder)
    if card:
        atomic_write_text(folder / "README.md", card)
    return folder

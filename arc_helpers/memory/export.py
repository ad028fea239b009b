"""Write a trained model as an ordinary Hugging Face folder with its card."""

from pathlib import Path

import torch

from arc_helpers.lm.door import without_progress_bars
from arc_helpers.memory.corpus import TextTokens
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import replacing_folder


def save_model(
    model: TTTForCausalLM,
    tokens: DialogTokens | TextTokens,
    folder: str | Path,
    card: str = "",
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write config, weights (safetensors), tokenizer and README.md; the model is not changed."""
    folder = Path(folder)
    half = TTTForCausalLM(model.config).to(dtype)
    half.load_state_dict(model.state_dict())
    with replacing_folder(folder) as draft, without_progress_bars():
        half.save_pretrained(draft)
        tokens.tokenizer.save_pretrained(draft)
        if card:
            (draft / "README.md").write_text(card, encoding="utf-8")
    return folder

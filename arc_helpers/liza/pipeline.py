"""Text generation under the original's name."""

import torch
from torch import nn

from arc_helpers.liza.titanize import inner_model


class TpttPipeline:
    """`TpttPipeline(model=model, tokenizer=tokenizer)("Once", max_new_tokens=20)[0]["generated_text"]`.

    model: titanized, reloaded, or a control. device: None leaves the model where it is. tptt dropped its own pipeline
    after 0.11.1; transformers' does not take a reloaded TpttModel.
    """

    def __init__(self, model: nn.Module, tokenizer, device=None):
        self.model = model if device is None else model.to(device)
        self.tokenizer = tokenizer

    @torch.no_grad()
    def __call__(self, text_inputs: str | list[str], max_new_tokens: int = 100, **options):
        """[{"generated_text": prompt and continuation}] for one prompt, a list of these for a list, one at a time.

        options: `generate`'s; greedy unless do_sample=True.
        """
        if not isinstance(text_inputs, str):
            return [self(text, max_new_tokens, **options) for text in text_inputs]
        inner = inner_model(self.model)
        inner.eval()
        if hasattr(self.model, "linear_cache"):
            self.model.linear_cache.reset()  # an unrepaired model would go on from the last prompt
        inputs = self.tokenizer(text_inputs, return_tensors="pt", return_token_type_ids=False).to(inner.device)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        options = {"do_sample": False, "pad_token_id": pad, **options}
        ids = inner.generate(**inputs, max_new_tokens=max_new_tokens, **options)
        return [{"generated_text": self.tokenizer.decode(row, skip_special_tokens=True)} for row in ids]

"""Causal language models on ARC grids: tokens, prompts, loading and the embedded GridLM.

Names are imported on first use, so that `import arc_helpers.lm` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "FORMS": "prompt_form",
    "PromptForm": "prompt_form",
    "TokenizerError": "vocabulary",
    "two_readings": "vocabulary",
    "open_adapter": "door",
    "open_config": "door",
    "open_folder": "door",
    "open_model": "door",
    "open_tensors": "door",
    "open_tokenizer": "door",
    "arc_tokenizer": "tokenizer",
    "Encoded": "prompt",
    "TaskTooLong": "prompt",
    "encode": "prompt",
    "encode_pair": "prompt",
    "GridLMConfig": "gridlm",
    "GridLMForCausalLM": "gridlm",
    "LoadedLM": "loading",
    "ModelError": "folder",
    "fresh_gridlm": "fresh",
    "load_causal_lm": "loading",
    "trim_vocabulary": "loading",
    "answer_logprobs": "score",
    "AdapterError": "adapter",
    "attach_adapter": "adapter",
    "read_adapter": "adapter",
    "add_lora": "lora",
    "checkpoint_layers": "lora",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)

"""Causal language models on ARC grids: tokens, prompts, loading, the embedded GridLM and its pretraining.

Names are imported on first use, so that `import arc_helpers.lm` alone does not load torch.
"""

import importlib

_WHERE = {
    "GridVocabulary": "vocabulary",
    "TokenizerError": "vocabulary",
    "arc_tokenizer": "tokenizer",
    "Encoded": "prompt",
    "TaskTooLong": "prompt",
    "answer_grid": "prompt",
    "encode": "prompt",
    "GridLMConfig": "gridlm",
    "GridLMForCausalLM": "gridlm",
    "LoadedLM": "loading",
    "ModelError": "loading",
    "load_causal_lm": "loading",
    "trim_vocabulary": "loading",
    "answer_logprobs": "score",
    "build_mixture": "corpus",
    "held_out_tasks": "corpus",
    "model_card": "export",
    "save_model": "export",
    "PretrainConfig": "pretrain",
    "Pretrainer": "pretrain",
    "held_out_score": "pretrain",
}
__all__ = list(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)

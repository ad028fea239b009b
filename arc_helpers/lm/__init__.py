"""Causal language models on ARC grids: tokens, prompts, loading, the embedded GridLM and its pretraining.

Names are imported on first use, so that `import arc_helpers.lm` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "GridVocabulary": "vocabulary",
    "TokenizerError": "vocabulary",
    "arc_tokenizer": "tokenizer",
    "Encoded": "prompt",
    "TaskTooLong": "prompt",
    "answer_grid": "prompt",
    "encode": "prompt",
    "encode_pair": "prompt",
    "GridLMConfig": "gridlm",
    "GridLMForCausalLM": "gridlm",
    "LoadedLM": "loading",
    "ModelError": "loading",
    "load_causal_lm": "loading",
    "trim_vocabulary": "loading",
    "answer_logprobs": "score",
    "card_of": "base_run",
    "corpus_from": "base_run",
    "settings_from": "base_run",
    "build_curriculum": "corpus",
    "build_mixture": "corpus",
    "held_out_tasks": "corpus",
    "model_card": "export",
    "save_model": "export",
    "PretrainConfig": "settings",
    "Pretrainer": "pretrain",
    "held_out_score": "held_out",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)

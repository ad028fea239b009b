"""Random models of a few thousand numbers and little problems: for proofs that need no knowledge, only plumbing."""

import string
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from arc_helpers.arc import Pair
from arc_helpers.hybrid.questions import Example, Question
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.trm import TRM, TRMConfig

KINDS = ("gridlm", "llama", "qwen2")
_SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_CONTEXT: dict[str, Any] = {
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}  # large weights, so that nothing is nearly equal


def tiny_lm(kind: str = "gridlm", seed: int = 0) -> LoadedLM:
    """A frozen random language model; a Llama or Qwen2 reads words and grids, a GridLM grids. ValueError on others."""
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    tokenizer = arc_tokenizer() if kind == "gridlm" else letter_tokenizer()
    torch.manual_seed(seed)
    if kind == "gridlm":
        model = GridLMForCausalLM(GridLMConfig(**_SHAPE, **_CONTEXT))
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **_SHAPE, **_CONTEXT))
    else:
        shape = {**_SHAPE, "num_key_value_heads": 1}
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **shape, **_CONTEXT))
    model.eval().requires_grad_(False)
    prompt_form = PromptForm.from_tokenizer(tokenizer, kind)
    return LoadedLM(model, tokenizer, prompt_form, f"tiny {kind}", 1024, model.device, torch.float32)


def tiny_trm(**fields) -> TRM:
    """A random TRM of 7,000 numbers whose weights are all other than zero, heads and tables included."""
    shape = {"hidden_size": 16, "num_heads": 2, "width_multiple": 8, "prefix_len": 3, "halt_max_steps": 2}
    torch.manual_seed(1)
    model = TRM(TRMConfig.preset("tiny", **{**shape, "conditioned_rows": 1, **fields}))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return model


def tiny_examples(n: int, side: int = 3, seed: int = 0) -> list[Example]:
    """n tasks that mirror a grid, each with 1 to 3 demonstrations, so that prompts are of several lengths."""
    rng = np.random.default_rng(seed)

    def pair() -> Pair:
        grid = rng.integers(0, 10, size=(side, side))
        return Pair(grid, grid[:, ::-1])

    made = []
    for number in range(n):
        *shown, asked = (pair() for _ in range(2 + number % 3))
        made.append(Example(Question(f"tiny{number}", 0, tuple(shown), asked.input), asked.output))
    return made


def letter_tokenizer() -> PreTrainedTokenizerFast:
    """One token a printable character, with start and end tokens."""
    table = {s: i for i, s in enumerate(["<unk>", "<s>", "</s>", *string.printable, "×"])}
    core = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **special)

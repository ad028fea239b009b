"""Small random models and one little task."""

from pathlib import Path

import pytest
import torch
from lm_tokenizers import byte_tokenizer, char_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # large, so that no two logits are nearly equal
}


@pytest.fixture(scope="session")
def prompt_form() -> PromptForm:
    return PromptForm.from_tokenizer(arc_tokenizer())


@pytest.fixture
def task() -> Task:
    """Swap the two colours: two demonstrations and one labelled test."""
    return Task(
        "little",
        (Pair([[1, 2], [3, 4]], [[5]]), Pair([[0]], [[0, 0]])),
        (Pair([[6]], [[7, 8]]), Pair([[9], [1]])),
    )


@pytest.fixture(scope="session")
def gridlm() -> GridLMForCausalLM:
    """A nano GridLM in evaluation mode, a little wider so that it can be had in 4 bits. Do not change it."""
    torch.manual_seed(0)
    return GridLMForCausalLM(GridLMConfig.preset("nano", intermediate_size=384, initializer_range=0.1)).eval()


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, gridlm) -> dict[str, Path]:
    """Hugging Face folders: Llama (character tokens), Qwen2 (byte-level tokens, tied head) and GridLM."""
    llama_tokens, qwen2_tokens = char_tokenizer(), byte_tokenizer()
    torch.manual_seed(0)
    made = {
        "llama": (LlamaForCausalLM(LlamaConfig(vocab_size=len(llama_tokens), **SMALL)), llama_tokens),
        "qwen2": (
            Qwen2ForCausalLM(Qwen2Config(vocab_size=len(qwen2_tokens), tie_word_embeddings=True, **SMALL)),
            qwen2_tokens,
        ),
        "gridlm": (gridlm, arc_tokenizer()),
    }
    folders = {}
    for name, (model, tokenizer) in made.items():
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders

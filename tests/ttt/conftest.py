"""Small random models of three architectures, all with the arc tokenizer, and little tasks."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer

ARCHITECTURES = ["gridlm", "llama", "qwen2"]
SMALL = {
    "vocab_size": 16,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # large, so that no two logits are nearly equal
}


def random_lm(name: str) -> LoadedLM:
    torch.manual_seed(1)
    if name == "gridlm":
        model = GridLMForCausalLM(GridLMConfig.preset("tiny", initializer_range=0.2))
    elif name == "llama":
        model = LlamaForCausalLM(LlamaConfig(**SMALL))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **SMALL))
    model.eval().requires_grad_(False)
    tokenizer = arc_tokenizer()
    prompt_form = PromptForm.from_tokenizer(tokenizer)
    return LoadedLM(model, tokenizer, prompt_form, name, 512, torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def _float32_products(monkeypatch):
    """What two ways must have in common is compared in float32; tests/engine has those of bfloat16."""
    monkeypatch.setattr("arc_helpers.engine.engine.has_bfloat16", lambda device: False)


@pytest.fixture(scope="session")
def lms() -> dict[str, LoadedLM]:
    """Do not change them."""
    return {name: random_lm(name) for name in ARCHITECTURES}


@pytest.fixture(params=ARCHITECTURES)
def lm(request, lms) -> LoadedLM:
    return lms[request.param]


@pytest.fixture
def gridlm(lms) -> LoadedLM:
    return lms["gridlm"]


@pytest.fixture
def tasks() -> list[Task]:
    """Three rules on grids of different sizes: mirror, fill, and one with two test inputs."""
    mirror = tuple(Pair([[a, b, 0]], [[0, b, a]]) for a, b in ((1, 2), (3, 4), (5, 1), (2, 6)))
    fill = tuple(Pair([[c, 0], [0, 0]], [[c, c], [c, c]]) for c in (1, 2, 3))
    first = tuple(Pair([[c, d], [d, c], [d, d]], [[c]]) for c, d in ((1, 2), (3, 5)))
    return [
        Task("mirror", mirror, (Pair([[7, 3, 0]], [[0, 3, 7]]),)),
        Task("fill", fill, (Pair([[5, 0], [0, 0]], [[5, 5], [5, 5]]),)),
        Task("first", first, (Pair([[4, 1], [1, 4], [1, 1]], [[4]]), Pair([[8, 9], [9, 8], [9, 9]], [[8]]))),
    ]

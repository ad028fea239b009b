"""A vocabulary and a small random GridLM."""

import pytest
import torch

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer


@pytest.fixture(scope="session")
def prompt_form() -> PromptForm:
    return PromptForm.from_tokenizer(arc_tokenizer())


@pytest.fixture(scope="session")
def gridlm() -> GridLMForCausalLM:
    """A nano GridLM in evaluation mode. Do not change it."""
    torch.manual_seed(0)
    return GridLMForCausalLM(GridLMConfig.preset("nano", intermediate_size=384, initializer_range=0.1)).eval()

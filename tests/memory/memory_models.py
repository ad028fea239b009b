"""Models and ids for the tests of `memory`."""

import torch

from arc_helpers.memory.model import TTTConfig, TTTForCausalLM


def small_model(seed: int = 0, **changes) -> TTTForCausalLM:
    """Two learning blocks of four, window 12, batches of 8, vocabulary 50: large weights, so that every path counts."""
    torch.manual_seed(seed)
    defaults = {"sliding_window": 12, "ttt_batch": 8, "ttt_layers": 2, "initializer_range": 0.15, "inner_lr": 0.3}
    return TTTForCausalLM(TTTConfig.preset("tiny", 50, **{**defaults, **changes})).eval()


def random_ids(rows: int, length: int, seed: int = 1, vocab: int = 50) -> torch.Tensor:
    """Token ids [rows, length]."""
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(seed))

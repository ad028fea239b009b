"""The adapters: what they start as, how large they are, where they refuse to be."""

from dataclasses import replace

import pytest
import torch

from arc_helpers.hybrid.adapters import (
    LatentToTextAdapter,
    Resampler,
    Spread,
    TextToLatentAdapter,
    naive_parameters,
    parameter_table,
)
from arc_helpers.hybrid.tiny import tiny_trm
from arc_helpers.trm import TRMConfig

TRM_SHAPE = tiny_trm().config


def test_sizes_at_the_width_of_an_8b_model():
    """The issue's numbers: 5 to 8 M, where a dense map takes 1.9 G."""
    official = TRMConfig()
    table = parameter_table(
        resampler=TextToLatentAdapter(4096, official), back=LatentToTextAdapter(512, 4096, scale=0.02)
    )
    assert 5e6 < table["resampler"] < 8e6 and table["back"] < 8e6
    assert naive_parameters(4096, 900, 512) == 1_887_436_800


@pytest.mark.parametrize("mode", ["prefix", "carry", "both"])
def test_closed_gates_say_nothing(mode):
    adapter = TextToLatentAdapter(8, TRM_SHAPE, mode)
    latent = adapter(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool), torch.tensor([3, 3]), 9)
    assert [x is not None for x in latent] == [mode != "carry", mode != "prefix", mode != "prefix"]
    shapes = {"prefix": (2, 3, 16), "z_H": (2, 12, 16), "z_L": (2, 12, 16)}
    for name, value in latent._asdict().items():
        assert value is None or (value.shape == shapes[name] and not value.any())


def test_masked_states_are_not_seen():
    resampler = Resampler(8, 16, queries=3, layers=2)
    states, mask = torch.randn(1, 6, 8), torch.tensor([[False, False, True, True, True, True]])
    alone = resampler(states[:, 2:], None)
    states[:, :2] = 1e4
    torch.testing.assert_close(resampler(states, mask), alone)
    assert not torch.allclose(resampler(states, ~mask), alone)


def test_a_start_has_the_rank_of_its_queries_and_knows_row_and_column():
    spread = Spread(queries=3, prefix_len=3)
    start = spread(torch.randn(1, 3, 16), torch.tensor([4]), 20)[0]  # 5 rows of 4
    assert start.shape == (23, 16) and torch.linalg.matrix_rank(start) == 3
    cells = start[3:].unflatten(0, (5, 4))
    # rows and columns add up: the difference of two rows is the same in every column
    torch.testing.assert_close(cells[1] - cells[0], (cells[1, 0] - cells[0, 0]).expand(4, -1), rtol=0, atol=1e-5)
    narrow = Spread(3, 3)
    narrow.load_state_dict(spread.state_dict())
    vectors = torch.randn(1, 3, 16)
    wide, thin = (narrow(vectors, torch.tensor([w]), w * 2)[0, 3:].unflatten(0, (2, w)) for w in (4, 2))
    torch.testing.assert_close(wide[:, :2], thin)


def test_soft_tokens_are_as_large_as_embeddings():
    adapter = LatentToTextAdapter(16, 32, scale=0.02, tokens=5)
    made = adapter(1000 * torch.randn(4, 12, 16))
    assert made.shape == (4, 5, 32)
    torch.testing.assert_close(made.square().mean(-1).sqrt(), torch.full((4, 5), 0.02), rtol=0.02, atol=0)


def test_a_start_that_could_not_learn_is_refused_at_construction():
    published = replace(TRM_SHAPE, H_cycles=3)
    for mode in ("carry", "both"):
        with pytest.raises(ValueError, match=f"mode = '{mode}': no gradient reaches TRM's start with H_cycles = 3"):
            TextToLatentAdapter(8, published, mode)
        TextToLatentAdapter(8, replace(published, full_gradient=True), mode)
    TextToLatentAdapter(8, published, "prefix")
    with pytest.raises(ValueError, match="mode = 'film': must be one of prefix, carry, both"):
        TextToLatentAdapter(8, published, "film")
    with pytest.raises(ValueError, match="tokens = 0: must be >= 1 and <= 64"):
        LatentToTextAdapter(16, 32, 1.0, tokens=0)

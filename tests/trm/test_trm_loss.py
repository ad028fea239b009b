"""The loss counts what is asked, and nothing else."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.trm.loss import cell_loss, exactly_right, log_stablemax, segment_loss
from arc_helpers.trm.model import Carry, Segment


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6))
def test_stablemax_is_its_formula(row):
    s = np.array([x + 1 if x >= 0 else 1 / (1 - x) for x in row])
    found = log_stablemax(torch.tensor(row, dtype=torch.float64))
    np.testing.assert_allclose(found.exp(), s / s.sum(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["stablemax", "softmax"])
def test_pad_is_not_asked(kind):
    """Rows count alike, however many cells are asked; a label of 0 changes nothing."""
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 12, dtype=torch.float64)
    labels = torch.tensor([[3, 5, 0, 0], [0, 7, 2, 1]])
    losses = cell_loss(logits, labels, kind)
    logs = log_stablemax(logits) if kind == "stablemax" else logits.log_softmax(-1)
    assert losses[0] == pytest.approx(-(logs[0, 0, 3] + logs[0, 1, 5]).item() / 2)
    assert losses[1] == pytest.approx(-(logs[1, 1, 7] + logs[1, 2, 2] + logs[1, 3, 1]).item() / 3)
    changed = logits.clone()
    changed[0, 2:] += 5 * torch.randn(2, 12, dtype=torch.float64)
    assert torch.equal(cell_loss(changed, labels, kind)[0], losses[0])
    assert cell_loss(logits, torch.zeros_like(labels), kind).tolist() == [0, 0]


def test_right_is_every_asked_cell():
    labels = torch.tensor([[3, 0], [3, 4]])
    logits = torch.nn.functional.one_hot(torch.tensor([[3, 9], [3, 9]]), 12).float()
    assert exactly_right(logits, labels).tolist() == [True, False]


def test_the_halting_head_learns_whether_the_answer_is_right():
    labels = torch.tensor([[3], [4]])
    logits = torch.nn.functional.one_hot(torch.tensor([[3], [9]]), 12).double() * 20
    carry = Carry(*(torch.zeros(2, 1, 1),) * 2, torch.ones(2), torch.zeros(2, dtype=torch.bool))
    halt = torch.tensor([2.0, 2.0], dtype=torch.float64)
    loss, sums = segment_loss(Segment(carry, logits, halt), labels, "softmax")
    expected = math.log1p(math.exp(-2)) + math.log1p(math.exp(2))  # once right, once wrong
    assert sums["halt_loss"].item() == pytest.approx(expected, rel=1e-6)
    assert loss.item() == pytest.approx(cell_loss(logits, labels, "softmax").mean().item() + 0.5 * expected / 2)
    assert (sums["exact"], sums["halt_right"]) == (1, 1) and sums["exact_rows"].tolist() == [True, False]

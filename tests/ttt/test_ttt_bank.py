"""Parameters of K slots are views into one matrix, and so are their gradients."""

import torch

from arc_helpers.ttt.bank import SlotBank

SHAPES = {"a": (2, 3), "b": (4,), "c": (1, 2, 2)}


def test_a_row_is_all_there_is_to_know_of_a_slot():
    bank = SlotBank(3, SHAPES)
    assert bank.names == ["a", "b", "c"] and "b" in bank and "d" not in bank
    assert bank.flat.shape == bank.grad.shape == (3, 14) and not bank.flat.any()
    bank.flat.copy_(torch.arange(42.0).view(3, 14))
    assert bank["a"].shape == (3, 2, 3) and bank["c"].shape == (3, 1, 2, 2)
    assert bank["b"][1].tolist() == [20, 21, 22, 23]
    rows = torch.cat([bank[name].detach().flatten(1) for name in bank.names], dim=1)
    assert torch.equal(rows, bank.flat)


def test_gradients_land_in_one_matrix_and_add_up():
    bank = SlotBank(2, SHAPES, dtype=torch.float64)
    for _ in range(2):
        sum((k + 1) * bank[name][k].sum() for name in bank.names for k in range(2)).backward()
    assert torch.equal(bank.grad, torch.tensor([[2.0], [4.0]], dtype=torch.float64).expand(2, 14))
    bank.grad.zero_()
    assert not bank["b"].grad.any(), "the gradient of a parameter is a view, not a copy"


def test_a_slots_copy_does_not_follow_it():
    bank = SlotBank(2, SHAPES)
    copy = bank.slot(1)
    bank.flat.fill_(7.0)
    assert list(copy) == bank.names and all(not value.any() and not value.requires_grad for value in copy.values())

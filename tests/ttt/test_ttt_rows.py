"""Rows in any order and number, each with its own slot's weights, and gradients that stay in their slot."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers.ttt.bank import Rows, SlotBank

K, D, R, E = 5, 6, 3, 4
SHAPES = {"A": (D, R), "B": (R, E), "v": (E,), "table": (7, E)}
SLOTS = st.lists(st.integers(0, K - 1), min_size=1, max_size=9)


def filled_bank() -> SlotBank:
    bank = SlotBank(K, SHAPES, dtype=torch.float64)
    bank.flat.normal_(generator=torch.Generator().manual_seed(0))
    return bank


def weights(rows: Rows) -> list[torch.Tensor]:
    return [rows.weights(name) for name in SHAPES]


def by_hand(bank: SlotBank, slots: list[int], x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """All that Rows does, row by row, indexing the weights."""
    block = len(x) // len(slots)
    made = []
    for i in range(len(x)):
        A, B, v, table = (bank[name][slots[i // block]] for name in SHAPES)
        made.append((table[ids[i]] + 0.5 * x[i] @ A @ B) * v)
    return torch.stack(made)


def by_rows(rows: Rows, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    A, B, v, table = weights(rows)
    looked_up = rows.looked_up(ids, table).view(*ids.shape, E)
    return rows.scaled(rows.add_product(looked_up, x, A, B, scale=0.5), v)


@settings(max_examples=60, deadline=None)
@given(SLOTS, st.integers(1, 3), st.booleans())
def test_as_row_by_row(slots, block, everyone):
    """Values, and gradients of the weights and of what comes in."""
    slots = list(range(K)) if everyone else slots
    random = torch.Generator().manual_seed(1)
    x = torch.randn(block * len(slots), 2, D, generator=random, dtype=torch.float64)
    ids = torch.randint(0, 7, x.shape[:2], generator=random)
    found = []
    for make in (by_hand, by_rows):
        bank, own = filled_bank(), x.clone().requires_grad_()
        rows = Rows(bank, None if everyone else slots)
        made = by_hand(bank, slots, own, ids) if make is by_hand else by_rows(rows, own, ids)
        made.pow(2).sum().backward()
        found.append((made.detach(), own.grad, bank.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert len(Rows(filled_bank(), slots)) == len(slots)


@settings(max_examples=40, deadline=None)
@given(SLOTS, st.integers(0, K - 1))
def test_nan_stays_in_its_slot(slots, broken):
    """Also where the broken slot has no rows and stands between others that have."""
    x, outputs = torch.ones(len(slots), 1, D, dtype=torch.float64), []
    mine = [i for i, slot in enumerate(slots) if slot != broken]
    for poison in (False, True):
        bank, own = filled_bank(), x.clone().requires_grad_()
        if poison:
            bank.flat[broken] = torch.nan
        rows = Rows(bank, slots)
        made = rows.add_product(torch.zeros(len(slots), 1, E, dtype=torch.float64), own, *weights(rows)[:2])
        made[mine].sum().backward()
        others = [k for k in range(K) if k != broken]
        outputs.append((made.detach()[mine], own.grad[mine], bank.grad[others]))
    for sound, poisoned in zip(*outputs, strict=True):
        assert torch.equal(sound, poisoned) and sound.isfinite().all()


@torch.no_grad()
def test_in_place_where_nothing_is_differentiated():
    bank = filled_bank()
    for slots in ([0, 1, 2, 3, 4], [1, 2], [3, 1, 1]):
        rows, x = Rows(bank, slots), torch.ones(len(slots), 2, D, dtype=torch.float64)
        output = torch.zeros(len(slots), 2, E, dtype=torch.float64)
        made = rows.add_product(output, x, *weights(rows)[:2])
        assert (made.data_ptr() == output.data_ptr()) == (slots != [3, 1, 1])


def test_weights_are_gathered_only_where_most_slots_have_no_rows():
    bank = filled_bank()
    for slots, copied in (([0, 1, 2], False), ([4, 2, 3, 2], False), ([1, 3], False), ([0, 4], True), ([2], False)):
        inside = bank.flat.data_ptr() <= Rows(bank, slots).weights("A").data_ptr() < bank.flat[-1, -1:].data_ptr()
        assert inside == (not copied), slots


def test_rows_that_do_not_divide():
    rows = Rows(filled_bank(), [0, 1])
    for call in (
        lambda x: rows.add_product(x, x, *weights(rows)[:2]),
        lambda x: rows.scaled(x, weights(rows)[2]),
    ):
        with pytest.raises(ValueError, match=r"^3 rows for 2 slots: must be a multiple$"):
            call(torch.zeros(3, 1, D, dtype=torch.float64))


def test_no_rows():
    rows = Rows(filled_bank(), [])
    assert len(rows) == 0 and rows.weights("A").shape == (0, D, R)

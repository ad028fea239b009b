"""One optimizer over K slots is K optimizers of torch's."""

import pytest
import torch

from arc_helpers.ttt.bank import SlotBank
from arc_helpers.ttt.optim import MultiLoraAdamW

K, STEPS = 4, 30
SHAPES = {"a": (3, 5), "b": (7,)}
LR = [1e-1, 1e-2, 3e-2, 1e-3]
SPANS = [(0, 30), (5, 30), (0, 12), (9, 21)]  # first step and end of each slot
BROKEN = {(3, 0): torch.nan, (7, 2): torch.inf, (8, 2): -torch.inf}  # (step, slot): what its gradient holds


def gradient(step: int, k: int, dtype=torch.float64) -> torch.Tensor:
    """[22], of very different sizes, so that some steps are clipped and some are not."""
    rng = torch.Generator().manual_seed(1000 * k + step)
    grad = torch.randn(22, generator=rng, dtype=torch.float64) * 10.0 ** (step % 4 - 2)
    if (step, k) in BROKEN:
        grad[11] = BROKEN[step, k]
    return grad.to(dtype)


def start(dtype) -> torch.Tensor:
    return torch.randn(K, 22, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def stacked(dtype, slots=range(K), scale=None, **options) -> torch.Tensor:
    bank = SlotBank(len(slots), SHAPES, dtype=dtype)
    bank.flat.copy_(start(dtype)[list(slots)])
    optimizer = MultiLoraAdamW(bank, torch.tensor([LR[k] for k in slots]), **options)
    optimizer.lr = torch.tensor([LR[k] for k in slots], dtype=dtype)
    for step in range(STEPS):
        optimizer.zero_grad()
        for row, k in enumerate(slots):
            bank.grad[row] = gradient(step, k, dtype) * (1 if scale is None else scale[k])
        active = torch.tensor([SPANS[k][0] <= step < SPANS[k][1] for k in slots])
        moved = optimizer.step(active, scale if scale is None else scale[list(slots)])
        assert moved.tolist() == [bool(a) and (step, k) not in BROKEN for a, k in zip(active, slots, strict=True)]
    return bank.flat


def torchs(dtype, k: int, max_grad_norm, **options) -> torch.Tensor:
    """Slot k alone, with torch's AdamW and clip."""
    parameter = torch.nn.Parameter(start(dtype)[k].clone())
    optimizer = torch.optim.AdamW([parameter], lr=LR[k], **options)
    for step in range(*SPANS[k]):
        if (step, k) in BROKEN:
            continue
        parameter.grad = gradient(step, k, dtype)
        if max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], max_grad_norm)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
@pytest.mark.parametrize("options", [{"weight_decay": 0.0}, {"weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-6}])
def test_equals_k_of_torchs(dtype, atol, max_grad_norm, options):
    """Each slot with a learning rate, a first step, a last step and broken steps of its own."""
    ours = stacked(dtype, max_grad_norm=max_grad_norm, **options)
    for k in range(K):
        torch.testing.assert_close(ours[k], torchs(dtype, k, max_grad_norm, **options), atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_slot_does_not_know_its_neighbours(dtype):
    """To the last bit, whatever is beside it: also slots that are broken or have stopped."""
    together = stacked(dtype, weight_decay=0.01)
    for slots in ([1], [3, 1], [1, 2, 0]):
        assert torch.equal(stacked(dtype, slots, weight_decay=0.01)[slots.index(1)], together[1])


def test_an_inactive_slot_is_left_to_the_last_bit():
    """Moments and decay move a slot of torch's AdamW even where its gradient is zero."""
    bank = SlotBank(3, SHAPES)
    bank.flat.normal_(generator=torch.Generator().manual_seed(0))
    optimizer = MultiLoraAdamW(bank, 0.1, weight_decay=0.1)
    bank.grad.fill_(0.3)
    optimizer.step()
    before = [x.clone() for x in (bank.flat, optimizer.mean, optimizer.square, optimizer.steps)]
    bank.grad.fill_(0.3)
    bank.grad[2, 5] = torch.nan
    assert optimizer.step(torch.tensor([True, False, True])).tolist() == [True, False, False]
    for now, then in zip((bank.flat, optimizer.mean, optimizer.square, optimizer.steps), before, strict=True):
        assert torch.equal(now[1:], then[1:]) and not torch.equal(now[0], then[0])


def test_a_power_of_two_as_loss_scale_changes_no_bit():
    scale = torch.tensor([1024.0, 1.0, 0.5, 2.0**20])
    assert torch.equal(stacked(torch.float32, scale=scale), stacked(torch.float32))

"""The loss of a segment: every asked cell, and whether the answer as a whole is right."""

import torch
import torch.nn.functional as F
from torch import Tensor

from arc_helpers.trm.canvas import PAD
from arc_helpers.trm.model import Segment


def log_stablemax(logits: Tensor) -> Tensor:
    """Log-probabilities ∝ s(x), s(x) = x + 1 for x ≥ 0 and 1 / (1 − x) below (Prieto et al. 2025, "Grokking at
    the edge of numerical stability"). At least float32: published in float64, which is slow on GPUs."""
    x = logits if logits.dtype == torch.float64 else logits.float()
    s = torch.where(x < 0, 1 / (1 - x.clamp(max=0)), x.clamp(min=0) + 1)
    return torch.log(s / s.sum(-1, keepdim=True))


def cell_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Cross-entropy [B], a mean over the asked cells of each row. logits: [B, N, V]; labels: [B, N], PAD not asked."""
    if kind == "stablemax":
        logs = log_stablemax(logits)
    else:
        logs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
    asked = labels != PAD
    losses = -logs.gather(-1, labels[..., None])[..., 0]
    return (losses * asked).sum(1) / asked.sum(1).clamp(min=1)


def exactly_right(logits: Tensor, labels: Tensor) -> Tensor:
    """bool [B]: every asked cell is predicted right."""
    return exactly_right_tokens(logits.argmax(-1), labels)


def exactly_right_tokens(tokens: Tensor, labels: Tensor) -> Tensor:
    """bool [B] of predicted tokens [B, N]."""
    return ((tokens == labels) | (labels == PAD)).all(1)


def segment_loss(segment: Segment, labels: Tensor, kind: str) -> tuple[Tensor, dict[str, Tensor]]:
    """(loss, sums over the batch: cell_loss, halt_loss, exact, halt_right; and exact_rows, bool [B]).

    loss = mean over rows of the cell loss + ½ · binary cross-entropy of the halting logit against `exactly_right`.
    """
    exact = exactly_right(segment.logits.detach(), labels)
    cell = cell_loss(segment.logits, labels, kind)
    halt = F.binary_cross_entropy_with_logits(segment.halt.float(), exact.float(), reduction="none")
    sums = {
        "cell_loss": cell.detach().sum(),
        "halt_loss": halt.detach().sum(),
        "exact": exact.sum(),
        "exact_rows": exact,
        "halt_right": ((segment.halt.detach() > 0) == exact).sum(),
    }
    return cell.mean() + 0.5 * halt.mean(), sums

"""Proofs that the bridge carries what it should: gradients are those of the whole chain, and nothing else moves."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_helpers.lm import gridlm


def weights_hash(model: nn.Module) -> str:
    """sha256 of all parameters' and buffers' names, types and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def finite_difference_error(
    f: Callable[[Tensor], Tensor], x: Tensor, directions: int = 4, step: float = 1e-4, seed: int = 0
) -> float:
    """Largest relative difference between the gradient of f at x and differences of fourth order, along random lines.

    f: tensor → number, in float64. A gradient that is cut somewhere shows as an error near 1.
    """
    if x.dtype != torch.float64:
        raise ValueError(f"x: {x.dtype}; differences need float64")
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient
    generator, worst = torch.Generator().manual_seed(seed), 0.0
    for _ in range(directions):
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            at = {k: f(x + k * step * direction).item() for k in (-2, -1, 1, 2)}
        slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        found = (gradient * direction).sum().item()
        worst = max(worst, abs(found - slope) / max(abs(slope), abs(found), 1e-12))
    return worst


@contextmanager
def in_float64(model: nn.Module) -> Iterator[nn.Module]:
    """A language model in float64 throughout: norms and rotations too, which otherwise go through float32."""
    from transformers.models.llama import modeling_llama

    def norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)

    kept = gridlm.rotate, modeling_llama.LlamaRMSNorm.forward
    gridlm.rotate, modeling_llama.LlamaRMSNorm.forward = _rotate, norm
    try:
        yield model.double()
    finally:
        gridlm.rotate, modeling_llama.LlamaRMSNorm.forward = kept


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

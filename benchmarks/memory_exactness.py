"""The inner loop, the decoder and the meta-gradient of memory/ against independent computations, on the nano model.

Largest absolute differences of losses in nats (of gradients for batched_vs_vmap), in float64 with a norm that stays in
float64, as Qwen3's does not; the `_f32` fields are the model as it is used. `meta_gradient_fd` is relative: autograd
against central differences along random directions of all parameters, inner learning rates included.
The bound: at most 1e-6 each in float64; no leak and no effect on earlier tokens at all, 0.
"""

import json
import sys

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from arc_helpers.memory.decode import Stream
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.meta import forward_ttt_meta
from arc_helpers.memory.model import FAST, TTTConfig, TTTForCausalLM

BOUND = 1e-6
VOCABULARY, ROWS, LENGTH, LAYERS = 200, 4, 83, (1, 2)  # 82 targets: five inner steps and a ragged tail


def exact_norm(self: Qwen3RMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    """Qwen3's norm in the dtype of its input."""
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def build(layers: int, dtype: torch.dtype, **changes) -> TTTForCausalLM:
    """A random nano with so many learning blocks; large weights, so that nothing is lost in small numbers."""
    torch.manual_seed(0)
    config = TTTConfig.preset("nano", VOCABULARY, ttt_layers=layers, initializer_range=0.1, **changes)
    return TTTForCausalLM(config).to(dtype).eval()


def full_nll(model: TTTForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Losses of one ordinary Hugging Face forward."""
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)


def decoded_nll(model: TTTForCausalLM, ids: torch.Tensor) -> tuple[torch.Tensor, Stream]:
    """Losses of feeding one token at a time, learning on."""
    stream, losses = Stream(model, len(ids)), []
    for t in range(ids.shape[1] - 1):
        logits = stream.feed(ids[:, t : t + 1])
        losses.append(F.cross_entropy(logits, ids[:, t + 1], reduction="none"))
    stream.feed(ids[:, -1:])
    return torch.stack(losses, dim=1), stream


def largest(one: torch.Tensor, two: torch.Tensor) -> float:
    return (one - two).abs().max().item()


def forwards(dtype: torch.dtype) -> dict[str, float]:
    """What must be equal whatever the way it is computed."""
    found: dict[str, list[float]] = {}
    ids = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    for layers in LAYERS:
        model = build(layers, dtype)
        base, on = full_nll(model, ids), read(model, ids)
        decoded, stream = decoded_nll(model, ids)
        pairs = zip(stream.state.weights, on.state.weights, strict=True)
        found.setdefault("prefill_vs_full", []).append(largest(read(model, ids, learn=False).nll, base))
        found.setdefault("lr_zero_vs_base", []).append(largest(read(model, ids, lr_scale=0.0).nll, base))
        found.setdefault("decode_vs_prefill", []).append(largest(decoded, on.nll))
        found.setdefault("decode_weights", []).append(max(largest(w, v) for w, v in pairs))
        found.setdefault("batched_vs_vmap", []).append(against_vmap(model, ids))
        found.setdefault("batched_vs_loop", []).append(
            max(largest(read(model, ids[i : i + 1]).nll[0], on.nll[i]) for i in range(ROWS))
        )
        found.setdefault("learning_matters", []).append(-largest(on.nll, base))
    return {name: max(values) for name, values in found.items()}


def against_vmap(model: TTTForCausalLM, ids: torch.Tensor) -> float:
    """The first step's gradients, out of `read`, against vmap(grad(functional_call)) of the plain forward."""
    b, first = model.config.ttt_batch, model.model.first_ttt
    names = [f"model.layers.{first + i}.mlp_ttt.{t}" for i in range(model.config.ttt_layers) for t in FAST]
    fast = {name: model.get_parameter(name).detach() for name in names}

    def loss(weights, row):
        return F.cross_entropy(functional_call(model, weights, (row[None, :-1],)).logits[0], row[1:])

    expected = vmap(grad(loss), in_dims=(None, 0))(fast, ids[:, : b + 1])
    state = read(model, ids[:, : b + 1]).state
    steps = zip(names, state.weights, model.fast_weights(), model.inner_lrs(), strict=True)
    return max(largest((w0 - w) / lr, expected[name]) for name, w, w0, lr in steps)


def isolation() -> tuple[float, float]:
    """(effect of one sequence's text on the others, of a token on the losses before it); float32, learning on."""
    leak, backwards = 0.0, 0.0
    ids = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(2))
    for layers in LAYERS:
        model = build(layers, torch.float32)
        base = read(model, ids)
        for j in range(ROWS):
            changed = ids.clone()
            changed[j] = (changed[j] + 1) % VOCABULARY
            other, rest = read(model, changed), [i for i in range(ROWS) if i != j]
            pairs = [(base.nll, other.nll), *zip(base.state.weights, other.state.weights, strict=True)]
            leak = max(leak, *(largest(one[rest], two[rest]) for one, two in pairs))
        for t in range(1, LENGTH, 7):
            changed = ids.clone()
            changed[:, t] = (changed[:, t] + 1) % VOCABULARY
            before = slice(0, t - 1)
            if t > 1:
                backwards = max(backwards, largest(read(model, changed).nll[:, before], base.nll[:, before]))
    return leak, backwards


def meta_gradient() -> float:
    """Largest relative error over directions, with and without the clip, one and two learning blocks."""
    worst = 0.0
    ids = torch.randint(VOCABULARY, (2, 50), generator=torch.Generator().manual_seed(3))
    for layers in LAYERS:
        for clip in (None, 0.5):
            model = build(layers, torch.float64, inner_clip=clip)
            forward_ttt_meta(model, ids).loss.backward()
            for seed in range(3):
                worst = max(worst, _directional_error(model, ids, seed))
    return worst


def _directional_error(model: TTTForCausalLM, ids: torch.Tensor, seed: int, eps: float = 1e-5) -> float:
    generator = torch.Generator().manual_seed(seed)
    ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]
    slope = sum((p.grad * w).sum() for p, w in zip(model.parameters(), ways, strict=True)).item()

    def loss_at(amount: float) -> float:
        """The loss so many eps along the way; the parameters are put back."""
        kept = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for p, w in zip(model.parameters(), ways, strict=True):
                p.add_(amount * eps * w)
            loss = forward_ttt_meta(model, ids).loss.item()
            for p, k in zip(model.parameters(), kept, strict=True):
                p.copy_(k)
        return loss

    # Four points: with two, the third derivative is what one would measure. Smaller steps lose more to rounding.
    measured = (8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))) / (12 * eps)
    return abs(measured - slope) / abs(slope)


def main() -> None:
    torch.set_num_threads(1)
    result = {f"{name}_f32": value for name, value in forwards(torch.float32).items()}
    result["leak"], result["causality"] = isolation()
    Qwen3RMSNorm.forward = exact_norm
    exact = forwards(torch.float64) | {"meta_gradient_fd": meta_gradient()}
    for name, value in (exact | result).items():
        print(f"{name:<24}{abs(value):.2e}")
    passed = all(value <= BOUND for value in exact.values()) and result["leak"] == result["causality"] == 0
    shown = {name: float(f"{abs(value):.3g}") for name, value in (exact | result).items()}
    print(json.dumps({**shown, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

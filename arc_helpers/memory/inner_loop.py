"""The inner loop: a text is read b tokens at a time, and each time the fast weights take one step of SGD.

    l_t(W)  next-token loss, in nats
    W_i = W_{i−1} − η · clip( (1/b) Σ_{t in batch i} w_t · ∇ l_t(W_{i−1}) )        (TTT-E2E, eq. 5; w_t = 1)

Every sequence of a batch has its own copy of the fast weights, and one `torch.autograd.grad` through all copies gives
every sequence its own gradient, since no sequence's loss touches another's copy. The state is float32 or wider.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from arc_helpers.memory.model import TTTForCausalLM, WindowCache

SEGMENT = 1024  # most tokens whose attention is computed at once


@dataclass(frozen=True)
class FastState:
    """The fast weights of B sequences, and what became of them.

    weights: gate, up, down of each learning block, each with a leading B; updates, skipped: int64 [B], inner steps
    taken, and refused because a gradient was not finite (that sequence kept its last finite weights).
    """

    weights: tuple[Tensor, ...]
    updates: Tensor
    skipped: Tensor

    @classmethod
    def start(cls, model: TTTForCausalLM, batch: int) -> "FastState":
        """Every sequence at the trained weights, in the autograd graph."""
        zeros = torch.zeros(batch, dtype=torch.long, device=model.device)
        wide = [w.to(torch.promote_types(w.dtype, torch.float32)) for w in model.fast_weights()]
        return cls(tuple(w.expand(batch, *w.shape) for w in wide), zeros, zeros)

    def detach(self) -> "FastState":
        """The same numbers outside of any graph."""
        return replace(self, weights=tuple(w.detach() for w in self.weights))

    def moved(self, model: TTTForCausalLM) -> Tensor:
        """Norm of each sequence's way from the trained weights, float [B]."""
        ways = [(w - w0).flatten(1) for w, w0 in zip(self.weights, model.fast_weights(), strict=True)]
        return torch.cat(ways, dim=1).detach().norm(dim=1)


@dataclass(frozen=True)
class Reading:
    """What reading gives about tokens 1 … T − 1, each before it was learned from.

    nll [B, T − 1]: loss in nats; hit bool [B, T − 1]: it was the most likely token.
    """

    nll: Tensor
    hit: Tensor
    state: FastState


Scores = tuple[Tensor, Tensor]  # nll and hit of some tokens


def token_scores(model: TTTForCausalLM, final: Tensor, targets: Tensor) -> Scores:
    """nll (float32 or wider) and hit [B, n] of targets [B, n], from final hidden states [B, n, hidden]."""
    logits = model.lm_head(final)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    nll = F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)
    return nll, (logits.detach().argmax(dim=1) == targets.flatten()).view(targets.shape)


def inner_step(
    model: TTTForCausalLM,
    hidden: Tensor,
    targets: Tensor,
    learn: Tensor,
    state: FastState,
    cache: WindowCache,
    position: int,
    *,
    order: int = 0,
    lr_scale: float = 1.0,
) -> tuple[Scores, FastState]:
    """One batch of b tokens: their scores before the update, and the state after it.

    hidden [B, b, hidden]: from `prefix`; learn [B, b]: weight of each target in the inner loss, a row of zeros takes
    no step. order: 0 outside of any outer graph, 1 the steps' gradients are constants to it, 2 they are not.
    """
    with torch.enable_grad():
        weights = [w if w.requires_grad else w.detach().requires_grad_() for w in state.weights]
        nll, hit = token_scores(model, model.model.suffix(hidden, weights, cache, position), targets)
        loss = (nll * learn).sum() / learn.shape[1]
        gradients = torch.autograd.grad(loss, weights, create_graph=order == 2, retain_graph=order > 0)
    wanted = learn.any(dim=1)
    finite = sum(g.detach().sum(dim=(1, 2)) for g in gradients).isfinite()
    if not finite.all():  # rare, and choosing rows costs as much as the step itself
        gradients = [torch.where(_rows(finite, g), g, torch.zeros_like(g)) for g in gradients]
    with torch.set_grad_enabled(order > 0):
        factors = _step_sizes(model, gradients, lr_scale)
        moved = tuple(torch.addcmul(w, g, f) for w, g, f in zip(weights, gradients, factors, strict=True))
    state = FastState(moved, state.updates + (wanted & finite), state.skipped + (wanted & ~finite))
    return ((nll, hit), state) if order else ((nll.detach(), hit), state.detach())


def read(
    model: TTTForCausalLM,
    ids: Tensor,
    *,
    state: FastState | None = None,
    learn: Tensor | bool = True,
    valid: Tensor | None = None,
    order: int = 0,
    lr_scale: float = 1.0,
    checkpoint_batches: int = 0,
    ttt_batch: int | None = None,
) -> Reading:
    """Read ids [B, T], on any device, from an empty window and learn on the way; a document a row.

    state: fast weights to start from (None: the trained ones, in the graph). learn: whether to learn, or the weight
    [B, T] of each token as a target. valid [B, T] bool: padding at the end is False; a batch that is not full takes no
    step, as in decoding. order, lr_scale: as in `inner_step`. checkpoint_batches: inner steps whose graph is computed
    again in the backward pass instead of kept; 0 keeps all. Raises ValueError for a text of fewer than 2 tokens.
    """
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ValueError(f"ids of shape {tuple(ids.shape)}: must be [sequences, tokens] with at least 2 tokens")
    ids = ids.to(model.device)
    order = order if torch.is_grad_enabled() else 0  # under no_grad there is no outer graph to keep
    state = state or FastState.start(model, len(ids))
    state = state if order else state.detach()
    b = ttt_batch or model.config.ttt_batch
    targets, weight = ids[:, 1:], _learn_weights(ids, learn, valid, b)
    cache, found, segment = model.new_cache(), [], segment_size(model, b)
    for start in range(0, targets.shape[1], segment):
        part = slice(start, start + segment)
        with torch.set_grad_enabled(order > 0):
            hidden = model.model.prefix(ids[:, :-1][:, part], cache, start)
        step = _Steps(model, b, order, lr_scale)
        scores, state = step.run(hidden, targets[:, part], weight[:, part], state, cache, start, checkpoint_batches)
        found.append(scores)
    return Reading(*_join(found), state)


def segment_size(model: TTTForCausalLM, b: int) -> int:
    """Tokens whose attention is computed at once, a multiple of b; changes no number.

    The mask of a segment is dense, so far beyond the window most of it would be computed for nothing.
    """
    most = min(SEGMENT, 16 * (model.config.sliding_window or SEGMENT))
    return max(b, most // b * b)


@dataclass(frozen=True)
class _Steps:
    """All batches of one segment, in groups whose graph is kept or computed again."""

    model: TTTForCausalLM
    b: int
    order: int
    lr_scale: float

    def run(self, hidden, targets, learn, state, cache, position, group) -> tuple[Scores, FastState]:
        n = hidden.shape[1]
        size = group * self.b if group and self.order else n
        found = []
        for i in range(0, n, size):
            part = slice(i, i + size)
            arguments = (hidden[:, part], targets[:, part], learn[:, part], state, cache, position + i)
            scores, state = self._again(*arguments) if size < n else self._batches(*arguments)
            found.append(scores)
        return _join(found), state

    def _batches(self, hidden, targets, learn, state, cache, position) -> tuple[Scores, FastState]:
        found = []
        for i in range(0, hidden.shape[1], self.b):
            part = slice(i, i + self.b)
            here = (hidden[:, part], targets[:, part])
            if learn[:, part].any():
                options: dict[str, Any] = {"order": self.order, "lr_scale": self.lr_scale}
                scores, state = inner_step(self.model, *here, learn[:, part], state, cache, position + i, **options)
            else:
                with torch.set_grad_enabled(self.order > 0):
                    final = self.model.model.suffix(here[0], state.weights, cache, position + i)
                    scores = token_scores(self.model, final, here[1])
            found.append(scores)
        return _join(found), state

    def _again(self, hidden, targets, learn, state, cache, position) -> tuple[Scores, FastState]:
        """`_batches` as a pure function of tensors, which is what checkpointing needs."""
        own = {i: kv for i, kv in cache.layers.items() if i > self.model.model.first_ttt}
        n_weights = len(state.weights)

        def pure(hidden, *tensors):
            weights, kept = tensors[:n_weights], tensors[n_weights:]
            layers = {i: (kept[2 * j], kept[2 * j + 1]) for j, i in enumerate(own)}
            inside = WindowCache(cache.window, layers)
            begin = FastState(weights, torch.zeros_like(state.updates), torch.zeros_like(state.skipped))
            scores, end = self._batches(hidden, targets, learn, begin, inside, position)
            names = sorted(inside.layers)
            return scores, end.updates, end.skipped, names, *end.weights, *(t for i in names for t in inside.layers[i])

        flat = [*state.weights, *(t for kv in own.values() for t in kv)]
        scores, updates, skipped, names, *rest = checkpoint(pure, hidden, *flat, use_reentrant=False)
        kept = rest[n_weights:]
        cache.layers.update({i: (kept[2 * j], kept[2 * j + 1]) for j, i in enumerate(names)})
        return scores, FastState(tuple(rest[:n_weights]), state.updates + updates, state.skipped + skipped)


def _join(found: Sequence[Scores]) -> Scores:
    return torch.cat([nll for nll, _ in found], dim=1), torch.cat([hit for _, hit in found], dim=1)


def _learn_weights(ids: Tensor, learn: Tensor | bool, valid: Tensor | None, b: int) -> Tensor:
    """Weight [B, T − 1] of each target in the inner loss; 0 throughout a batch that is not full."""
    if isinstance(learn, bool):
        learn = torch.full(ids.shape, float(learn), device=ids.device)
    weight = learn[:, 1:].to(ids.device, torch.float32)
    full = torch.ones_like(weight, dtype=torch.bool) if valid is None else valid[:, 1:].to(ids.device, copy=True)
    n = full.shape[1]
    whole = n // b * b
    full[:, whole:] = False
    full[:, :whole] = full[:, :whole].view(len(ids), -1, b).all(dim=2).repeat_interleave(b, dim=1)
    return weight * full


def _step_sizes(model: TTTForCausalLM, gradients: Sequence[Tensor], lr_scale: float) -> list[Tensor]:
    """What each gradient is multiplied by: minus its learning rate, times what clips a sequence's gradient.

    The norm that is clipped is that of all tensors of a sequence together, as in the paper.
    """
    sizes = [-lr_scale * lr for lr in model.inner_lrs()]
    clip = model.config.inner_clip
    if clip is None:
        return sizes
    square = sum(g.flatten(1).pow(2).sum(dim=1) for g in gradients)
    factor = clip / square.clamp_min(clip**2).sqrt()  # [B]
    return [size * _rows(factor, g) for size, g in zip(sizes, gradients, strict=True)]


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """[B] shaped to scale or choose rows of a tensor with a leading B."""
    return values.view(-1, *[1] * (like.ndim - 1))

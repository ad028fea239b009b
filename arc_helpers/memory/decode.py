"""Token by token: a KV cache of one window, and an inner step each time b targets are known.

A stream gives the same numbers however its tokens are cut into calls: all at once, or one by one as they are made.
The step of a batch is taken when the target of its last token arrives, just before that token is read, from a forward
over the batch with the weights and the cache it began with. Its price is that of a prefill of the same tokens.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from arc_helpers.memory.inner_loop import FastState, inner_step, segment_size
from arc_helpers.memory.model import TTTForCausalLM, WindowCache
from arc_helpers.runs import load_tensors, save_tensors

LEARN_FROM = ("all", "user", "none")


class Stream:
    """B texts being read or written in step; `state` holds what they have learned.

    memory: fast weights to begin with (None: the trained ones). lr_scale: factor of the inner learning rates.
    """

    def __init__(
        self, model: TTTForCausalLM, batch: int = 1, *, memory: FastState | None = None, lr_scale: float = 1.0
    ):
        self.model, self.lr_scale = model, lr_scale
        self.state = (memory or FastState.start(model, batch)).detach()
        self.cache, self.position = model.new_cache(), 0
        self._begin_batch()

    @torch.no_grad()
    def feed(self, ids: Tensor, learn: bool | Tensor = True) -> Tensor:
        """Read ids [B, n ≥ 1]; returns logits [B, vocabulary] of the token that follows.

        learn: whether these tokens are learned from as targets, or a weight a token [B, n].
        """
        if ids.ndim != 2 or not ids.shape[1]:
            raise ValueError(f"ids of shape {tuple(ids.shape)}: must be [sequences, tokens] with at least 1 token")
        weight = learn if isinstance(learn, Tensor) else torch.full(ids.shape, float(learn), device=ids.device)
        size = segment_size(self.model, self.model.config.ttt_batch)
        for start in range(0, ids.shape[1], size):
            part = slice(start, start + size)
            final = self._segment(ids[:, part], weight[:, part].float())
        return self.model.lm_head(final)

    def _segment(self, ids: Tensor, weight: Tensor) -> Tensor:
        hidden = self.model.model.prefix(ids, self.cache, self.position)
        b, n, i = self.model.config.ttt_batch, ids.shape[1], 0
        final = hidden[:, -1]
        while i < n:
            if self._ids.shape[1] == b:
                self._learn(ids[:, i : i + 1], weight[:, i : i + 1])
            count = min(b - self._ids.shape[1], n - i)
            part = slice(i, i + count)
            self._ids = torch.cat([self._ids, ids[:, part]], dim=1)
            self._weight = torch.cat([self._weight, weight[:, part]], dim=1)
            self._hidden.append(hidden[:, part])
            # A batch that is complete here is only needed for its step, which runs it again; but later blocks
            # that learn must put their keys into the cache, and the last token's successor is asked for.
            final = self.model.model.suffix(hidden[:, part], self.state.weights, self.cache, self.position)[:, -1]
            self.position, i = self.position + count, i + count
        return final

    @property
    def waiting(self) -> tuple[list[int], list[float]]:
        """(ids of the first text since its last inner step, weights of those among them that wait to be learned from).

        The first of the ids has been learned from already, as what follows the step's last token, or follows nothing.
        """
        return self._ids[0].tolist(), self._weight[0, 1:].tolist()

    def _learn(self, following: Tensor, weight: Tensor) -> None:
        """The inner step of a full batch, whose last target has just become known."""
        targets = torch.cat([self._ids[:, 1:], following], dim=1)
        learn = torch.cat([self._weight[:, 1:], weight], dim=1)
        if learn.any() and self.lr_scale:
            start = self.position - targets.shape[1]
            hidden, again = torch.cat(self._hidden, dim=1), WindowCache(self.cache.window, self._snapshot)
            arguments = (hidden, targets, learn, self.state, again, start)
            _, self.state = inner_step(self.model, *arguments, lr_scale=self.lr_scale)
        self._begin_batch()

    def _begin_batch(self) -> None:
        batch, device = len(self.state.updates), self.model.device
        self._ids = torch.zeros(batch, 0, dtype=torch.long, device=device)
        self._weight = torch.zeros(batch, 0, device=device)
        self._hidden: list[Tensor] = []
        first = self.model.model.first_ttt
        self._snapshot = {i: kv for i, kv in self.cache.layers.items() if i > first}


@dataclass(frozen=True)
class Generated:
    """What one prompt became. ids: new tokens, the stop token included; updates, skipped: as in FastState; note: a
    line where nothing could be learned from the prompt, else empty."""

    ids: list[int]
    finished: bool
    updates: int
    skipped: int
    note: str


def decode(
    stream: Stream,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    *,
    stop: int | None = None,
    learn_from: str = "all",
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[list[int | None]]:
    """Continue prompts in one batch, a new token a text at a time; None where a text is in its prompt or finished.

    All texts begin at the stream's position, and a prompt that is longer than the shortest is read while the others
    already write: nothing is padded, so a text in a batch is what it is alone. The stop token is read, too.
    learn_from: all, user (the prompts), none. temperature 0: the most likely token. Raises ValueError, one line.
    """
    if learn_from not in LEARN_FROM:
        raise ValueError(f"learn_from = {learn_from}: must be one of {', '.join(LEARN_FROM)}")
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {i}: is empty; it needs at least one token")
    device, lengths = stream.model.device, torch.tensor([len(p) for p in prompts])
    shortest = int(lengths.min())
    head = torch.tensor([list(p[:shortest]) for p in prompts], device=device)
    logits = stream.feed(head, learn_from != "none")
    made, done = torch.zeros(len(prompts), dtype=torch.long), torch.zeros(len(prompts), dtype=torch.bool)
    position = shortest
    while not (done | (made >= max_new)).all():
        chosen = choose_token(logits, temperature, generator).cpu()
        reading, over = position < lengths, done | (made >= max_new)
        tokens = [p[position] if r else int(c) for p, r, c in zip(prompts, reading, chosen, strict=True)]
        writes = ~reading & ~over
        made += writes
        if stop is not None:
            done |= writes & (torch.tensor(tokens) == stop)
        weight = (reading & (learn_from != "none")) | (writes & (learn_from == "all"))
        yield [token if w else None for token, w in zip(tokens, writes, strict=True)]
        logits = stream.feed(torch.tensor(tokens, device=device)[:, None], weight[:, None].float().to(device))
        position += 1


def generate(
    model: TTTForCausalLM,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    *,
    memory: FastState | None = None,
    stop: int | None = None,
    **options,
) -> list[Generated]:
    """`decode` from a fresh window, collected. memory: fast weights to begin with, one row a prompt."""
    if not prompts:
        return []
    stream = Stream(model, len(prompts), memory=memory)
    new: list[list[int]] = [[] for _ in prompts]
    for tokens in decode(stream, prompts, max_new, stop=stop, **options):
        for own, token in zip(new, tokens, strict=True):
            own += [] if token is None else [token]
    counts = zip(stream.state.updates.tolist(), stream.state.skipped.tolist(), strict=True)
    b = model.config.ttt_batch
    return [
        Generated(ids, stop is not None and ids[-1:] == [stop], updates, skipped, prompt_note(len(prompt), b))
        for ids, prompt, (updates, skipped) in zip(new, prompts, counts, strict=True)
    ]


def prompt_note(tokens: int, b: int) -> str:
    """A line where a prompt is too short to be learned from, else empty."""
    return f"the prompt of {tokens} tokens does not fill a batch of {b}: no inner step yet" if tokens <= b else ""


def choose_token(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """The next token [B] by logits [B, vocabulary]; temperature 0: the most likely one."""
    if not temperature:
        return logits.argmax(dim=1)
    return torch.multinomial((logits.float() / temperature).softmax(dim=1), 1, generator=generator)[:, 0]


def fingerprint(model: TTTForCausalLM) -> str:
    """A checksum of all weights, adapters included: fast weights mean something to their own model only."""
    crc = 0
    for name, parameter in sorted(model.named_parameters()):
        crc = zlib.crc32(
            parameter.detach().cpu().contiguous().view(torch.uint8).numpy(), zlib.crc32(name.encode(), crc)
        )
    return f"{crc:08x}"


def save_memory(path: str | Path, model: TTTForCausalLM, state: FastState, history: Sequence[dict] = ()) -> None:
    """Write what the first sequence learned as one safetensors file: how far its fast weights have moved.

    history: messages to go on from, kept in the file's metadata.
    """
    moved = {f"fast.{i}": w[0] - w0 for i, (w, w0) in enumerate(zip(state.weights, model.fast_weights(), strict=True))}
    counts = {"updates": int(state.updates[0]), "skipped": int(state.skipped[0])}
    save_tensors(path, moved, {"model": fingerprint(model), "history": list(history), **counts})


def load_memory(path: str | Path, model: TTTForCausalLM) -> tuple[FastState, list[dict]]:
    """(state of one sequence, history) that save_memory wrote. Raises ValueError where it is another model's."""
    tensors, meta = load_tensors(path)
    if meta.get("model") != fingerprint(model):
        found = f"of the model {meta['model']}" if "model" in meta else "no memory file"
        raise ValueError(f"{path}: is {found}, this one is {fingerprint(model)}; a memory belongs to its own model")
    state = FastState.start(model, 1).detach()
    moved = tuple(w + tensors[f"fast.{i}"].to(w.device) for i, w in enumerate(state.weights))
    counts = {name: torch.full_like(state.updates, meta[name]) for name in ("updates", "skipped")}
    return replace(state, weights=moved, **counts), meta["history"]

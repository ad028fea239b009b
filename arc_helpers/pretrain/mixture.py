"""The pretraining mixture: where the demonstrations come from, and how they become token sequences.

Document i is a function of (seed, i) alone: a resumed run needs no more than a counter to go on with exactly
the documents that a straight run would have seen.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Pair, Task, Transform, color_permutation
from arc_helpers.lm.prompt import TaskTooLong, encode_pair, encode_pairs
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.pretrain.batches import Batch, Document, packed_rows, padded_groups
from arc_helpers.pretrain.enlarge import random_enlargement

PACKED_BATCHES = 8  # batches that are packed together: the more, the fewer tokens stay empty
STRIDE = 2**20  # documents that a packed pool may draw; pool p begins at p · STRIDE

#: draws the pairs of one document: the demonstrations, then the query
Sampler = Callable[[np.random.Generator], list[Pair]]


def fits(pair: Pair, max_side: int) -> bool:
    """Whether both grids are at most `max_side` wide and high."""
    return max(pair.input.shape + pair.output.shape) <= max_side


def task_sampler(pools: Mapping[str, Sequence[Pair]], max_demos: int = 4) -> Sampler:
    """Draw a task evenly, then 2…max_demos of its pairs as demonstrations and one more as the query.

    `pools` maps a task id to all its known pairs (ARC's test pairs of *training* tasks among them).
    """
    usable = [pairs for pairs in pools.values() if len(pairs) >= 2]
    if not usable:
        raise ValueError("task_sampler: no task has two pairs that fit; raise max_side or add data")

    def sample(rng: np.random.Generator) -> list[Pair]:
        pairs = usable[rng.integers(len(usable))]
        n = min(int(rng.integers(2, max_demos + 1)) + 1, len(pairs))
        return [pairs[i] for i in rng.permutation(len(pairs))[:n]]

    return sample


def task_pools(tasks: Sequence[Task], max_side: int) -> dict[str, list[Pair]]:
    """All labelled pairs of each task, test pairs included: for tasks that are never scored."""
    pools = {t.id: [p for p in (*t.train, *t.test) if p.output is not None and fits(p, max_side)] for t in tasks}
    return {task_id: pairs for task_id, pairs in pools.items() if len(pairs) >= 2}


def random_transform(rng: np.random.Generator, keep_zero: float = 0.8) -> Transform:
    """A random symmetry of the square and a random relabelling of the colours."""
    colors = color_permutation(rng, keep_zero=bool(rng.random() < keep_zero))
    return Transform(k=int(rng.integers(4)), flip=bool(rng.integers(2)), colors=colors)


@dataclass(frozen=True)
class Mixture:
    """Weighted sources of documents, augmented on the fly."""

    sources: Mapping[str, tuple[float, Sampler]]  # name -> (weight, sampler)
    prompt_form: PromptForm
    max_len: int = 1024  # longest document, in tokens
    seed: int = 0
    max_side: int = 30  # largest grid side, in cells; samplers keep to it, and so does enlarging
    pair_share: float = 0.0  # share of documents that are one pair alone (`encode_pair`)
    enlarge_share: float = 0.0  # share of documents that are upscaled and get a margin (lm/enlarge.py)

    @property
    def settings(self) -> dict[str, object]:
        """What the documents depend on, flat, by name."""
        own = ("max_side", "max_len", "pair_share", "enlarge_share", "seed")
        shares = {f"share of {name}": round(weight, 6) for name, (weight, _) in self.sources.items()}
        return {name: getattr(self, name) for name in own} | shares

    def document(self, index: int) -> Document:
        """The source's name and the token sequence of document `index`; its loss counts every output but the first,
        or the one output of a pair that is alone."""
        rng = np.random.default_rng([self.seed, index])
        names = list(self.sources)
        weights = np.array([self.sources[n][0] for n in names], dtype=float)
        while True:
            name = names[rng.choice(len(names), p=weights / weights.sum())]
            transform = random_transform(rng)
            pairs = self.sources[name][1](rng)
            if self.enlarge_share and rng.random() < self.enlarge_share:
                enlargement = random_enlargement(rng, pairs, self.max_side)
                pairs = [enlargement.pair(p) for p in pairs]
            pairs = [transform.pair(p) for p in pairs]
            alone = self.pair_share and rng.random() < self.pair_share
            try:
                if alone:
                    return name, encode_pair(pairs[-1], self.prompt_form, max_len=self.max_len)
                encoded = encode_pairs(pairs[:-1], pairs[-1], self.prompt_form, max_len=self.max_len, all_outputs=True)
            except TaskTooLong:
                continue
            if encoded.dropped < len(pairs) - 1:  # a query that lost its demonstrations says nothing about its rule
                return name, encoded

    def batches(
        self,
        batch_tokens: int,
        cursor: tuple[int, int] = (0, 0),
        pool: int = 256,
        row_tokens: int | None = None,
        workers: int = 0,
    ) -> Iterator[Batch]:
        """Batches of at most `batch_tokens` tokens, without end, from `cursor` (pool, batch in it) on.

        row_tokens: None pads, one document a row; documents are drawn in pools of `pool` and sorted by length inside
        one, so that little is spent on padding. A number packs documents into rows of so many tokens; all batches
        then have one shape. workers: processes that draw ahead; they change nothing but the time it takes.
        ValueError where a row is shorter than the longest document, or longer than a batch.
        """
        if row_tokens is not None and not self.max_len <= row_tokens <= batch_tokens:
            raise ValueError(
                f"row_tokens = {row_tokens}: must be from max_len ({self.max_len}) to batch_tokens ({batch_tokens})"
            )
        first, skip = cursor
        for drawn in _in_order(lambda number: self._pool(number, batch_tokens, pool, row_tokens), first, workers):
            yield from drawn[skip:]
            skip = 0

    def _pool(self, number: int, batch_tokens: int, pool: int, row_tokens: int | None) -> list[Batch]:
        """All batches of one pool."""
        rng, pad = np.random.default_rng([self.seed, number, 1]), self.prompt_form.pad
        if row_tokens is None:
            groups = padded_groups([self.document(i) for i in range(number * pool, (number + 1) * pool)], batch_tokens)
            order = rng.permutation(len(groups))
            return [Batch.of(groups[i], pad, following=(number, n + 1)) for n, i in enumerate(order)]
        height = batch_tokens // row_tokens
        documents, missing = [], PACKED_BATCHES * height * row_tokens
        while missing > 0:
            documents.append(self.document(number * STRIDE + len(documents)))
            missing -= len(documents[-1][1])
        rows = packed_rows(documents, row_tokens)
        order = rng.permutation(len(rows))  # the few rows too many are left out by chance, not for being short
        batches = [[rows[i] for i in order[n * height : (n + 1) * height]] for n in range(PACKED_BATCHES)]
        return [Batch.pack(b, row_tokens, pad, following=(number, n + 1)) for n, b in enumerate(batches)]


def _in_order(draw: Callable[[int], list[Batch]], first: int, workers: int) -> Iterator[list[Batch]]:
    """draw(first), draw(first + 1), … without end; with workers several at a time, and still in order."""
    if not workers:
        yield from map(draw, itertools.count(first))
        return
    from torch.utils.data import DataLoader, Dataset

    class Pools(Dataset):
        def __getitem__(self, number: int) -> list[Batch]:
            return draw(number)

    # forked: samplers are closures, which cannot be pickled, and workers never touch a GPU
    yield from DataLoader(
        Pools(),
        batch_size=None,
        sampler=itertools.count(first),
        num_workers=workers,
        multiprocessing_context="fork",
        collate_fn=lambda drawn: drawn,
    )

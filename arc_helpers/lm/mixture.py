"""The pretraining mixture: where the demonstrations come from, and how they become token sequences.

Document i is a function of (seed, i) alone: a resumed run needs no more than a counter to go on with exactly
the documents that a straight run would have seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Pair, Task, Transform, color_permutation
from arc_helpers.lm.prompt import IGNORE, Encoded, TaskTooLong, encode_pairs
from arc_helpers.lm.vocabulary import GridVocabulary

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
    vocabulary: GridVocabulary
    max_len: int = 1024
    seed: int = 0

    def document(self, index: int) -> tuple[str, Encoded]:
        """The source's name and the token sequence of document `index`; its loss counts every output but the first."""
        rng = np.random.default_rng([self.seed, index])
        names = list(self.sources)
        weights = np.array([self.sources[n][0] for n in names], dtype=float)
        while True:
            name = names[rng.choice(len(names), p=weights / weights.sum())]
            transform = random_transform(rng)
            pairs = [transform.pair(p) for p in self.sources[name][1](rng)]
            try:
                encoded = encode_pairs(pairs[:-1], pairs[-1], self.vocabulary, max_len=self.max_len, all_outputs=True)
            except TaskTooLong:
                continue
            if encoded.dropped < len(pairs) - 1:  # a query alone says nothing about its rule
                return name, encoded

    def batches(self, batch_tokens: int, cursor: tuple[int, int] = (0, 0), pool: int = 256) -> Iterator["Batch"]:
        """Batches of at most `batch_tokens` padded tokens, without end, from `cursor` (pool, batch in it) on.

        Documents are drawn in pools and sorted by length inside a pool, so that little is spent on padding.
        """
        first, skip = cursor
        while True:
            documents = [self.document(i) for i in range(first * pool, (first + 1) * pool)]
            groups = _groups(documents, batch_tokens)
            order = np.random.default_rng([self.seed, first, 1]).permutation(len(groups))
            for n in range(skip, len(order)):
                yield Batch.of(groups[order[n]], self.vocabulary.pad, following=(first, n + 1))
            first, skip = first + 1, 0


def _groups(documents: list[tuple[str, Encoded]], batch_tokens: int) -> list[list[tuple[str, Encoded]]]:
    groups: list[list] = []
    for document in sorted(documents, key=lambda d: -len(d[1])):
        if not groups or (len(groups[-1]) + 1) * len(groups[-1][0][1]) > batch_tokens:
            groups.append([])
        groups[-1].append(document)
    return groups


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences: under a causal mask no real token sees the padding, so no mask is needed."""

    input_ids: np.ndarray  # int64 [B, T]
    labels: np.ndarray  # int64 [B, T]
    names: list[str]  # source of each row
    following: tuple[int, int] = (0, 0)  # the cursor behind this batch

    @classmethod
    def of(cls, documents: list[tuple[str, Encoded]], pad: int, **kwargs) -> "Batch":
        width = max(len(e) for _, e in documents)
        ids = np.full((len(documents), width), pad, dtype=np.int64)
        labels = np.full((len(documents), width), IGNORE, dtype=np.int64)
        for row, (_, encoded) in enumerate(documents):
            ids[row, : len(encoded)] = encoded.input_ids
            labels[row, : len(encoded)] = encoded.labels
        return cls(ids, labels, [name for name, _ in documents], **kwargs)

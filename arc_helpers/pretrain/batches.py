"""Documents as rows of tokens: one document a row and padded, or many packed into rows of one length."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.lm.prompt import IGNORE, Encoded

Document = tuple[str, Encoded]  # the source's name and the tokens


@dataclass(frozen=True)
class Batch:
    """Right-padded rows: under a causal mask no real token sees the padding, so padding needs no mask.

    Where rows are packed, documents need one (`attention.packed_mask`). The first token of a document is never
    counted in the loss, so no document is asked to predict the next one.
    """

    input_ids: np.ndarray  # int64 [B, T]
    labels: np.ndarray  # int64 [B, T]
    positions: np.ndarray  # int64 [B, T]: each token's place in its document, from 0
    names: list[str]  # source of each document
    following: tuple[int, int] = (0, 0)  # the cursor behind this batch
    lengths: tuple[int, ...] = ()  # tokens of each document
    packed: bool = False

    @classmethod
    def of(cls, documents: Sequence[Document], pad: int, **kwargs) -> "Batch":
        """One document a row, as wide as the longest."""
        return cls._rows([[d] for d in documents], max(len(e) for _, e in documents), pad, **kwargs)

    @classmethod
    def pack(cls, rows: Sequence[Sequence[Document]], width: int, pad: int, **kwargs) -> "Batch":
        """Several documents a row, one behind the other; every row is `width` tokens."""
        return cls._rows(rows, width, pad, packed=True, **kwargs)

    @classmethod
    def _rows(cls, rows, width: int, pad: int, **kwargs) -> "Batch":
        ids = np.full((len(rows), width), pad, dtype=np.int64)
        labels = np.full((len(rows), width), IGNORE, dtype=np.int64)
        positions = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            at = 0
            for _, encoded in row:
                ids[i, at : at + len(encoded)] = encoded.input_ids
                labels[i, at : at + len(encoded)] = encoded.labels
                positions[i, at:] = np.arange(width - at)  # padding goes on as part of the last document
                at += len(encoded)
        documents = [document for row in rows for document in row]
        names, lengths = [name for name, _ in documents], tuple(len(encoded) for _, encoded in documents)
        return cls(ids, labels, positions, names, lengths=lengths, **kwargs)

    @property
    def tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(self.lengths)

    @property
    def counted(self) -> int:
        """How many tokens count in the loss."""
        return int((self.labels[:, 1:] != IGNORE).sum())


def padded_groups(documents: Sequence[Document], batch_tokens: int) -> list[list[Document]]:
    """Documents of like length in groups of at most `batch_tokens` padded tokens (or of one document)."""
    groups: list[list[Document]] = []
    for document in sorted(documents, key=lambda d: -len(d[1])):
        if not groups or (len(groups[-1]) + 1) * len(groups[-1][0][1]) > batch_tokens:
            groups.append([])
        groups[-1].append(document)
    return groups


def packed_rows(documents: Sequence[Document], width: int) -> list[list[Document]]:
    """Each document whole in one row of `width` tokens: best fit, longest first. No document may be longer."""
    rows: list[list[Document]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for document in sorted(documents, key=lambda d: -len(d[1])):
        at = bisect.bisect_left(room, (len(document[1]), 0))
        left, row = room.pop(at) if at < len(room) else (width, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(document)
        bisect.insort(room, (left - len(document[1]), row))
    return rows

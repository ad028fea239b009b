"""Training examples of an ARC data set: everything placed on canvases once, augmented when it is drawn."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from arc_helpers.arc import DIHEDRAL, MAX_SIDE, Pair, Transform
from arc_helpers.trm.batch import Batch
from arc_helpers.trm.canvas import FIRST_COLOR, PAD, Canvas, choose_canvas, place
from arc_helpers.trm.data import ArcDataset

AUGMENTS = ("symmetries", "colors", "listed")


class ArcSource:
    """Draws augmented pairs of all tasks alike; see `train.Source`.

    layout: of the canvases. augment: "symmetries" (one of 8), "colors" (of half of the examples the colours, too) or
    "listed" (the data set's own augmentations: what identifiers exist for). translate: share of the examples that are
    moved to a random place of their canvas. max_cells: pairs that need a larger canvas are left out and listed in
    `too_large`; nothing is cropped.
    Each pair lies in memory in all 8 symmetries, as uint8; recolouring and moving are look-ups.
    """

    def __init__(
        self,
        dataset: ArcDataset,
        layout: str = "tight",
        augment: str = "symmetries",
        translate: float = 0.0,
        max_cells: int = MAX_SIDE**2,
    ):
        if augment not in AUGMENTS:
            raise ValueError(f"augment = {augment!r}: must be one of {', '.join(AUGMENTS)}")
        self.dataset, self.augment, self.translate = dataset, augment, translate
        self.too_large: list[str] = []
        self.pairs = self.tokens = self.real_tokens = 0  # tokens: of all canvases once; of the grids on them
        tables: dict[int, list[tuple]] = {}
        for number, (task_id, pairs) in enumerate(dataset.pairs.items()):
            for i, pair in enumerate(pairs):
                canvas, rows = _eight(layout, pairs, pair)
                if canvas.cells > max_cells:
                    self.too_large.append(f"{task_id}: pair {i}: needs {canvas.cells} cells, more than {max_cells}")
                    continue
                tables.setdefault(canvas.cells, []).append((number, rows))
                self.pairs += 1
                self.tokens += canvas.cells
                self.real_tokens += int(np.prod(np.maximum(pair.input.shape, pair.output.shape)))
        self._tables = {cells: _table(rows) for cells, rows in sorted(tables.items())}
        total = sum(cells * len(table["task"]) for cells, table in self._tables.items())
        self.shares = {cells: cells * len(table["task"]) / total for cells, table in self._tables.items()}
        self.options = {
            **{"layout": layout, "augment": augment, "translate": translate, "max_cells": max_cells},
            **{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(dataset.options).items()},
            "fingerprint": dataset.fingerprint(),
        }
        self._transforms = _listed(dataset) if augment == "listed" else None

    def steps_of(self, epochs: float, prefix_len: int, batch_tokens: int) -> int:
        """Steps whose rows have as many positions as all pairs, `epochs` times.

        As the published recipe counts: one augmentation of each pair, and a row counts in every segment that it takes.
        """
        return max(1, round(epochs * (self.tokens + self.pairs * prefix_len) / batch_tokens))

    def draw(self, cells: int, n: int, generator: torch.Generator) -> Batch:
        """n labelled examples on canvases of so many cells."""
        table = self._tables[cells]
        pair = torch.randint(len(table["task"]), (n,), generator=generator)
        task = table["task"][pair]  # [n], from 0
        identifier, symmetry, colors = self._choose(task, generator)
        row = 8 * pair + symmetry
        questions, labels, width = (table[name][row] for name in ("cells", "labels", "width"))
        if self.translate:
            questions, labels = self._moved(questions, labels, width, table["extent"][row], generator)
        return Batch.of(
            recolored(questions, colors),
            width.long(),
            recolored(labels, colors),
            identifier=identifier,
            task=task + 1,
            symmetry=symmetry,
            colors=colors,
        )

    def _choose(self, task: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(identifier [n], symmetry [n], colors [n, 10]) of one augmentation each."""
        n = len(task)
        if self._transforms is not None:
            first, count, row, symmetry, colors = self._transforms
            chosen = first[task] + (torch.rand(n, generator=generator) * count[task]).long()
            return row[chosen], symmetry[chosen], colors[chosen]
        symmetry = torch.randint(8, (n,), generator=generator)
        colors = torch.arange(10).repeat(n, 1)
        if self.augment == "colors":
            mixed = 1 + torch.rand(n, 9, generator=generator).argsort(1)
            recolor = torch.rand(n, generator=generator) < 0.5
            colors[:, 1:] = torch.where(recolor[:, None], mixed, colors[:, 1:])
        return torch.zeros(n, dtype=torch.int64), symmetry, colors

    def _moved(self, cells: Tensor, labels: Tensor, width: Tensor, extent: Tensor, generator: torch.Generator):
        """Question and answer moved by the same random offset; what is left and above becomes PAD."""
        n, size = cells.shape
        room = torch.stack([size // width - extent[:, 0], width - extent[:, 1]], dim=1).clamp(min=0)  # [n, 2]
        offset = (torch.rand(n, 2, generator=generator) * (room + 1)).long()
        offset *= (torch.rand(n, 1, generator=generator) < self.translate).long()
        index = torch.arange(size)
        row = index // width[:, None] - offset[:, :1]
        column = index % width[:, None] - offset[:, 1:]
        origin = (row * width[:, None] + column).clamp(min=0)
        inside = (row >= 0) & (column >= 0)
        return tuple(torch.where(inside, sheet.gather(1, origin), PAD) for sheet in (cells, labels))


def recolored(tokens: Tensor, colors: Tensor) -> Tensor:
    """tokens [n, N] with colour c replaced by colors[:, c] (int64 [n, 10])."""
    fixed = torch.arange(FIRST_COLOR).expand(len(tokens), -1)
    return torch.cat([fixed, colors + FIRST_COLOR], dim=1).gather(1, tokens.long())


def _eight(layout: str, pairs: Sequence[Pair], pair: Pair) -> tuple[Canvas, list[tuple]]:
    """The canvas of a pair and what lies on it in each symmetry: (question, answer, width, extent)."""
    rows = []
    for view in DIHEDRAL:
        canvas = choose_canvas(layout, pairs, pair.input, view)
        seen = view.pair(pair)
        extent = np.maximum(seen.input.shape, seen.output.shape)
        rows.append((place(seen.input, canvas), place(seen.output, canvas), canvas.width, extent))
    return canvas, rows


def _table(entries: list[tuple]) -> dict[str, Tensor]:
    rows = [row for _, eight in entries for row in eight]
    questions, answers, widths, extents = zip(*rows, strict=True)
    return {
        "task": torch.tensor([number for number, _ in entries]),
        "cells": torch.from_numpy(np.stack(questions)),
        "labels": torch.from_numpy(np.stack(answers)),
        "width": torch.tensor(widths),
        "extent": torch.from_numpy(np.stack(extents)),
    }


def _listed(dataset: ArcDataset) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(first [tasks], count [tasks], row of the table, symmetry [identifiers], colors [identifiers, 10])."""
    counts = torch.tensor([len(dataset.transforms[task_id]) for task_id in dataset.pairs])
    transforms = [Transform.from_name(name) for task_id in dataset.pairs for name in dataset.transforms[task_id]]
    symmetry = torch.tensor([symmetry_number(transform) for transform in transforms])
    colors = torch.tensor([transform.colors for transform in transforms])
    rows = torch.tensor([row for task_id in dataset.pairs for row in dataset.rows_of(task_id)])
    return counts.cumsum(0) - counts, counts, rows, symmetry, colors


def symmetry_number(transform: Transform) -> int:
    """The index in DIHEDRAL of a transform's turning and mirroring."""
    return DIHEDRAL.index(Transform(transform.k, transform.flip))

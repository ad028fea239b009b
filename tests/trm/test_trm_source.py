"""What is drawn is an augmented pair of the task it says, wherever it lies on its canvas."""

import numpy as np
import pytest
import torch

from arc_helpers.arc import DIHEDRAL, Pair, Transform
from arc_helpers.trm.canvas import Canvas, read
from arc_helpers.trm.data import ArcDataset, DatasetOptions
from arc_helpers.trm.source import ArcSource, recolored


def moved_back(tokens: np.ndarray, other: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Both canvases with what is left and above of everything on them cut off."""
    rows = len(tokens) // width
    sheets = [np.asarray(t[: rows * width]).reshape(rows, width) for t in (tokens, other)]
    some = (sheets[0] > 1) | (sheets[1] > 1)
    top, left = some.any(1).argmax(), some.any(0).argmax()
    return tuple(sheet[top:, left:] for sheet in sheets)


@pytest.mark.parametrize("layout", ["tight", "buckets"])
@pytest.mark.parametrize("augment", ["symmetries", "colors", "listed"])
@pytest.mark.parametrize("translate", [0.0, 1.0])
def test_every_example_is_an_augmented_pair_of_its_task(dataset, layout, augment, translate):
    source = ArcSource(dataset, layout, augment, translate)
    assert sum(source.shares.values()) == pytest.approx(1)
    generator = torch.Generator().manual_seed(0)
    for cells in source.shares:
        batch, offsets = source.draw(cells, 60, generator), set()
        for i in range(60):
            task_id = dataset.task_ids[batch.task[i] - 1]
            spot = DIHEDRAL[batch.symmetry[i]]
            view = Transform(spot.k, spot.flip, tuple(batch.colors[i].tolist()))
            if augment == "listed":
                assert dataset.identifiers[batch.identifier[i] - 1] == f"{task_id}|||{view.name}"
            width = int(batch.width[i])
            question, answer = moved_back(batch.cells[i].numpy(), batch.labels[i].numpy(), width)
            offsets.add((width, Canvas(width, cells).height - len(question)))
            grids = [read(sheet.ravel(), sheet.shape[1]) for sheet in (question, answer)]
            assert view.inverse.pair(Pair(*grids)) in dataset.pairs[task_id]
        if translate:  # rows are moved, each a different way
            assert len(offsets) > len({width for width, _ in offsets})
        else:
            assert not any(offset for _, offset in offsets)


def test_every_task_and_symmetry_is_drawn(dataset):
    source = ArcSource(dataset, "buckets")
    batch = source.draw(100, 500, torch.Generator().manual_seed(0))
    assert set(batch.task.tolist()) == {1, 2, 3, 4} and set(batch.symmetry.tolist()) == set(range(8))
    assert (batch.colors == torch.arange(10)).all() and not batch.identifier.any()


def test_colors_change_in_half_of_the_examples(dataset):
    batch = ArcSource(dataset, "buckets", "colors").draw(100, 400, torch.Generator().manual_seed(0))
    assert not batch.colors[:, 0].any() and 150 < (batch.colors != torch.arange(10)).any(1).sum() < 250
    assert (batch.colors.sort(1).values == torch.arange(10)).all()


def test_recoloring_leaves_pad_and_eos():
    colors = torch.tensor([[0, 2, 1, *range(3, 10)]])
    assert recolored(torch.tensor([[0, 1, 2, 3, 4, 11]]), colors).tolist() == [[0, 1, 2, 4, 3, 11]]


def test_the_order_of_draws_is_the_generators(dataset):
    one, other = (ArcSource(dataset, "tight", "colors", 0.5) for _ in range(2))
    cells = next(iter(one.shares))
    first, again = (s.draw(cells, 8, torch.Generator().manual_seed(5)) for s in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(first.tensors().values(), again.tensors().values(), strict=True))


def test_what_needs_a_larger_canvas_is_listed(dataset):
    source = ArcSource(dataset, "tight", max_cells=9)
    assert source.too_large == [] and source.pairs == 10
    options = DatasetOptions("made", ("evaluation",), "evaluation", 0, 0)
    pairs = {"a": [Pair([[1]], [[1, 2]]), Pair([[1]], [[1] * 12])], "b": [Pair([[1]], [[1]])]}
    source = ArcSource(ArcDataset(options, pairs, [], {"a": ["r0f0-c0123456789"]}), max_cells=9)
    assert source.too_large == [f"a: pair {i}: needs 12 cells, more than 9" for i in (0, 1)]
    assert list(source.shares) == [9] and source.pairs == 1
    with pytest.raises(ValueError, match="augment = 'flips': must be one of symmetries, colors, listed"):
        ArcSource(ArcDataset(options, pairs, [], {}), augment="flips")

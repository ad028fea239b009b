"""A grid comes back from every canvas that holds it; what does not fit is refused, never cropped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import DIHEDRAL, Pair, load_tasks
from arc_helpers.trm.canvas import BUCKETS, EOS, LENGTHS, PAD, Canvas, CanvasError, choose_canvas, place, read

sides = st.integers(1, 30)


@st.composite
def grids(draw, height=sides, width=sides):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, 10, (draw(height), draw(width)), dtype=np.int8)


@given(grids(), st.data())
def test_a_grid_comes_back(grid, data):
    height, width = grid.shape
    canvas_width = data.draw(st.integers(width, 30))
    cells = data.draw(st.integers(height * canvas_width, 930))
    tokens = place(grid, Canvas(canvas_width, cells))
    assert tokens.dtype == np.uint8 and len(tokens) == cells
    assert np.array_equal(read(tokens, canvas_width), grid)


def test_a_canvas_by_hand():
    tokens = place(np.array([[0, 9], [3, 0]]), Canvas(4, 15))  # the last row of the canvas is cut
    sheet = [[2, 11, EOS, PAD], [5, 2, EOS, PAD], [EOS, EOS, PAD, PAD], [PAD, PAD, PAD]]
    assert tokens.tolist() == [token for row in sheet for token in row]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 40))
def test_read_finds_the_largest_rectangle(seed, width, cells):
    """Against a search over all rectangles; whatever a model says, no error."""
    tokens = np.random.default_rng(seed).choice([0, 1, 2, 7, 11], cells, p=[0.1, 0.1, 0.3, 0.3, 0.2])
    rows = cells // width
    sheet = tokens[: rows * width].reshape(rows, width)
    areas = {
        (h, w): h * w for h in range(1, min(rows, 30) + 1) for w in range(1, width + 1) if (sheet[:h, :w] >= 2).all()
    }
    found = read(tokens, width)
    if not areas:
        assert found is None
    else:
        assert found.size == max(areas.values()) and np.array_equal(
            found, sheet[: found.shape[0], : found.shape[1]] - 2
        )


@pytest.mark.parametrize("canvas", [Canvas(3, 9), Canvas(4, 11), Canvas(30, 60)])
def test_what_does_not_fit_is_refused(canvas):
    with pytest.raises(CanvasError, match=rf"a 3×4 grid does not fit a canvas of {canvas.height}×{canvas.width}"):
        place(np.zeros((3, 4), dtype=np.int8), canvas)


def test_canvases_of_real_tasks_hold_what_they_must():
    """Of the evaluation set: every demonstration in each layout, and nearly every answer, which the rule never saw."""
    lost = answers = 0
    for task in load_tasks("arcagi1/evaluation")[::4]:
        for layout in ("official", "buckets", "tight"):
            for pair in task.train:
                canvas = choose_canvas(layout, task.train, pair.input)
                assert max(pair.input.shape[0], pair.output.shape[0]) <= canvas.height <= 30 or layout == "tight"
                place(pair.input, canvas)
                place(pair.output, canvas)
        for pair in task.test:
            canvas = choose_canvas("tight", task.train, pair.input)
            answers += 1
            try:
                place(pair.output, canvas)
            except CanvasError:
                lost += 1
    assert answers > 100 and lost / answers < 0.05


def test_the_canvas_of_a_question_does_not_depend_on_its_answer():
    shown = [Pair([[1, 2]], [[1, 2, 1, 2]]), Pair([[3]], [[3, 3]])]  # twice as wide
    assert choose_canvas("tight", shown, np.zeros((1, 3))) == Canvas(6, 9)
    assert choose_canvas("tight", [Pair([[1]], [[1, 2, 3]]), Pair([[1, 2]], [[4]])], np.zeros((2, 2))) == Canvas(3, 9)
    assert choose_canvas("buckets", shown, np.zeros((1, 11))) == Canvas(30, 900)
    assert choose_canvas("official", shown, np.zeros((1, 1))) == Canvas(30, 900)
    with pytest.raises(CanvasError, match="layout = 'square': must be one of official, buckets, tight"):
        choose_canvas("square", shown, np.zeros((1, 1)))


@given(grids(), st.sampled_from(DIHEDRAL), st.sampled_from(["tight", "buckets", "official"]))
def test_a_view_of_a_question_has_as_many_cells(grid, view, layout):
    shown = [Pair(grid, grid[:1])]
    plain, turned = (choose_canvas(layout, shown, grid, v) for v in (DIHEDRAL[0], view))
    assert plain.cells == turned.cells
    place(view.grid(grid), turned)
    assert plain.cells in {*LENGTHS, *(side**2 for side in BUCKETS)}

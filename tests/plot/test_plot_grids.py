"""Pictures of grids are read back: which values, which colours, which titles, which cells are outlined."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from arc_helpers.arc import ARC_COLORS, DIHEDRAL, GridError, Pair, Task, Transform
from arc_helpers.plot import (
    Picture,
    describe_transform,
    draw_grid,
    plot_before_after,
    plot_gallery,
    plot_pair,
    plot_prediction,
    plot_round_trip,
    plot_task,
    plot_transforms,
)
from arc_helpers.plot.cells import ink_on


def titles(picture: Picture) -> list[str]:
    return [ax.get_title() for ax in picture.axes]


def drawn(ax) -> list | None:
    """The grid that an axes shows, None for a question mark."""
    return ax.images[0].get_array().tolist() if ax.images else None


def outlined(ax) -> list[tuple[int, int]]:
    boxes = [patch for patch in ax.patches if patch.get_gid() == "wrong"]
    return [(round(box.get_y() + 0.4), round(box.get_x() + 0.4)) for box in boxes]


def one_axes(grid, **options):
    picture = Picture(figsize=(2, 2))
    ax = picture.add_subplot()
    draw_grid(ax, grid, **options)
    return ax


def test_each_value_has_its_arc_colour_whatever_else_is_in_the_grid():
    for values in (range(10), [3], [0, 9], [5, 5]):
        ax = one_axes([list(values)])
        image = ax.images[0]
        shown = [to_hex(image.cmap(image.norm(value))).upper() for value in values]
        assert shown == [ARC_COLORS[value].upper() for value in values]


def test_pixels_have_the_arc_colours():
    picture = plot_gallery([("", [list(range(10))])], scale=1)
    box = picture.axes[0].get_window_extent()
    pixels = pixels_of(picture)
    row = int(pixels.shape[0] - (box.y0 + box.y1) / 2)
    for value, color in enumerate(ARC_COLORS):
        column = int(box.x0 + (value + 0.5) * box.width / 10)
        assert to_hex(pixels[row, column, :3] / 255).upper() == color.upper()


def pixels_of(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.to_png())))


def test_a_grid_has_its_size_as_title_borders_and_no_ticks():
    ax = one_axes([[1, 2, 3], [4, 5, 6]])
    assert ax.get_title() == "2×3"
    assert not ax.axison
    assert [len(lines.get_segments()) for lines in ax.collections] == [3, 4]
    assert one_axes([[1]], title="name").get_title() == "name · 1×1"


def test_digits_are_written_in_an_ink_that_can_be_read():
    ax = one_axes([[0, 4], [9, 8]], digits=True)
    assert [text.get_text() for text in ax.texts] == ["0", "4", "9", "8"]
    assert [text.get_color() for text in ax.texts] == ["#ffffff", "#000000", "#ffffff", "#000000"]
    assert {ink_on(color) for color in ARC_COLORS} == {"#000000", "#ffffff"}
    assert one_axes([[1]]).texts[:] == []


def test_wrong_cells_are_outlined_and_a_mask_of_another_shape_is_refused():
    ax = one_axes([[1, 2, 3], [4, 5, 6]], wrong=[[True, False, False], [False, False, True]])
    assert outlined(ax) == [(0, 0), (1, 2)]
    with pytest.raises(ValueError, match=r"mask is \(1, 2\), the grid is \(1, 3\)"):
        one_axes([[1, 2, 3]], wrong=[[True, False]])


def test_an_outline_is_seen_on_every_colour():
    grid = [list(range(10))]
    plain, marked = (pixels_of(draw(grid, wrong)) for wrong in (None, np.ones((1, 10), dtype=bool)))
    assert plain.shape == marked.shape
    for cell in range(10):
        left, right = (round(x * plain.shape[1] / 10) for x in (cell, cell + 1))
        # As a colour-blind reader sees it: the difference in lightness alone.
        change = np.abs(plain[:, left:right, :3].mean(-1) - marked[:, left:right, :3].mean(-1))
        assert (change > 80).mean() > 0.05, f"colour {cell}"


def draw(grid, wrong) -> Picture:
    picture = Picture(figsize=(5, 0.5))
    draw_grid(picture.add_axes((0, 0, 1, 1)), grid, wrong=wrong)
    picture.axes[0].set_title("")
    return picture


def test_what_is_not_a_grid_is_refused():
    with pytest.raises(GridError):
        one_axes([[10]])


def test_plot_task_shows_input_over_output_and_tests_last(task):
    picture = plot_task(task)
    inputs, outputs = (
        [pair.input.tolist() for pair in task.train + task.test],
        [pair.output.tolist() for pair in task.train + task.test],
    )
    assert [drawn(ax) for ax in picture.axes] == inputs + outputs
    assert titles(picture)[:4] == ["train 0 · 2×2", "train 1 · 1×3", "test 0 · 1×3", "test 1 · 2×2"]
    assert [text.get_text() for text in picture.texts] == ["little", "input", "output"]


def test_plot_task_has_a_question_mark_for_an_unknown_output(task):
    axes = plot_task(task.without_answers()).axes
    assert [drawn(ax) for ax in axes[-2:]] == [None, None]
    assert [ax.texts[0].get_text() for ax in axes[-2:]] == ["?", "?"]
    assert drawn(axes[5]) == [[0], [3], [3]]


def test_a_task_without_demonstrations_is_drawn(task):
    assert len(plot_task(Task("bare", (), task.test)).axes) == 4


def test_a_wide_task_is_cut_into_bands_that_a_page_holds():
    pair = Pair(np.ones((30, 30), dtype=int), np.ones((30, 30), dtype=int))
    picture = plot_task(Task("wide", (pair,) * 7, (pair,)))
    assert len(picture.axes) == 16
    assert picture.get_size_inches()[0] < 14
    assert [text.get_text() for text in picture.texts].count("input") == 2


@pytest.mark.parametrize("side", [1, 3, 10, 30])
def test_grids_of_every_size_are_readable_and_nothing_overlaps(side):
    pair = Pair(np.zeros((side, side), dtype=int), [[1]])
    picture = plot_task(Task("size", (pair,) * 5, (pair,)))
    picture.draw_without_rendering()
    page = picture.bbox
    boxes = []
    for ax in picture.axes:
        box, title = ax.get_window_extent(), ax.title.get_window_extent()
        assert box.width / ax.get_images()[0].get_array().shape[1] >= 9, "a cell is at least 9 pixels"
        assert page.x0 <= title.x0 and title.x1 <= page.x1 and title.y1 <= page.y1, "no title is clipped"
        boxes += [box, title]
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


def test_plot_pair_shows_both_grids():
    picture = plot_pair(Pair([[1]], [[2, 3]]))
    assert [drawn(ax) for ax in picture.axes] == [[[1]], [[2, 3]]]
    assert titles(picture) == ["input · 1×1", "→ output · 1×2"]


def test_plot_gallery_shows_all_and_refuses_nothing():
    picture = plot_gallery([(f"g{i}", [[i]]) for i in range(10)])
    assert titles(picture) == [f"g{i} · 1×1" for i in range(10)]
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_gallery([])


def test_plot_transforms_draws_what_each_transform_gives():
    grid = np.array([[1, 2], [3, 0]])
    picture = plot_transforms(grid, DIHEDRAL)
    assert [drawn(ax) for ax in picture.axes] == [t.grid(grid).tolist() for t in DIHEDRAL]
    assert titles(picture)[0] == "as it is · 2×2"


def test_a_transform_is_described_in_short_words():
    colors = (0, 5, 2, 3, 4, 1, 6, 7, 8, 9)
    assert describe_transform(Transform()) == "as it is"
    assert describe_transform(Transform(k=1, flip=True)) == "flip, rot 90"
    assert describe_transform(Transform(k=3, colors=colors)) == "rot 270\n1→5 5→1"
    assert describe_transform(Transform(k=3, colors=colors), present=[0, 5]) == "rot 270\n5→1"
    assert describe_transform(Transform(colors=(0, 2, 3, 4, 5, 6, 1, 7, 8, 9))) == "colours\n1→2 2→3 3→4 4→5 …"


def test_the_round_trip_ends_at_the_original(task):
    pair = task.train[1]
    transform = Transform(k=1, flip=True, colors=(0, 5, 2, 9, 4, 1, 6, 7, 8, 3))
    original, moved, back = plot_round_trip(pair, transform).axes[:3]
    assert drawn(moved) == transform.grid(pair.input).tolist() != pair.input.tolist()
    assert drawn(back) == drawn(original) == pair.input.tolist()
    assert back.get_title() == "inverse · 1×3\n✓ the original"
    assert len(plot_round_trip(Pair([[1]]), transform).axes) == 3


def test_plot_prediction_marks_solved_wrong_cells_and_wrong_size(task):
    attempts = [([[9, 0, 4]], [[9, 1, 1]]), ([[0]], [[8, 7], [6, 0]])]
    picture = plot_prediction(task, attempts, task.answers())
    assert titles(picture) == [
        "test input · 1×3",
        "attempt 1 · 1×3\n✓ solved",
        "attempt 2 · 1×3\n✗ 2 cells wrong",
        "truth · 1×3",
        "test input · 2×2",
        "attempt 1 · 1×1\n✗ wrong size 1×1",
        "attempt 2 · 2×2\n✗ 1 cell wrong",
        "truth · 2×2",
    ]
    assert [outlined(ax) for ax in picture.axes] == [[], [], [(0, 1), (0, 2)], [], [], [], [(1, 1)], []]
    solved, wrong = picture.axes[1].title.get_color(), picture.axes[2].title.get_color()
    assert (solved, wrong) == ("#1a7f37", "#cf222e")
    assert drawn(picture.axes[6]) == [[8, 7], [6, 0]]


def test_plot_prediction_without_a_truth_judges_nothing(task):
    attempts = [([[9, 0, 4]], None), ([[0]], [[8, 7], [6, 0]])]
    picture = plot_prediction(task.without_answers(), attempts)
    assert titles(picture)[:3] == ["test input · 1×3", "attempt 1 · 1×3", "attempt 2"]
    assert len(picture.axes) == 6
    assert not any(outlined(ax) for ax in picture.axes)


def test_plot_prediction_wants_attempts_for_every_test_input(task):
    with pytest.raises(ValueError, match="attempts: 1 given, but little has 2 test inputs"):
        plot_prediction(task, [([[1]], [[1]])])
    with pytest.raises(ValueError, match="truth: 1 given"):
        plot_prediction(task, [([[1]], [[1]])] * 2, [[[1]]])


def test_before_and_after_stand_below_the_demonstrations():
    task = Task("t", (Pair([[1]], [[2]]), Pair([[3]], [[4]])), (Pair([[5]], [[6]]),))
    picture = plot_before_after(task, [[[[0]], [[1]]]], [[[[0]], [[6]]]], [[[6]]])
    grids = [drawn(ax) for ax in picture.axes]
    assert grids == [[[1]], [[3]], [[2]], [[4]], [[5]], [[0]], [[6]]]  # the right one of two attempts, or the first
    *_, question, before, after = titles(picture)
    assert question.startswith("test input") and before.startswith("before") and "✗ 1 cell wrong" in before
    assert after.startswith("after") and "✓ solved" in after and outlined(picture.axes[-2]) == [(0, 0)]
    with pytest.raises(ValueError):
        plot_before_after(task, [], [[[[6]]]], [[[6]]])

import numpy as np
import pytest
from arc_strategies import QUICK, grids
from hypothesis import given

from arc_helpers.arc import GridError, as_grid, compare_grids, grid_to_string, string_to_grid

SIZES = "allowed are 1×1 to 30×30"
CELLS = "allowed are the integers 0 to 9"
BAD_GRIDS = {
    "ragged": ([[1, 2], [3]], "row 1 has 1 cells, row 0 has 2; rows must be equal"),
    "ten": ([[1, 2], [3, 10]], f"row 1, column 1: value 10; {CELLS}"),
    "negative": ([[-1]], f"row 0, column 0: value -1; {CELLS}"),
    "fraction": ([[0, 1.5]], f"row 0, column 1: value 1.5; {CELLS}"),
    "whole float": ([[0, 1.0]], f"row 0, column 1: value 1.0; {CELLS}"),
    "string": ([["3"]], f"row 0, column 0: value '3'; {CELLS}"),
    "bool": ([[0, 1], [1, True]], f"row 1, column 1: value True; {CELLS}"),
    "null": ([[None]], f"row 0, column 0: value None; {CELLS}"),
    "huge": ([[2**70]], f"cells are of type object; {CELLS}"),
    "nested": ([[[1]]], f"row 0, column 0: value [1]; {CELLS}"),
    "empty": ([], f"the grid is empty; {SIZES}"),
    "empty row": ([[]], f"the grid is empty; {SIZES}"),
    "31x31": ([[0] * 31] * 31, f"the grid is 31×31; {SIZES}"),
    "1x31": ([[0] * 31], f"the grid is 1×31; {SIZES}"),
    "not a grid": ("12", "expected a list of rows, got '12'"),
    "nothing": (None, "expected a list of rows, got None"),
    "flat": ([1, 2], "row 0: expected a list of cells, got 1"),
    "float array": (np.zeros((2, 2)), f"cells are of type float64; {CELLS}"),
    "bool array": (np.zeros((2, 2), bool), f"cells are of type bool; {CELLS}"),
    "flat array": (np.zeros(2, int), "expected 2 dimensions (rows, columns), got 1"),
    "big value in array": (np.array([[1, 200]]), f"row 0, column 1: value 200; {CELLS}"),
}


@pytest.mark.parametrize("value, message", BAD_GRIDS.values(), ids=BAD_GRIDS)
def test_bad_grids_are_refused_in_one_line(value, message):
    with pytest.raises(GridError) as error:
        as_grid(value, "here")
    assert str(error.value) == f"here: {message}"


def test_long_junk_makes_a_short_message():
    with pytest.raises(GridError) as error:
        as_grid([["x" * 10_000 + "\n"]])
    assert len(str(error.value)) < 150 and "\n" not in str(error.value)


@QUICK
@given(grids(30))
def test_a_grid_is_a_read_only_int8_copy(rows):
    for value in (rows, tuple(map(tuple, rows)), np.array(rows), [np.array(row) for row in rows]):
        grid = as_grid(value)
        assert grid.dtype == np.int8 and grid.flags.c_contiguous and grid.tolist() == rows
    with pytest.raises(ValueError, match="read-only"):
        grid[0, 0] = 1


def test_a_grid_does_not_follow_the_array_it_came_from():
    array = np.zeros((2, 2), np.int8)
    grid = as_grid(array)
    array[0, 0] = 5
    assert grid[0, 0] == 0


@QUICK
@given(grids(30))
def test_strings_round_trip(rows):
    text = grid_to_string(rows)
    assert string_to_grid(text).tolist() == rows and grid_to_string(string_to_grid(text)) == text


def test_the_string_form():
    assert grid_to_string([[1, 2], [3, 4], [5, 6]]) == "12\n34\n56"


@pytest.mark.parametrize("text", ["", "\n", "12\n", "\n12", "12\n3", "1 2", "1a", "²", "٣", "12\r\n34", "-1", "0" * 31])
def test_other_strings_are_refused(text):
    with pytest.raises(GridError, match=r"^text: "):
        string_to_grid(text)
    with pytest.raises(GridError, match=r"^text: expected a string, got None"):
        string_to_grid(None)


def test_compare_counts_wrong_cells():
    diff = compare_grids([[1, 2], [3, 4]], [[1, 2], [3, 5]])
    assert diff.same_shape and diff.n_wrong == 1 and diff.cell_accuracy == 0.75 and not diff.correct
    assert diff.wrong.tolist() == [[False, False], [False, True]]


def test_compare_with_another_shape_is_all_wrong():
    diff = compare_grids([[1]], [[1, 1, 1]])
    assert not diff.same_shape and diff.wrong.shape == (1, 3) and diff.n_wrong == 3 and diff.cell_accuracy == 0.0


@QUICK
@given(grids(30))
def test_a_grid_equals_itself(rows):
    assert compare_grids(rows, rows).correct and compare_grids(rows, rows).cell_accuracy == 1.0

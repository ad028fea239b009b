"""Puzzles have one solution, and no solution is both trained on and tested, however its digits are called."""

from itertools import permutations

import numpy as np
import pytest
import torch

from arc_helpers.trm.sudoku import SudokuSource, canonical, is_unique, make_puzzle, make_sudoku, solutions


def follows_the_rules(grid: np.ndarray) -> bool:
    boxes = [grid[r : r + 2, c : c + 3].ravel() for r in (0, 2, 4) for c in (0, 3)]
    return all(set(line.tolist()) == set(range(1, 7)) for line in [*grid, *grid.T, *boxes])


def brute_force(grid: np.ndarray, row: int = 0) -> int:
    """How many solutions, by trying every order of the digits row after row: nothing of the solver's ideas."""
    if row == 6:
        return int(follows_the_rules(grid))
    found = 0
    for order in permutations(range(1, 7)):
        line = np.array(order)
        given = grid[row] > 0
        if (line[given] != grid[row][given]).any() or any(set(line[[c]]) & set(grid[:row, c]) for c in range(6)):
            continue
        if row % 2 and any(set(line[c : c + 3]) & set(grid[row - 1, c : c + 3]) for c in (0, 3)):
            continue
        tried = grid.copy()
        tried[row] = line
        found += brute_force(tried, row + 1)
    return found


@pytest.fixture(scope="module")
def puzzles():
    return make_sudoku(40, 20, clues=14, seed=1)


def test_every_puzzle_has_exactly_the_solution_given(puzzles):
    for pair in puzzles.train + puzzles.test:
        assert (pair.input > 0).sum() == 14 and follows_the_rules(pair.output)
        assert ((pair.input == 0) | (pair.input == pair.output)).all()
        assert [pair.output.ravel().tolist()] == list(solutions(pair.input.ravel().tolist()))
    assert brute_force(np.array(puzzles.test[0].input)) == 1


def test_uniqueness_is_noticed(puzzles):
    cells = puzzles.test[0].output.ravel().tolist()
    assert is_unique(cells)
    emptied = [0] * 36
    assert not is_unique(emptied)
    cells[0] = cells[1]  # breaks a row
    assert not is_unique(cells)


def test_no_solution_is_shared(puzzles):
    tested = {canonical(p.output) for p in puzzles.test}
    assert len(tested) == 20 and not tested & {canonical(p.output) for p in puzzles.train}
    renamed = np.array([0, 3, 1, 2, 6, 5, 4], dtype=np.int8)[puzzles.test[0].output]
    assert canonical(renamed) == canonical(puzzles.test[0].output) != canonical(puzzles.test[1].output)


def test_no_augmented_example_is_a_tested_one(puzzles):
    """All solutions but a few are declared tested: what is drawn is never among them, and stays a valid puzzle."""
    source = SudokuSource(puzzles)
    drawn = source.draw(36, 200, torch.Generator().manual_seed(0))
    tested = {canonical(p.output) for p in puzzles.test}
    for cells, labels in zip(drawn.cells.numpy() - 2, drawn.labels.numpy() - 2, strict=True):
        solution = labels.reshape(6, 6)
        assert follows_the_rules(solution) and canonical(solution.astype(np.int8)) not in tested
        assert ((cells == 0) | (cells == labels)).all() and (cells > 0).sum() == 14
    assert len({canonical(s.reshape(6, 6).astype(np.int8)) for s in drawn.labels.numpy() - 2}) > 100
    assert (drawn.task == 1).all() and source.seen == 200


def test_the_guard_of_the_source_works_when_it_must():
    puzzles = make_sudoku(1, 1, clues=16, seed=3)
    pair = puzzles.train[0]
    orbit = SudokuSource(puzzles)
    seen = {canonical(g.reshape(6, 6).astype(np.int8)) for g in orbit.draw(36, 300, _generator()).labels.numpy() - 2}
    forbidden = SudokuSource(puzzles)
    forbidden._tested = seen - {canonical(pair.output)}  # nearly everything that can be drawn
    again = {
        canonical(g.reshape(6, 6).astype(np.int8)) for g in forbidden.draw(36, 20, _generator()).labels.numpy() - 2
    }
    assert again and not again & forbidden._tested


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_too_few_clues_are_refused():
    with pytest.raises(ValueError, match="clues = 7: must be 8"):
        make_puzzle(np.random.default_rng(0), clues=7)

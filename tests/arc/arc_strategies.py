"""Hypothesis strategies for grids, tasks, transforms and submissions, small enough to be quick."""

from hypothesis import settings
from hypothesis import strategies as st

from arc_helpers.arc import Pair, Task, Transform

# No deadline: a busy machine is not a bug.
QUICK = settings(max_examples=40, deadline=None)
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


def sides(largest: int = 6) -> st.SearchStrategy[int]:
    # Mostly small, but the allowed extreme turns up, too.
    return st.integers(1, largest) | st.just(30) if largest == 30 else st.integers(1, largest)


@st.composite
def grids(draw, largest: int = 6) -> list[list[int]]:
    """A list of rows; its cells come from 1 to 10 colours."""
    height, width = draw(sides(largest)), draw(sides(largest))
    cells = st.sampled_from(draw(st.lists(st.integers(0, 9), min_size=1, unique=True)))
    rows = st.lists(st.lists(cells, min_size=width, max_size=width), min_size=height, max_size=height)
    return draw(rows)


@st.composite
def tasks(draw, least_train: int = 1, most_train: int = 4) -> Task:
    pair = st.builds(Pair, grids(), grids())
    train = draw(st.lists(pair, min_size=least_train, max_size=most_train))
    test = draw(st.lists(pair | st.builds(Pair, grids()), min_size=1, max_size=2))
    return Task(draw(IDS), tuple(train), tuple(test))


@st.composite
def transforms(draw, n_train: int | None = None) -> Transform:
    """Any transform; with an order for `n_train` demonstrations if that is given."""
    order = None if n_train is None else tuple(draw(st.permutations(range(n_train))))
    colors = tuple(draw(st.permutations(range(10))))
    return Transform(draw(st.integers(0, 3)), draw(st.booleans()), colors, order)


@st.composite
def submissions(draw) -> dict:
    entry = st.fixed_dictionaries({"attempt_1": grids(4), "attempt_2": grids(4)})
    return draw(st.dictionaries(IDS, st.lists(entry, min_size=1, max_size=2), min_size=1, max_size=3))

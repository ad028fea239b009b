"""Explorers: augmentations, candidates, tokens and the segments of a recursion, by slider.

Each wraps a plotting function of this package; where there is no front end it returns that function's picture.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from arc_helpers.arc import Task, Transform, color_permutation
from arc_helpers.plot.candidates import Answer, plot_candidates
from arc_helpers.plot.controls import Checkbox, Dropdown, IntSlider, SelectionSlider
from arc_helpers.plot.grids import plot_round_trip
from arc_helpers.plot.picture import Picture
from arc_helpers.plot.tokens import plot_tokens, token_table
from arc_helpers.plot.trm import plot_segment
from arc_helpers.plot.widgets import Explorer, digits_box, explore, stepper


class Encoded(Protocol):
    """A prompt with its answer as tokens; `labels` is −100 on the prompt."""

    input_ids: Sequence[int]
    labels: Sequence[int]


def explore_augmentations(task: Task) -> Explorer | Picture:
    """Turn, flip and recolour a pair of a task, and see the inverse bring the original back."""
    named = [(f"train {i}", pair) for i, pair in enumerate(task.train)]
    named += [(f"test {i}", pair) for i, pair in enumerate(task.test)]

    def draw(pair: int, rotation: int, flip: bool, colors: int, digits: bool) -> Picture:
        recolour = {"colors": color_permutation(colors)} if colors else {}
        return plot_round_trip(named[pair][1], Transform(k=rotation, flip=flip, **recolour), digits=digits)

    turns = [("0°", 0), ("90°", 1), ("180°", 2), ("270°", 3)]
    controls = {
        "pair": stepper("pair", [name for name, _ in named]),
        "rotation": SelectionSlider(description="rotation", options=turns, value=1, continuous_update=False),
        "flip": Checkbox(description="flip", value=False),
        "colors": IntSlider(description="colour seed", value=1, max=20, continuous_update=False),
        "digits": digits_box(),
    }
    return explore(controls, draw)


def explore_candidates(
    walls: Sequence[tuple[str, Sequence[Answer], Any]], views: Sequence[str] = ()
) -> Explorer | Picture:
    """Step through candidate walls: name, ranked answers and truth (None: not known) of each test input."""

    def draw(test: int, digits: bool) -> Picture:
        name, answers, truth = walls[test]
        return plot_candidates(answers, truth, views, title=name, digits=digits)

    return explore({"test": stepper("test input", [wall[0] for wall in walls]), "digits": digits_box()}, draw)


def explore_segments(question, answers: Sequence, q: Sequence[float], latents, truth=None) -> Explorer | Picture:
    """Move through the segments of one recursion; arguments as in `plot_segment`."""

    def draw(segment: int, digits: bool) -> Picture:
        return plot_segment(question, answers, q, latents, segment, truth, digits=digits)

    slider = IntSlider(description="segment", value=1, min=1, max=len(answers), continuous_update=False)
    return explore({"segment": slider, "digits": digits_box()}, draw)


def explore_tokens(
    sequences: Sequence[Encoded],
    symbol: Callable[[int], str],
    names: Sequence[str] | None = None,
    logprobs: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Explorer | Picture:
    """Step through token sequences: the strip of the whole, and below it the token table from `start` on.

    logprobs: {model: log-probabilities of the answer tokens, for each sequence}. The strip is shaded by one model, the
    table has a column for each.
    """
    names = [f"sequence {i}" for i in range(len(sequences))] if names is None else names
    known = logprobs or {}

    @lru_cache(maxsize=1)
    def strip(sequence: int, model: str | None) -> Picture:
        encoded = sequences[sequence]
        shades = known[model][sequence] if model else None
        title = f"{names[sequence]}, {model}" if model else names[sequence]
        return plot_tokens(encoded.input_ids, encoded.labels, symbol, logprobs=shades, title=title)

    def draw(sequence: int, start: int, model: str | None = None) -> Picture:
        return strip(sequence, model)  # the strip shows the whole: it stays while `start` moves

    def table(sequence: int, start: int, model: str | None = None) -> Any:
        encoded = sequences[sequence]
        first = min(start, len(encoded.input_ids) - 1)
        columns = {name: values[sequence] for name, values in known.items()}
        return token_table(encoded.input_ids, encoded.labels, symbol, 40, start=first or None, logprobs=columns)

    longest = max((len(encoded.input_ids) for encoded in sequences), default=1)
    controls = {
        "sequence": stepper("sequence", names),
        "start": IntSlider(description="table from", max=longest - 1, continuous_update=False),
    }
    if known:
        controls["model"] = Dropdown(description="model", options=list(known))
    return explore(controls, draw, table)

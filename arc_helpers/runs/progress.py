"""One progress display for every front end."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from arc_helpers.runs.env import detect

T = TypeVar("T")


def progress(iterable: Iterable[T], total: int | None = None, desc: str = "", every: float = 10.0) -> Iterator[T]:
    """Iterate and show how far we are: a bar in a live notebook or on a terminal, lines when headless.

    total: number of items, where len() cannot tell. every: seconds between two lines when headless.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    env = detect()
    # tqdm.auto would draw a widget: frozen at 0 % under papermill, an error in a saved notebook that is opened again.
    if env.headless:
        return _lines(iterable, total, desc, every)
    from tqdm import tqdm

    notebook = env.kind in ("jupyter", "kaggle-interactive")  # where stderr is red
    return iter(tqdm(iterable, total=total, desc=desc or None, file=sys.stdout if notebook else None))


def _lines(iterable: Iterable[T], total: int | None, desc: str, every: float) -> Iterator[T]:
    start = shown = time.monotonic()
    done = 0
    try:
        for item in iterable:
            yield item
            done += 1
            now = time.monotonic()
            if now - shown >= every and done != total:
                shown = now
                print(_line(desc, done, total, now - start), flush=True)
    finally:  # also where the loop is left early
        print(_line(desc, done, total, time.monotonic() - start), flush=True)


def _line(desc: str, done: int, total: int | None, seconds: float) -> str:
    count = f"{done}/{total} ({100 * done // total} %)" if total else f"{done}"
    left = f", about {_clock(seconds / done * (total - done))} left" if total and 0 < done < total else ""
    return f"{desc + ': ' if desc else ''}{count} in {_clock(seconds)}{left}"


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"

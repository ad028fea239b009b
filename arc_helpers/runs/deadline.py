"""A wall-clock budget."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Signs:
    """What a deadline and those that were made of it have in common."""

    looked_at: float  # when one of them was last asked, on the monotonic clock
    ended: bool = False


class Deadline:
    """Counts down from its creation, in seconds on the monotonic clock. None: there is no limit.

    Whoever works looks at it before every step, so it also tells how long nothing has come (`silence`).
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic):
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"deadline of {seconds} seconds: must be >= 0 or None")
        self.seconds = seconds
        self._clock = clock
        self._start = clock()
        self._signs = _Signs(time.monotonic())

    @property
    def left(self) -> float:
        """Seconds left: never below 0, infinite without a limit."""
        self.look()
        if self._signs.ended:
            return 0.0
        return max(0.0, -self.overdue)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0

    @property
    def overdue(self) -> float:
        """Seconds since the time was up, negative before; to ask is not to look."""
        return -math.inf if self.seconds is None else self._clock() - self._start - self.seconds

    def look(self) -> None:
        """Give a sign of life."""
        self._signs.looked_at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since this deadline, or one that was made of it, was last looked at."""
        return time.monotonic() - self._signs.looked_at

    def end(self) -> None:
        """The time is up now, for this deadline and all that were made of it."""
        self._signs.ended = True

    def fraction(self, k: float) -> "Deadline":
        """A new deadline over the fraction k (0 … 1) of the seconds that are left now."""
        if not 0 <= k <= 1:
            raise ValueError(f"fraction {k}: must be between 0 and 1")
        made = Deadline(None if self.seconds is None else k * self.left, self._clock)
        made._signs = self._signs
        return made

    def part(self, k: float) -> float | None:
        """The fraction k of the seconds that are left, as a trainer's budget: None without a limit, never 0, for
        training makes a first step."""
        seconds = self.fraction(k).seconds
        return None if seconds is None else max(seconds, 1e-3)

    def __repr__(self) -> str:
        return "Deadline(None)" if self.seconds is None else f"Deadline({self.left:.1f} s left)"


NO_DEADLINE = Deadline(None)

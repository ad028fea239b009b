"""A wall-clock budget."""

import math
import time
from collections.abc import Callable


class Deadline:
    """Counts down from its creation, in seconds on the monotonic clock. None: there is no limit."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic):
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"deadline of {seconds} seconds: must be >= 0 or None")
        self.seconds = seconds
        self._clock = clock
        self._start = clock()

    @property
    def left(self) -> float:
        """Seconds left: never below 0, infinite without a limit."""
        if self.seconds is None:
            return math.inf
        return max(0.0, self.seconds - (self._clock() - self._start))

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0

    def fraction(self, k: float) -> "Deadline":
        """A new deadline over the fraction k (0 … 1) of the seconds that are left now."""
        if not 0 <= k <= 1:
            raise ValueError(f"fraction {k}: must be between 0 and 1")
        return Deadline(None if self.seconds is None else k * self.left, self._clock)

    def __repr__(self) -> str:
        return "Deadline(None)" if self.seconds is None else f"Deadline({self.left:.1f} s left)"


NO_DEADLINE = Deadline(None)

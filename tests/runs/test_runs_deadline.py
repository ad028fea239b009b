import math

import pytest

from arc_helpers.runs import Deadline


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_counts_down():
    clock = Clock()
    deadline = Deadline(10, clock)
    assert deadline.left == 10 and not deadline.passed
    clock.now += 4
    assert deadline.left == 6
    half = deadline.fraction(0.5)
    clock.now += 3
    assert half.passed and half.left == 0 and not deadline.passed
    clock.now += 100
    assert deadline.left == 0 and deadline.passed and deadline.fraction(1).passed


def test_none_never_passes():
    deadline = Deadline(None)
    assert deadline.left == math.inf and not deadline.passed and deadline.fraction(0).left == math.inf


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_bad_seconds(seconds):
    with pytest.raises(ValueError, match="must be >= 0 or None"):
        Deadline(seconds)


def test_bad_fraction():
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        Deadline(1).fraction(2)

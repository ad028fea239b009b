import os
import signal
import threading
import time

import pytest

from arc_helpers.runs import Deadline, Hung, unless_hung


def test_what_work_returns_or_raises_comes_through():
    deadline = Deadline(None)
    assert unless_hung(lambda: 7, deadline) == 7 and not deadline.passed
    with pytest.raises(ZeroDivisionError):
        unless_hung(lambda: 1 / 0, deadline)


def test_work_without_a_step_is_left_alone_and_the_time_is_up_for_all():
    deadline, never = Deadline(None), threading.Event()
    part = deadline.fraction(0.5)
    with pytest.raises(Hung, match="no step for 0 s: the device hangs"):
        unless_hung(never.wait, deadline, patience=0.2)
    assert deadline.passed and part.passed and deadline.left == 0
    never.set()


def test_steps_are_signs_of_life_whoever_made_the_deadline_they_look_at():
    deadline = Deadline(None)
    own = deadline.fraction(0.5)

    def slow() -> int:
        for _ in range(8):
            time.sleep(0.05)
            assert not own.passed
        return 7

    assert unless_hung(slow, deadline, patience=0.3) == 7


def test_a_step_far_beyond_the_deadline_is_left_alone():
    now = [0.0]
    deadline, never = Deadline(10, lambda: now[0]), threading.Event()

    def work() -> None:
        now[0] = 60.0
        never.wait()

    began = time.monotonic()
    with pytest.raises(Hung):
        unless_hung(work, deadline)
    assert time.monotonic() - began < 10
    never.set()


def test_an_interrupt_waits_for_the_step_at_work():
    deadline, ended = Deadline(None), threading.Event()

    def work() -> None:
        while not deadline.passed:
            time.sleep(0.02)
        ended.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            unless_hung(work, deadline)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.is_set()

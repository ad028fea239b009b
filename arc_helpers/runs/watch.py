"""A watchdog over work on a device: where no step comes any more, the run ends with what it has, instead of waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TypeVar

from arc_helpers.runs.deadline import Deadline

T = TypeVar("T")
PATIENCE = 600.0  # seconds without a step: then a device counts as hung
STOPPING = 30.0  # seconds that a step may still take when the user has stopped the run


class Hung(RuntimeError):
    """Work has made no step for too long, and was left alone. One line."""


def unless_hung(work: Callable[[], T], deadline: Deadline, patience: float = PATIENCE) -> T:
    """What work() returns or raises. It looks at `deadline`, or at one that was made of it, before each of its steps.

    It runs in a thread of its own, for nothing can interrupt a call into a driver that does not return. Where it has
    not looked for `patience` seconds, or is late by more than a deadline may be exceeded, it is left alone, the
    deadline is ended for all, and Hung is raised. ^C ends the deadline, too, and waits for the step at work.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # raised again below, in the thread of the caller
            answer.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True)
    deadline.look()
    thread.start()
    try:
        while not answer.done():
            wait([answer], timeout=min(1.0, patience / 4))
            late = deadline.overdue > 0.05 * (deadline.seconds or 0.0) + 3
            if not answer.done() and (deadline.silence > patience or (late and deadline.silence > 3)):
                raise Hung(f"no step for {deadline.silence:.0f} s: the device hangs, or is far too slow")
    except BaseException as error:
        deadline.end()
        if isinstance(error, KeyboardInterrupt):
            thread.join(STOPPING)
        raise
    return answer.result()

"""Groups on several devices or machines, by Ray: actors that each hold the base once, and a queue of groups.

With one worker nothing here is called, and Ray is never imported.
"""

import math
import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from arc_helpers.arc import Task
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.runs import HOST, Deadline, Hung
from arc_helpers.ttt.group import solve_group, solve_or_split
from arc_helpers.ttt.limits import Limits, release
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings

GRACE, LEAST, SLOWER = 60.0, 600.0, 20  # seconds after its deadline, or times the longest group: then one is hung
LIVES = 3  # how often a group is tried, and an actor started, before the loss counts as their own fault


class WorkersError(ValueError):
    """The workers that were asked for cannot be had. One line."""


@contextmanager
def lent(lm: LoadedLM) -> Iterator[LoadedLM]:
    """The base in the computer's memory while the context lasts: this process keeps no card from those who work on it.
    Afterwards the base is where it was."""
    device = lm.device
    if device.type != "cuda":
        yield lm
        return
    carried = moved(lm, HOST)
    release()
    try:
        yield carried
    finally:
        lm.model.to(device)


def moved(lm: LoadedLM, device: str) -> LoadedLM:
    """The same base, its weights on a device."""
    model = lm.model.to(device)
    return replace(lm, model=model, device=next(model.parameters()).device)


class Worker:
    """What an actor holds: the base model, in a process and on a device of its own. device: where it works; in an actor
    that has one GPU, "cuda" is that one."""

    def __init__(self, lm: LoadedLM, device: str):
        self.lm = moved(lm, device)
        self.limits: Limits | None = None  # what this device has turned out to hold

    def ready(self) -> None:
        """Answers when the base is here."""

    def solve(
        self, group: Sequence[Task], settings: TTTSettings, seconds: float
    ) -> tuple[list[TaskResult], str, float]:
        """A group's results, the tracebacks of what failed, and the seconds it took; `seconds` are left for it."""
        deadline, began = Deadline(seconds if math.isfinite(seconds) else None), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:  # the run's own folder may be on another machine
            errors = Path(folder) / "errors.log"
            errors.touch()
            self.limits = self.limits or Limits.of(settings)
            self.limits.deadline = deadline
            solve = partial(solve_group, self.lm, settings=settings, limits=self.limits)
            results = solve_or_split(solve, group, deadline, errors)
            return results, errors.read_text(encoding="utf-8"), time.monotonic() - began


@dataclass(frozen=True)
class _Order:
    """What an actor is at. Without a group it is receiving its base."""

    actor: Any
    group: Sequence[Task] = ()
    lives: int = 0
    due: float = math.inf  # on the monotonic clock: later, it counts as hung


def solve_on_workers(
    lm: LoadedLM,
    groups: Sequence[Sequence[Task]],
    settings_for: Callable[[Sequence[Task]], TTTSettings],
    *,
    workers: int,
    errors: Path,
    deadline: Deadline,
    address: str | None = None,
    fits: Callable[[Sequence[Task]], bool] = lambda group: True,
    took: Callable[[Sequence[Task], float], None] = lambda group, seconds: None,
    say: Callable[[str], None] = lambda line: None,
    worker: type[Worker] = Worker,
) -> Iterator[tuple[Sequence[Task], list[TaskResult]]]:
    """(group, its results) as they are done, from at most `workers` actors, each on a GPU of its own where the base is
    on one (this process holds none meanwhile), else on its share of the CPUs. A group that does not fit into the
    deadline has no results.

    A group whose actor is lost is done again by another, in all LIVES times; then its tasks have that as their error.
    An actor that gives no answer long after its time is ended, and counts as lost; its group is tried once elsewhere.
    settings_for(group) is asked when a group is given to an actor; took(group, seconds) is told how long it took, and
    say(line) what is not as asked. address: of a running Ray cluster; None starts Ray on this machine. Tracebacks are
    appended to the file `errors`. Raises WorkersError where there is no Ray, no device, or no actor that lives.
    """
    crew = _Crew(lm.device.type, workers, address, worker, say)
    queue = deque((group, LIVES) for group in groups)
    with lent(lm) as carried, crew.given(carried):
        for _ in range(min(crew.size, len(queue))):
            crew.hire()
        while queue or crew.at_work:
            while queue:
                group, lives = queue[0]
                if not fits(group):
                    yield queue.popleft()[0], []
                elif crew.idle:
                    queue.popleft()
                    crew.give(group, lives, settings_for(group), deadline.left)
                else:
                    break
            if not queue and not crew.at_work:
                break
            order, answer = crew.wait(None if crew.at_work else deadline.left)
            if not order.group:
                continue
            if isinstance(answer, Exception):
                line = f"the worker of {', '.join(task.id for task in order.group)} was lost ({_in_a_line(answer)})"
                lives = min(order.lives, 2) if isinstance(answer, Hung) else order.lives
                if lives > 1:
                    say(f"{line}: done again by another")
                    queue.appendleft((order.group, lives - 1))
                    continue
                often = "twice" if isinstance(answer, Hung) else f"{LIVES} times"
                answer = [TaskResult(task.id, error=f"{line}, {often}") for task in order.group], "", 0.0
            results, tracebacks, seconds = answer
            if tracebacks:
                with open(errors, "a", encoding="utf-8") as file:
                    file.write(tracebacks)
            took(order.group, seconds)
            yield order.group, results


class _Crew:
    """Actors: those that are idle, and those that owe an answer."""

    def __init__(self, kind: str, workers: int, address: str | None, worker: type, say):
        self.ray, self._kind = start_ray(address), kind
        device = "GPU" if kind == "cuda" else "CPU"
        devices = int(self.ray.cluster_resources().get(device, 0))
        if not devices:
            raise WorkersError(f"workers = {workers}: Ray sees no {device} here")
        self.size = min(workers, devices)
        if self.size < workers:
            say(f"workers = {workers}: there are only {devices} {device}s, one worker each")
        # Ray gives a process as many threads as CPUs
        share = {"num_gpus": 1} if device == "GPU" else {"num_cpus": devices // self.size}
        self._actor = self.ray.remote(**share)(worker)
        self._base: Any = None
        self._owed: dict[Any, _Order] = {}
        self.idle: list[Any] = []
        self._stillborn = 0
        self._longest = 0.0  # seconds of a group so far

    @contextmanager
    def given(self, lm: LoadedLM) -> Iterator[None]:
        """The base that they all work with; in the end they are dismissed."""
        self._base = self.ray.put(lm)
        try:
            yield
        finally:
            self.dismiss()

    @property
    def at_work(self) -> bool:
        """Whether some group is being solved."""
        return any(order.group for order in self._owed.values())

    def hire(self) -> None:
        """Start an actor; it is idle once its base is there. Where no device is free for it yet, it costs nothing."""
        actor = self._actor.remote(self._base, self._kind)
        self._owed[actor.ready.remote()] = _Order(actor)

    def give(self, group: Sequence[Task], lives: int, settings: TTTSettings, seconds: float) -> None:
        """Let an idle actor solve a group."""
        actor = self.idle.pop()
        due = time.monotonic() + min(seconds + GRACE, max(LEAST, SLOWER * self._longest or math.inf))
        self._owed[actor.solve.remote(group, settings, seconds)] = _Order(actor, group, lives, due)

    def wait(self, seconds: float | None) -> tuple[_Order, Any]:
        """The next order that is answered, and its answer, or the error that ended its actor; another one is then
        hired. Without an order where none is answered in time."""
        left = min((order.due for order in self._owed.values()), default=math.inf) - time.monotonic()
        limit = min(math.inf if seconds is None else seconds, max(0.0, left))
        done, _ = self.ray.wait(list(self._owed), timeout=limit if math.isfinite(limit) else None)
        if not done:
            return self._hung()
        order = self._owed.pop(done[0])
        try:
            answer = self.ray.get(done[0])
        except self.ray.exceptions.RayError as error:
            self.ray.kill(order.actor)
            self._replace(order, error)
            return order, error
        self.idle.append(order.actor)
        self._stillborn = 0
        if order.group:
            self._longest = max(self._longest, answer[2])
        return order, answer

    def _hung(self) -> tuple[_Order, Any]:
        """The order that is long after its time, and that as its error; its actor is ended, and another one hired."""
        for ref, order in self._owed.items():
            if order.due <= time.monotonic():
                del self._owed[ref]
                self.ray.kill(order.actor)
                self.hire()
                return order, Hung("it gave no answer long after its time")
        return _Order(None), None

    def dismiss(self) -> None:
        """End all actors: their devices are free again."""
        for actor in (*self.idle, *(order.actor for order in self._owed.values())):
            self.ray.kill(actor)

    def _replace(self, lost: _Order, error: Exception) -> None:
        self._stillborn += not lost.group
        if self._stillborn < LIVES:
            self.hire()
        elif not self.idle and not self._owed:
            raise WorkersError(f"no worker can be started ({_in_a_line(error)}); what is done is kept") from error


def start_ray(address: str | None = None, **options) -> ModuleType:
    """The module `ray`, connected to the cluster at `address`, or to one that is started on this machine; options as in
    `ray.init`. Nothing is done where it is connected. Raises WorkersError, one line, where that cannot be."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its future, without the warning
    try:
        import ray
    except ImportError:
        raise WorkersError("workers > 1: Ray is not installed; install the extra `ray`, or use workers = 1") from None
    if address is None:
        address, options = "local", {"include_dashboard": False, **options}
    # Ray gives its own processes half a minute to start, which is too little on a busy machine
    tries = LIVES if address == "local" else 1
    while not ray.is_initialized():
        try:
            if address not in ("local", "auto"):
                _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="WARNING", **options)
        except Exception as error:  # Ray's own are of every kind, a bare Exception among them
            tries -= 1
            if not tries:
                what = "Ray does not start" if address == "local" else f"ray_address = {address}: no cluster answers"
                raise WorkersError(f"{what} ({_in_a_line(error)})") from error
    return ray


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("must be host:port, ray://host:port or auto")
    socket.create_connection((host, int(port)), timeout=10).close()


def _in_a_line(error: Exception) -> str:
    """Ray's errors are pages: what was raised in an actor stands at their end, else what happened at their start."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if "ray::" in lines[0] else 0]

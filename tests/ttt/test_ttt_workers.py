"""Two Ray actors on the CPU: the same submission as one process, also when one of them is killed."""

import contextlib
import copy
import dataclasses
import math
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
import ray
import torch
from simulated_cuda import simulated_cuda

from arc_helpers.arc import SubmissionWriter, Task, num_tests_of
from arc_helpers.runs import Deadline, DeviceChoice, RunLog, read_jsonl
from arc_helpers.ttt import workers
from arc_helpers.ttt.pipeline import solve_tasks
from arc_helpers.ttt.results import TaskResult
from arc_helpers.ttt.settings import TTTSettings
from arc_helpers.ttt.workers import LIVES, Worker, WorkersError, lent, solve_on_workers, start_ray

SETTINGS = TTTSettings(k=1, steps=6, num_pseudo=4, r=4, alpha=8.0, lr=2e-2, views=3)
# Ray asks, whatever it is told, in which cloud it runs; the guard stops it, as it stops all
CLOUD = {"socket.getaddrinfo 169.254.169.254", "socket.getaddrinfo metadata.google.internal"}


@pytest.fixture(autouse=True)
def _float32_products():
    """Here products are those of the machine: workers are processes of their own, which no patch reaches."""


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import a test
    start_ray(num_cpus=2, num_gpus=2)  # by name only: Ray gives them out, nobody has them
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _only_ray_asked(_no_network, network_attempts):
    yield
    assert set(network_attempts()) <= CLOUD


@pytest.fixture
def tasks(tasks):
    """Five, so that two workers have something to share."""
    return [*tasks, Task("again", tasks[1].train, tasks[1].test), Task("mirror2", tasks[0].train[1:], tasks[0].test)]


def submission(folder, lm, tasks, settings=SETTINGS, **options):
    log = RunLog(folder, "02", "tiny", 0, {}, device=DeviceChoice("cpu", "float32", "a test"))
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(tasks))
    solved = solve_tasks(lm, tasks, settings, log, writer, **options)
    return writer.path.read_bytes(), solved


def actors(state: str = "") -> list[psutil.Process]:
    """The processes of our Ray's actors; Ray writes into their titles what they are at."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith(f"ray::Worker{state}"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_an_actor_that_hangs_is_ended_and_its_group_tried_once_elsewhere(gridlm, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("arc_helpers.ttt.workers.GRACE", 3.0)
    gone = tmp_path / "tries"
    gone.touch()

    class Hanging:
        def __init__(self, lm, device):
            pass

        def ready(self):
            pass

        def solve(self, group, settings, seconds):
            began = time.monotonic()
            if group[0].id != "mirror":
                return [TaskResult(task.id) for task in group], "", time.monotonic() - began
            with open(gone, "a") as file:
                file.write("x")
            time.sleep(600)

    said, began = [], time.monotonic()
    done = solve_on_workers(
        gridlm,
        [[task] for task in tasks[:3]],
        lambda group: SETTINGS,
        workers=2,
        errors=tmp_path / "errors.log",
        deadline=Deadline(15),
        fits=lambda group: True,
        say=said.append,
        worker=Hanging,
    )
    results = {group[0].id: results for group, results in done}
    assert time.monotonic() - began < 500 and gone.read_text() == "xx"  # the actor sleeps for 600
    assert set(results) == {"mirror", "fill", "first"} and not results["fill"][0].error
    assert "it gave no answer long after its time" in results["mirror"][0].error
    assert results["mirror"][0].error.endswith(", twice") and len(said) == 1 and "done again by another" in said[0]


def test_two_workers_answer_as_one_process(gridlm, tasks, tmp_path):
    """Of three workers on two CPUs two remain; and a task that fails costs itself only, there as here."""
    broken = Task("broken", (), tasks[0].test)  # nothing to learn from; no reader lets this through
    (one, alone), (two, shared) = (
        submission(tmp_path / str(workers), gridlm, [*tasks, broken], workers=workers) for workers in (1, 3)
    )
    assert two == one and shared.counts == alone.counts and shared.counts.errors == 1
    assert shared.notes == ["workers = 3: there are only 2 CPUs, one worker each"] and alone.notes == []
    for path in (tmp_path / "1" / "results").iterdir():  # `.checksums` has a line a write, in the order of writing
        there = (tmp_path / "3" / "results" / path.name).read_text()
        assert sorted(there.splitlines()) == sorted(path.read_text().splitlines())
    for name in ("tasks.jsonl", "metrics.jsonl"):
        assert sorted(map(str, read_jsonl(tmp_path / "3" / name))) == sorted(
            map(str, read_jsonl(tmp_path / "1" / name))
        )
    assert "--- broken" in (tmp_path / "3" / "errors.log").read_text()
    again, resumed = submission(tmp_path / "3", gridlm, [*tasks, broken], workers=2, resume=True)
    assert again == one and resumed.counts.resumed == 6
    _, alive = psutil.wait_procs(actors(), timeout=20)
    assert not alive, "their devices are free again"


def test_one_of_two_workers_is_killed_while_it_works(gridlm, tasks, tmp_path):
    settings = dataclasses.replace(SETTINGS, steps=60)
    one, _ = submission(tmp_path / "1", gridlm, tasks, settings)
    killed = []

    def kill_one() -> None:
        while not killed:
            for process in actors(".solve")[:1]:
                process.send_signal(signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one)
    thread.start()
    two, solved = submission(tmp_path / "2", gridlm, tasks, settings, workers=2)
    thread.join()
    assert two == one and solved.counts.errors == 0
    [note] = solved.notes
    assert note.startswith("the worker of ") and note.endswith(": done again by another")


# Whom Ray loses, without a model


class Mortal:
    """Answers at once, and dies of the task "fill"."""

    def __init__(self, lm, device):
        if lm.device.type == "broken":
            raise RuntimeError("no base")

    def ready(self):
        pass

    def solve(self, group, settings, seconds):
        if group[0].id == "fill":
            os.kill(os.getpid(), signal.SIGKILL)
        return [TaskResult(task.id, notes=[f"{settings}, {seconds:.0f} s left"]) for task in group], "", 2.0


def on_mortals(tasks, folder, device="cpu", workers=2, worker=Mortal, **options) -> dict[str, TaskResult]:
    lm = SimpleNamespace(device=SimpleNamespace(type=device))
    options = {"errors": folder / "errors.log", "deadline": Deadline(100, lambda: 0), **options}
    work = solve_on_workers(
        lm, [[t] for t in tasks], lambda group: f"settings of {group[0].id}", workers=workers, worker=worker, **options
    )
    return {group[0].id: results for group, results in work}


def test_a_group_that_kills_its_workers_costs_itself_only(tasks, tmp_path):
    notes, took = [], []
    found = on_mortals(
        tasks,
        tmp_path,
        say=notes.append,
        took=lambda group, seconds: took.append(seconds),
        fits=lambda group: group[0].id != "first",
    )
    assert found["first"] == [], "it did not fit"
    assert {i: bool(results[0].error) for i, results in found.items() if results} == {
        "mirror": False,
        "fill": True,
        "again": False,
        "mirror2": False,
    }
    assert found["mirror"][0].notes == ["settings of mirror, 100 s left"] and took.count(2.0) == 3
    assert found["fill"][0].error.endswith(f", {LIVES} times") and len(notes) == LIVES - 1


def test_each_worker_sees_a_card_of_its_own(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "lent", contextlib.nullcontext)

    class Witness(Mortal):
        """Says which card it sees, once another has been seen, too."""

        def __init__(self, lm, device):
            self.device = device

        def solve(self, group, settings, seconds):
            card = os.environ["CUDA_VISIBLE_DEVICES"]
            (tmp_path / f"card {card}").touch()
            until = time.monotonic() + 100
            while len(list(tmp_path.glob("card *"))) < 2 and time.monotonic() < until:
                time.sleep(0.05)
            return [TaskResult(task.id, notes=[f"{self.device} of card {card}"]) for task in group], "", 0.3

    notes = []
    found = on_mortals(tasks, tmp_path, device="cuda", workers=3, worker=Witness, say=notes.append)
    assert {results[0].notes[0] for results in found.values()} == {"cuda of card 0", "cuda of card 1"}
    assert notes == ["workers = 3: there are only 2 GPUs, one worker each"]


def test_a_worker_is_on_its_card_and_nowhere_else(gridlm, tasks):
    """Two simulated cards: the driver's base leaves the first while others work, and comes back."""
    with simulated_cuda((7, 5), devices=2) as machine:
        model = type(gridlm.model)(gridlm.model.config).eval().requires_grad_(False).to("cuda:0")
        lm = dataclasses.replace(gridlm, model=model, device=torch.device("cuda:0"))
        held = machine.cards[0].allocated
        assert held > 0
        with lent(lm) as carried:
            assert machine.cards[0].allocated == 0 and carried.device.type == "cpu"
            worker = Worker(copy.deepcopy(carried), "cuda:1")
            [result], errors, _ = worker.solve(tasks[:1], SETTINGS, math.inf)
            assert not errors and len(result.losses) == SETTINGS.steps
            assert {p.device.index for p in worker.lm.model.parameters()} == {1}
            assert machine.cards[0].allocated == 0 and machine.cards[1].peak > 0
        assert {str(p.device) for p in lm.model.parameters()} == {"cuda:0"} and machine.cards[0].allocated == held


def test_what_cannot_be_had_is_one_line(tasks, tmp_path, monkeypatch):
    with pytest.raises(WorkersError, match=r"no worker can be started \(RuntimeError: no base\)"):
        on_mortals(tasks, tmp_path, device="broken")
    with monkeypatch.context() as patch, pytest.raises(WorkersError, match="workers = 2: Ray sees no GPU here"):
        patch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
        on_mortals(tasks, tmp_path, device="cuda")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkersError, match="Ray is not installed; install the extra `ray`, or use workers = 1"):
        on_mortals(tasks, tmp_path)


@pytest.mark.parametrize(
    "address, reason",
    [("127.0.0.1:1", r"\[Errno 111\] Connection refused"), ("cluster", "must be host:port, .* or auto")],
)
def test_an_address_where_nobody_listens_is_one_line(monkeypatch, address, reason):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(WorkersError, match=rf"^ray_address = {address}: no cluster answers \({reason}\)$"):
        start_ray(address)


def test_no_time_no_results(gridlm, tasks, tmp_path):
    _, solved = submission(tmp_path, gridlm, tasks, workers=2, deadline=Deadline(0))
    assert solved == {} and solved.counts.out_of_time == 5


def test_with_one_worker_ray_is_not_imported():
    code = "import sys, arc_helpers.ttt.pipeline; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Runs killed with kill -9 and resumed: the same bytes as one that nobody disturbed."""

import multiprocessing
import random
import signal
import time
from types import SimpleNamespace

import pytest
import ttt_killed_run

from arc_helpers.arc import Task, num_tests_of, validate_submission, write_tasks
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.runs import read_jsonl

SAME = ("submission.json", "tasks.jsonl", "metrics.jsonl", "groups.json")


@pytest.fixture
def world(tmp_path, gridlm, tasks):
    """A model folder, a folder of four tasks, and how long and with which files an undisturbed run ends."""
    gridlm.model.save_pretrained(tmp_path / "model")
    arc_tokenizer().save_pretrained(tmp_path / "model")
    tasks = [*tasks, Task("again", tasks[1].train, tasks[1].test)]
    write_tasks(tasks, tmp_path / "data")
    world = SimpleNamespace(
        model=tmp_path / "model", data=tmp_path / "data", whole=tmp_path / "whole", num_tests=num_tests_of(tasks)
    )
    assert run(world, world.whole) == 0
    world.seconds = seconds_of_work(world.whole)
    assert any(line["status"] == "answered" for line in read_jsonl(world.whole / "tasks.jsonl"))
    return world


def seconds_of_work(out_dir) -> float:
    """From the first file of a run to its last, without what loading took."""
    return (out_dir / "resumed.txt").stat().st_mtime - (out_dir / "config.yaml").stat().st_mtime


def process(world, out_dir, **options):
    """A run that has been started. Its modules are imported once, in the server that it is forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["arc_helpers.ttt.pipeline"])
    child = context.Process(target=ttt_killed_run.run, args=(world.model, world.data, out_dir), kwargs=options)
    child.start()
    return child


def run(world, out_dir, **options) -> int:
    child = process(world, out_dir, **options)
    child.join()
    return child.exitcode


def check_resumed(world, out_dir) -> int:
    """Resume, compare every file; how many tasks were read back."""
    if (out_dir / "submission.json").exists():
        assert validate_submission(out_dir / "submission.json", world.num_tests) == []
    assert run(world, out_dir) == 0
    for name in [
        *SAME,
        *(f"predictions/{i}.txt" for i in world.num_tests),
        *(f"results/{i}.json" for i in world.num_tests),
    ]:
        assert (out_dir / name).read_bytes() == (world.whole / name).read_bytes(), name
    return int((out_dir / "resumed.txt").read_text())


def test_killed_at_random_moments(world, tmp_path):
    moments = random.Random(0)
    for n in range(6):
        out_dir = tmp_path / str(n)
        child = process(world, out_dir)
        while child.is_alive() and not (out_dir / "config.yaml").exists():  # the model is loaded, the work begins
            time.sleep(0.001)
        child.join(moments.uniform(0, world.seconds))
        child.kill()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        check_resumed(world, out_dir)


def test_killed_again_and_again_at_every_file(world, tmp_path):
    """Each start is killed one replaced file later than the one before; it ends all the same."""
    out_dir, moments = tmp_path / "again", range(4, 64, 3)
    for moment in moments:
        if run(world, out_dir, die_at=moment) == 0:
            break
        assert not (out_dir / "resumed.txt").exists()
    assert moment > 12, "it was killed some times"
    assert check_resumed(world, out_dir) == 4


def test_a_group_that_was_half_recorded_is_done_again(world, tmp_path):
    """Of two tasks in a group one was recorded: both are solved again, together as before."""
    out_dir = tmp_path / "half"
    # config.yaml, submission.json, groups.json, then the first result
    assert run(world, out_dir, die_at=7) == -signal.SIGKILL
    assert len(list((out_dir / "results").glob("*.json"))) == 1
    assert check_resumed(world, out_dir) == 0
    assert check_resumed(world, out_dir) == 4

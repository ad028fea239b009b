"""Chaos: what a run leaves behind when everything around it goes wrong.

    make chaos                      seeded, all of it; P="--seed 3 --kills 400"

Each of the eight notebooks has a scene: a small run in a `RunFolder` that writes the same files by the same functions.
A forked process plays it on a disk that fails at its n-th operation: it is killed before or after, a draft is torn,
the disk is full or broken. Played again, the scene must end with the same bytes. Then: two writers in one folder;
every file that a run goes on from damaged; a fuzzer over all that is read; deadlines, measured, over the four
notebooks that have one. (Actors that are killed or hang are in tests/ttt/test_ttt_workers.py, for Ray is slow to
start, and a device that hangs is in tests/ttt/test_ttt_hung.py.)
"""

import argparse
import copy
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from scenes import SCENES, base, puzzles, tasks, words
from scenes.timed import overruns

from arc_helpers import runs
from arc_helpers.arc import (
    Pair,
    load_benchmark,
    load_tasks,
    num_tests_of,
    score_benchmark,
    validate_submission,
    write_tasks,
)
from arc_helpers.runs.check import _model_folder, misspelt
from arc_helpers.runs.doctor import examine
from arc_helpers.runs.folder import MARKER, read_marker
from arc_helpers.runs.seal import LEDGER

FAULTS = ("kill before", "kill after", "torn", "full", "broken")
TIMES = ("seconds", "tokens_per_second", "segments_per_second", "mfu", "loss_first", "loss_last")


def outcome(folder: Path) -> dict[str, Any]:
    """What a run has found: every file but markers, checkpoints and what tells times."""
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        skipped = any(part.startswith(".") for part in file.relative_to(folder).parts) or "damaged" in name
        if skipped or not file.is_file() or file.suffix == ".pt" or name in ("summary.json", "groups.jsonl"):
            continue
        found[name] = file.read_bytes()
        if file.suffix == ".jsonl":
            lines = [json.loads(line) for line in found[name].splitlines()]
            found[name] = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return found


# --- a disk that fails


def on_a_failing_disk(at: int, fault: str, torn_from: random.Random) -> list[int]:
    """Let the at-th operation of this process's disk fail; returns a list of one number, how many there were."""
    count, calls = [0], {name: getattr(os, name) for name in ("fsync", "replace", "rename")}

    def failing(name: str) -> Callable:
        def call(*given: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] != at:
                return calls[name](*given, **options)
            if fault in ("full", "broken"):
                raise OSError(
                    28 if fault == "full" else 5, "No space left on device" if fault == "full" else "I/O error"
                )
            if fault == "torn" and name == "replace":
                draft = Path(given[0])
                draft.write_bytes(draft.read_bytes()[: torn_from.randrange(1 + draft.stat().st_size)])
            elif fault == "kill after":
                calls[name](*given, **options)
            os._exit(9)

        return call

    for name in calls:
        setattr(os, name, failing(name))
    return count


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """(exit code, what it returned) of work() in a process of its own, which has all that this one has loaded."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        code = 1
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                answer = json.dumps(work())
            os.write(write, answer.encode()[:60_000])
            code = 0
        except OSError:
            code = 5  # one line for the user: the disk
        except ValueError:
            code = 2
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(text or "null")


def play(scene: str, folder: Path, at: int = 0, fault: str = "", seed: int = 0) -> tuple[int, int]:
    """(exit code, disk operations) of a scene; it may be told to fail."""

    def work() -> int:
        torch.set_num_threads(1)
        count = on_a_failing_disk(at, fault, random.Random(seed))
        SCENES[scene](folder)
        return count[0]

    code, count = forked(work)
    return code, count or 0


def kills(room: Path, many: int, rng: random.Random) -> Iterator[tuple[str, bool, bool]]:
    """(what was done, whether it then ended with the same bytes, whether a submission was valid when it was killed)."""
    for scene in SCENES:
        whole = room / f"{scene}-whole"
        code, operations = play(scene, whole)
        if code or not operations:
            raise SystemExit(f"scene {scene} does not play: exit code {code}")
        expected = outcome(whole)
        for number in range(-(-many // len(SCENES))):
            folder = room / f"{scene}-{number}"
            at, fault = 1 + rng.randrange(operations), FAULTS[number % len(FAULTS)]
            code, _ = play(scene, folder, at, fault, rng.randrange(2**31))
            submission = folder / "submission.json"
            valid = not submission.exists() or not validate_submission(submission, num_tests_of(tasks()))
            again, _ = play(scene, folder)
            same = code != 0 and again == 0 and outcome(folder) == expected
            yield f"{scene}: {fault} at operation {at} of {operations}", same, valid


def second_writers(room: Path) -> int:
    """In how many scenes a second process is refused the folder."""
    refused = 0
    for scene in SCENES:
        first = runs.RunFolder(room / f"two-{scene}", scene, {"seed": 0}, {"code": "x"})
        first.open()
        code, _ = play(scene, first.path)
        refused += code == 2
        first.release()
    return refused


def damaged(room: Path, many: int, rng: random.Random) -> Iterator[tuple[str, bool]]:
    """(which file was damaged and how, whether the run then ended with the same bytes)."""
    stopped: dict[str, Path] = {}
    for scene in ("00", "02", "03", "04", "05"):
        _, operations = play(scene, room / f"{scene}-ops")
        stopped[scene] = room / f"{scene}-stopped"
        play(scene, stopped[scene], operations - 4, "kill before")
    for number in range(many):
        scene = list(stopped)[number % len(stopped)]
        folder = room / f"damaged-{number}"
        os.system(f"cp -r '{stopped[scene]}' '{folder}'")
        ledgers = [f.parent for f in folder.rglob(LEDGER)]
        files = [f for place in ledgers for f in sorted(place.iterdir()) if f.is_file() and f.name != ".arc-run.lock"]
        file = rng.choice(files)
        content = bytearray(file.read_bytes())
        how = rng.choice(("cut", "empty", "bit", "other"))
        if how == "bit" and content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        content = {"cut": content[: len(content) // 2], "empty": b"", "other": b"\x00\xff{["}.get(how, content)
        file.write_bytes(bytes(content))
        code, _ = play(scene, folder)
        yield (
            f"{scene}: {file.relative_to(folder)}, {how}",
            code == 0 and outcome(folder) == outcome(room / f"{scene}-ops"),
        )


# --- a fuzzer over all that is read


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with something wrong in it."""
    odd = [
        None,
        True,
        -1,
        1e308,
        "x",
        "",
        [],
        {},
        [[]],
        [[0, [1]]],
        {"train": 3},
        "\ud800",
        10**400,
        [[11]],
        ["1", 2.5],
    ]
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        at, parent, key = value, None, None
        while isinstance(at, list | dict) and at and rng.random() < 0.85:
            parent, key = at, rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            at = parent[key]
        if parent is None:
            return copy.deepcopy(rng.choice(odd))
        if rng.random() < 0.3:
            del parent[key]
        elif isinstance(parent, dict) and rng.random() < 0.2:
            parent[rng.choice(["", "$x^$", "../up", "a,b", "train"])] = at
        else:
            parent[key] = copy.deepcopy(rng.choice(odd))
    return value


def fuzz(room: Path, many: int, rng: random.Random) -> Iterator[str | None]:
    """For each mutation what was raised that nobody should see, or None. Errors about the input are ValueErrors and
    OSErrors of one line."""
    room.mkdir()
    labelled = [replace(t, test=(Pair(t.test[0].input, [[1, 2]]),)) for t in tasks()]
    challenges = {t.id: t.to_dict() for t in labelled}
    submission = {t.id: [{"attempt_1": [[1]], "attempt_2": [[2]]}] for t in labelled}
    solutions = {t.id: [[[1, 2]]] for t in labelled}
    one, run = room / "file.json", room / "run"
    write_tasks(labelled, room / "tasks")
    play("02", run)
    marker = json.loads((run / MARKER).read_bytes())
    config = {"model_type": "gridlm", "hidden_size": 8}
    model = room / "model"
    model.mkdir()
    runs.save_tensors(model / "model.safetensors", {"w": torch.zeros(2)})

    def scored(value: Any) -> Any:
        return score_benchmark(submission, load_benchmark(room / "tasks", solutions=put(value)))

    def put(value: Any, where: Path = one) -> Path:
        text = json.dumps(value).encode("utf-8", "surrogatepass") if not isinstance(value, bytes) else value
        where.write_bytes(text)
        return where

    def in_a_run(name: str) -> Callable[[Any], Any]:
        def read(value: Any) -> Any:
            kept = (run / name).read_bytes()
            try:
                put(value, run / name)
                runs.RunFolder(run, "02", {"seed": 0}, {"code": "x"}).judge()
                read_marker(run)
                return list(examine(run))
            finally:
                (run / name).write_bytes(kept)

        return read

    targets: list[tuple[Any, Callable[[Any], Any]]] = [
        (challenges, lambda value: load_tasks(put(value), faults=[])),
        (challenges["a"], lambda value: load_tasks(put(value), faults=[])),
        (solutions, scored),
        (submission, lambda value: validate_submission(put(value), num_tests_of(labelled))),
        (config, lambda value: _model_folder(put(value, model / "config.json").parent, tokenizer=True)),
        (marker, in_a_run(MARKER)),
        ({"steps": 3, "k": 1}, lambda value: runs.resolve("02", "tiny", value if isinstance(value, dict) else {})),
        (["profile = 'tiny'\nseed = 0", "step = 3"], lambda value: misspelt([str(value)], ["steps"])),
    ]
    for number in range(many):
        seed, read = targets[number % len(targets)]
        value = mutated(seed, rng)
        if rng.random() < 0.1:  # bytes that are no JSON at all
            text = bytearray(json.dumps(value).encode("utf-8", "replace"))
            for _ in range(3):
                text.insert(rng.randrange(len(text) + 1), rng.randrange(256))
            value = bytes(text)
        try:
            read(value)
            yield None
        except (ValueError, OSError) as error:
            yield None if "\n" not in str(error) else f"several lines: {error!r}"
        except Exception as error:
            yield f"{type(error).__name__}: {error} from {value!r:.200}"


def chaos(seed: int, kill: int, damage: int, mutations: int, deadlines: int) -> dict[str, Any]:
    """All of it: the numbers, flat."""
    torch.set_num_threads(1)
    result = dict.fromkeys(("kills", "identical", "writers_refused", "state_files_damaged", "recovered"), 0)
    result |= {"mutations": 0, "tracebacks": 0, "invalid_submissions": 0, "deadlines": 0, "deadline_overruns": 0}
    base(), puzzles(), words()
    with tempfile.TemporaryDirectory() as folder:
        rooms = [Path(folder) / name for name in ("kills", "two", "damage", "fuzz", "late")]
        for what, same, valid in kills(rooms[0], kill, random.Random(seed)):
            result["kills"] += 1
            result["identical"] += same
            result["invalid_submissions"] += not valid
            if not (same and valid):
                print(f"DIFFERENT {what}", flush=True)
        result["writers_refused"] = second_writers(rooms[1])
        for what, same in damaged(rooms[2], damage, random.Random(seed + 1)):
            result["state_files_damaged"] += 1
            result["recovered"] += same
            if not same:
                print(f"NOT RECOVERED {what}", flush=True)
        for raised in fuzz(rooms[3], mutations, random.Random(seed + 2)):
            result["mutations"] += 1
            result["tracebacks"] += raised is not None
            if raised:
                print(f"TRACEBACK {raised}", flush=True)
        for which, seconds, took, valid in overruns(rooms[4], deadlines, random.Random(seed + 3)):
            late = took > 1.05 * seconds + 5
            result["deadlines"] += 1
            result["deadline_overruns"] += late
            result["invalid_submissions"] += not valid
            if late:
                print(f"LATE {which}: {took:.1f} s for a deadline of {seconds:.1f} s", flush=True)
    bad = ("tracebacks", "invalid_submissions", "deadline_overruns")
    result["passed"] = (
        result["identical"] == result["kills"]
        and result["recovered"] == result["state_files_damaged"]
        and result["writers_refused"] == len(SCENES)
        and not any(result[name] for name in bad)
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=208)
    parser.add_argument("--damage", type=int, default=60)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--deadlines", type=int, default=20)
    options = parser.parse_args()
    result = chaos(options.seed, options.kills, options.damage, options.mutations, options.deadlines)
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

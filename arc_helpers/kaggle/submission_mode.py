"""Submission mode: what a notebook's parameters become in a kernel on Kaggle, and why. The second cell we add."""

import glob
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arc_helpers.arc import MAX_SIDE, load_tasks, write_tasks
from arc_helpers.kaggle import bootstrap
from arc_helpers.kaggle.secrets import provide_tokens
from arc_helpers.runs import ConfigError, atomic_write_json, built_folder, load_profile, output_path, resolve_path
from arc_helpers.runs.config import section

RESERVE = 1800.0  # seconds before Kaggle's limit at which a run ends by itself: 11 h 30 of 12 h
EMBEDDED_MODEL = "models/arc-micro"
HIDDEN = "hidden"
DEEPEST = 7  # folders between /kaggle/input and a model's files


def parameters(
    given: Mapping[str, Any], *, notebook: str, competition: str | None, hours: float, commit_minutes: float
) -> dict[str, Any]:
    """The parameters that this kernel sets, each with a line that says so; `globals().update` takes them.

    given: the notebook's globals after its parameters. hours: Kaggle's limit for this kernel.
    The scored rerun has all of `hours` but half an hour for the hidden tasks; any other run of a competition's kernel
    is a rehearsal of the same on the public test file, of `commit_minutes`.
    """
    asked = {**getattr(load_profile(given["profile"]), section(notebook)).model_dump(), "out_dir": None}
    asked |= {name: given[name] for name in asked if given.get(name) is not None}
    rerun = bootstrap.is_rerun()
    chosen: dict[str, tuple[Any, str]] = {
        "out_dir": (str(output_path(bootstrap.REPORT)), "only submission.json is at the top of the working folder")
    }
    challenges = bootstrap.find_challenges(competition) if competition else None
    if competition and challenges is None and rerun:  # the fallback stays; public tasks would cost 12 hours for nothing
        raise ConfigError(f"{competition}: no test file was found in its mount: there is nothing to answer")
    if challenges is not None:
        challenges = as_wanted(challenges, competition)
        chosen["data_dir"] = (str(challenges), "the hidden tasks" if rerun else "the public test file")
        chosen["solutions"] = ("", "nobody has any")
        chosen["frontier"] = (0, "a look at other depths takes time from the tasks")
        if {"source", "subsets", "test_set_name"} <= set(asked):  # 03 reads a folder of subsets
            chosen["source"] = (str(write_subsets(challenges, asked)), "the test file as a subset of its own")
            chosen["subsets"] = (f"{asked['subsets']},{HIDDEN}", "demonstrations of the hidden tasks are learned, too")
            chosen["test_set_name"] = (HIDDEN, "what is answered")
    if challenges is not None and rerun:
        for name, lifted in every_task(asked).items():
            why = f"{name} = {asked[name]!r} WOULD ANSWER FEWER TASKS THAN THE FILE HOLDS: it is lifted"
            chosen[name] = (lifted, why)
    if competition is None or rerun:
        limit, why = seconds_left(hours * 3600 - RESERVE), f"half an hour less than {hours:g} h, from the first cell on"
    else:
        limit, why = commit_minutes * 60, "not the scored rerun: a short run of the same plumbing"
    if not asked.get("deadline_seconds") or limit < asked["deadline_seconds"]:
        chosen["deadline_seconds"] = (limit, why)
    if asked.get("quantization") not in (None, "none") and importlib.util.find_spec("bitsandbytes") is None:
        chosen["quantization"] = ("none", "bitsandbytes is absent: 16 bits a weight instead of 4")
    model = asked.get("model_dir")
    if model and not resolve_path(model).is_dir():
        found = find_model(model) or find_model(EMBEDDED_MODEL)
        if found:
            chosen["model_dir"] = (
                found,
                f"{model} is NOT ATTACHED" if model.rsplit("/", 1)[-1] not in found else f"where {model} is mounted",
            )
        else:
            print(f"submission mode: model_dir = {model} is NOT ATTACHED, and no other model is")
    if {"workers", "ray_address"} <= set(asked) and (gpus := count_gpus()) > 1:  # 00's workers only read
        chosen["workers"] = (gpus, "one worker a GPU")
    chosen = {name: value for name, value in chosen.items() if name in given}
    for name, (value, reason) in chosen.items():
        print(f"submission mode: {name} = {value!r} ({reason})")
    for name in provide_tokens(asked):
        print(f"submission mode: {name} is set")  # the name, never the token
    return {name: value for name, (value, _) in chosen.items()}


def every_task(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What limits the tasks of a run, with the value that lifts it."""
    all_sides = 0 if "task_ids" in asked else MAX_SIDE  # 02 takes 0 for no limit; 03's is the side of its canvas
    lifted = {"max_tasks": 0, "task_ids": "", "max_side": all_sides}
    return {name: value for name, value in lifted.items() if asked.get(name) not in (None, "", 0, value)}


def as_wanted(challenges: Path, competition: str | None) -> Path:
    """The test file itself where it asks what the sample submission wants answered; else one that does: of a task that
    is missing or has another number of test inputs, only that number is there, so that it gets fallback answers."""
    mount = bootstrap.find_mount(competition)
    content, wanted = bootstrap.read_json(challenges), bootstrap.read_sample(mount) if mount else None
    asked = bootstrap.questions_asked(content)
    if not wanted or not asked or (wanted == asked and isinstance(content, dict)):
        return challenges
    tasks = {task["id"]: task for task in content} if isinstance(content, list) else content
    fitted = {i: tasks[i] if asked.get(i) == n else {"test": [None] * n} for i, n in wanted.items()}
    path = bootstrap.root() / "temp" / "arc_as_wanted_challenges.json"  # where no output goes
    atomic_write_json(path, fitted, indent=None)
    return path


def write_subsets(challenges: Path, asked: Mapping[str, Any]) -> Path:
    """The asked subsets of a source and the test file's readable tasks, a folder each, where no output goes."""
    folder = built_folder(bootstrap.root() / "temp" / "arc", "submission mode")
    write_tasks(load_tasks(challenges, faults=[]), folder / HIDDEN)
    for subset in asked["subsets"].split(","):
        if subset != "concept":  # its own reader knows where that is
            write_tasks(load_tasks(f"{asked['source']}/{subset}"), folder / subset)
    return folder


def find_model(model: str) -> str | None:
    """A mounted model folder of that name, however deep: how Kaggle unpacks a dataset's folders has changed before."""
    if resolve_path(model).is_dir():
        return model
    name = model.rsplit("/", 1)[-1]
    for depth in range(1, DEEPEST):
        pattern = "*/" * depth + f"{glob.escape(name)}/config.json"
        for config in sorted((bootstrap.root() / "input").glob(pattern)):
            return str(config.parent)
    return None


def seconds_left(limit: float, clock=time.time) -> float:
    """Seconds of a limit that are left since the bootstrap cell began; at least 1, since 0 would mean no limit."""
    started = float(os.environ.get(bootstrap.STARTED) or clock())
    return max(1.0, round(limit - (clock() - started), 1))


def count_gpus() -> int:
    """How many GPUs did one real operation in the bootstrap cell."""
    return int(os.environ.get(bootstrap.GPUS) or 0)

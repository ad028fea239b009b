"""Submission mode: what a notebook's parameters become in a kernel on Kaggle, and why. The second cell we add."""

import glob
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arc_helpers.arc import load_tasks, write_tasks
from arc_helpers.kaggle import bootstrap
from arc_helpers.kaggle.secrets import provide_tokens
from arc_helpers.runs import load_profile, output_path, resolve_path
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
    if challenges is not None:
        chosen["data_dir"] = (str(challenges), "the hidden tasks" if rerun else "the public test file")
        chosen["solutions"] = ("", "nobody has any")
        chosen["frontier"] = (0, "a look at other depths takes time from the tasks")
        if {"source", "subsets", "test_set_name"} <= set(asked):  # 03 reads a folder of subsets
            chosen["source"] = (str(write_subsets(challenges, asked)), "the test file as a subset of its own")
            chosen["subsets"] = (f"{asked['subsets']},{HIDDEN}", "demonstrations of the hidden tasks are learned, too")
            chosen["test_set_name"] = (HIDDEN, "what is answered")
    if competition is None or rerun:
        limit, why = seconds_left(hours * 3600 - RESERVE), f"half an hour less than {hours:g} h, from the first cell on"
    else:
        limit, why = commit_minutes * 60, "not the scored rerun: a short run of the same plumbing"
    if not asked.get("deadline_seconds") or limit < asked["deadline_seconds"]:
        chosen["deadline_seconds"] = (limit, why)
    if asked.get("quantization") == "4bit" and importlib.util.find_spec("bitsandbytes") is None:
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


def write_subsets(challenges: Path, asked: Mapping[str, Any]) -> Path:
    """The asked subsets of a source and the test file's readable tasks, a folder each, where no output goes."""
    folder = bootstrap.root() / "temp" / "arc"
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

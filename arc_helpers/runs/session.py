"""The first line of every notebook: `run = start(...)`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.runs.config import ConfigError, check_run, knob_names, resolve
from arc_helpers.runs.env import (
    DeviceChoice,
    Environment,
    choose_device,
    detect,
    output_path,
    seed_everything,
)
from arc_helpers.runs.log import RunLog, versions

PLAN = "groups.json"  # what a run that was killed goes on from (ttt/journal.py)


@dataclass(frozen=True)
class Run:
    """What a notebook needs to know about its run; out_dir is absolute.

    resumed: it goes on where an earlier run in this folder was killed.
    """

    notebook: str
    profile: str
    seed: int
    config: Any  # the notebook's model in runs/config.py
    log: RunLog
    env: Environment
    device: DeviceChoice
    out_dir: Path
    resumed: bool = False

    @property
    def submission_path(self) -> Path:
        """Where its submission goes: into its folder; on Kaggle to the top of the working folder, which is scored."""
        return (self.env.writable if self.env.on_kaggle else self.out_dir) / "submission.json"


def start(
    notebook: str,
    *,
    profile: str = "laptop",
    seed: int = 0,
    out_dir: str | Path | None = None,
    fresh: bool = True,
    **knobs: Any,
) -> Run:
    """Check every parameter, choose a device, seed everything, open the log, and print the setup.

    notebook: "02_multilora_ttt" or "multilora_ttt". out_dir: None means artifacts/<notebook>.
    fresh: drop this folder's earlier metrics and tasks, and do not go on with a run that was killed in it. A run
        that has finished is never gone on with (summary.json says so; it is removed in any case).
    knobs: None means the profile's value. Raises ConfigError before anything heavy is loaded.
    """
    own = check_run(profile=profile, seed=seed, out_dir=out_dir, fresh=fresh)
    config = resolve(notebook, profile, knobs)
    folder = output_path(own.out_dir or Path("artifacts") / notebook)
    if own.fresh or (folder / "summary.json").exists():
        for plan in (folder / PLAN, *folder.glob(f"*/{PLAN}")):
            plan.unlink(missing_ok=True)
    resumed = (folder / PLAN).exists()
    earlier = ("metrics.jsonl", "tasks.jsonl", "summary.json") if own.fresh else ("summary.json",)
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
    # bitsandbytes tells every CPU, when peft imports it, that a kernel could be downloaded
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    env = detect()
    device = choose_device()
    seed_everything(own.seed)
    log = RunLog(folder, notebook, profile, own.seed, config, device)
    by_hand = ", ".join(f"{name}={value!r}" for name, value in knobs.items() if value is not None)
    _print_setup(
        f"{notebook}, profile {profile}, seed {seed}" + (f", {by_hand}" if by_hand else ""),
        where=f"{env.kind}{', headless' if env.headless else ''}, relative paths are under {env.root}",
        device=f"{device.device}, {device.dtype}: {device.reason}",
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
        writes=str(folder) + (", going on with the run that was killed there" if resumed else ""),
    )
    return Run(notebook, profile, own.seed, config, log, env, device, folder, resumed)


def start_notebook(notebook: str, namespace: Mapping[str, Any], **options: Any) -> Run:
    """`start` with every parameter taken by name from a notebook's `globals()`: the first line after its
    parameters cell. options: as in `start`. Raises ConfigError where the notebook lacks a parameter.
    """
    names = ["profile", "seed", "out_dir", *knob_names(notebook)]
    missing = [name for name in names if name not in namespace]
    if missing:
        raise ConfigError(f"{notebook}: its parameters cell does not set {', '.join(missing)}")
    return start(notebook, **{name: namespace[name] for name in names}, **options)


def _print_setup(title: str, **lines: str) -> None:
    print(title)
    for name, text in lines.items():
        print(f"  {name:<9}{text}")

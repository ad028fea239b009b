"""The first line of every notebook: `run = start(...)`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arc_helpers import __version__
from arc_helpers.runs.check import declared, misspelt, open_folder, require
from arc_helpers.runs.config import ConfigError, check_run, knob_names, resolve
from arc_helpers.runs.deadline import Deadline
from arc_helpers.runs.env import (
    PACKAGE,
    DeviceChoice,
    Dtype,
    Environment,
    choose_device,
    detect,
    has_bfloat16,
    output_path,
    seed_everything,
)
from arc_helpers.runs.log import RunLog, versions
from arc_helpers.runs.shell import show_parameters, tell_in_one_line

#: a run that goes on writes these anew, from what it goes on from
TABLES = ("metrics.jsonl", "tasks.jsonl", "summary.json")


@dataclass(frozen=True)
class Run:
    """What a notebook needs to know about its run; out_dir is absolute.

    resumed: it goes on where an earlier run in this folder was stopped. deadline: of the whole run, from its first line
    on (deadline_seconds, where the notebook has it); whatever trains or answers looks at it in every step.
    """

    notebook: str
    profile: str
    seed: int
    config: Any  # the notebook's model in runs/knobs.py
    log: RunLog
    env: Environment
    device: DeviceChoice
    out_dir: Path
    resumed: bool = False
    deadline: Deadline = field(default_factory=lambda: Deadline(None))

    @property
    def model_path(self) -> Path:
        """The folder its model is written to: out_model, or model/ in its own folder."""
        named = getattr(self.config, "out_model", None)
        return output_path(named) if named else self.out_dir / "model"

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
    fresh: bool = False,
    dtype: Dtype | None = None,
    **knobs: Any,
) -> Run:
    """Check every parameter, choose a device, seed everything, open the log, and print the setup.

    notebook: "02_multilora_ttt" or "multilora_ttt". out_dir: None means artifacts/<notebook>.
    fresh: do not go on with a run that was stopped in this folder. Without it, a run is gone on with where its
        parameters, inputs and code are the same; where parameters differ, or it had ended, it is set aside (RunFolder).
    dtype: what the notebook computes in; None means the device's own choice, or with a knob `autocast` bfloat16 where
        that is on and native, float16 on a GPU without where the notebook scales its loss, else float32.
    knobs: None means the profile's value. Raises ConfigError before anything heavy is loaded.
    """
    own = check_run(profile=profile, seed=seed, out_dir=out_dir, fresh=fresh)
    config = resolve(notebook, profile, knobs)
    deadline = Deadline(getattr(config, "deadline_seconds", None))
    findings = require(notebook, own, config)
    folder = open_folder(notebook, own, config)
    # bitsandbytes tells every CPU, when peft imports it, that a kernel could be downloaded
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    env = detect()
    device = choose_device()
    if dtype is None and hasattr(config, "autocast") and not getattr(config, "base", None):  # a base has its own
        half: Dtype = "float16" if config.scales_loss and device.device != "cpu" else "float32"
        fast: Dtype = "bfloat16" if has_bfloat16(device.device) else half
        dtype = fast if config.autocast else "float32"
    device = device.computing_in(dtype or device.dtype)
    folder.found["device"] = f"{device.device}, {device.dtype}"
    verdict = folder.open(own.fresh)
    for name in TABLES:
        (folder.path / name).unlink(missing_ok=True)
    seed_everything(own.seed)
    log = RunLog(folder, notebook, profile, own.seed, config, device)
    by_hand = ", ".join(f"{name}={value!r}" for name, value in knobs.items() if value is not None)
    _print_setup(
        f"{notebook}, profile {profile}, seed {seed}" + (f", {by_hand}" if by_hand else ""),
        where=f"{env.kind}{', headless' if env.headless else ''}, relative paths are under {env.root}",
        device=f"{device.device}, {device.dtype}: {device.reason}",
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
        writes=str(folder.path) + {"new": "", "resume": ", going on with "}.get(verdict.verb, "; ") + verdict.why,
        **({"kept": config.kept or "nothing: all is done again"} if verdict.verb == "resume" else {}),
    )
    for finding in findings:
        if finding.about == "unreadable":
            print(f"  not read {finding.text}")
    return Run(notebook, profile, own.seed, config, log, env, device, folder.path, verdict.verb == "resume", deadline)


def start_notebook(notebook: str, namespace: Mapping[str, Any], *, dtype: Dtype | None = None) -> Run:
    """`start` with every parameter taken by name from a notebook's `globals()`: the first line after its
    parameters cell. dtype: as in `start`. Raises ConfigError where notebook and package are of different versions: one
    has a parameter that the other does not know.
    """
    names = ["profile", "seed", "out_dir", "fresh", *knob_names(notebook)]
    if not detect().headless:
        tell_in_one_line("its folder")  # a wrong parameter is told in one line, too
    missing = [name for name in names if name not in namespace]
    if missing:
        raise ConfigError(
            f"{notebook}: its parameters cell does not set {', '.join(missing)}: it is older than {_package()}"
        )
    cells = list(namespace.get("In", ()))[:-1]
    typo = misspelt(cells, names)
    if typo:
        raise ConfigError(f"{notebook}: {typo}")
    if unknown := [name for name in declared(cells) if name not in names]:
        raise ConfigError(f"{notebook}: sets {', '.join(unknown)}, unknown to {_package()}, which is older")
    knobs = {name: namespace[name] for name in names}
    run = start(notebook, dtype=dtype, **knobs)
    show_parameters(run.config, {name: knobs[name] for name in knob_names(notebook)}, run.profile, cells)
    if not run.env.headless:
        tell_in_one_line(str(run.out_dir))
    return run


def _package() -> str:
    return f"arc_helpers {__version__} in {PACKAGE}"


def _print_setup(title: str, **lines: str) -> None:
    print(title)
    for name, text in lines.items():
        print(f"  {name:<9}{text}")

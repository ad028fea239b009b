"""The first cell of a kernel on Kaggle: a valid submission first, then wheels, then everything else.

It runs before anything of ours is installed, so it is text inside the notebook (`bundle.py` puts it there, in the zip
of `arc_helpers`) and knows the standard library only. Nothing in it may end the run: what fails is said in one line.
"""

import glob
import hashlib
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import traceback
import zipfile
from pathlib import Path

MARK = "arc-helpers bundle"  # what `manifest.json` of our dataset says it is
STARTED = "ARC_KERNEL_STARTED"  # variable: seconds since the epoch, for the budget (submission_mode.py)
GPUS = "ARC_KERNEL_GPUS"  # variable: how many work
GRID = [[0]]  # the smallest valid answer
SIDE = 30
REPORT = "report"  # beside submission.json, which stands alone at the top of the working folder
GPU_CHECK = """
import torch
for i in range(torch.cuda.device_count()):
    x = torch.ones(8, 8, device=f"cuda:{i}")
    assert (x @ x).sum().item() == 512
    print(torch.cuda.get_device_name(i))
"""


def start(archive: zipfile.ZipFile, *, wheel: str, sha256: str, needs: list, competition: str | None) -> None:
    """Prepare the kernel: fallback submission, one real operation on every GPU, wheels, `arc_helpers`.

    archive: the copy of `arc_helpers` in this cell. wheel, sha256: file name and hash of the wheel of the same state.
    needs: names of the third-party packages this kernel wants from the dataset. competition: its slug, or None.
    """
    os.environ.setdefault(STARTED, str(time.time()))
    os.environ["HF_HUB_OFFLINE"] = "1"  # a try to reach the hub would wait for a network that is not there
    report: dict = {"rerun": is_rerun(), "fallback": write_fallback(competition), "gpus": check_gpus()}
    os.environ[GPUS] = str(len(report["gpus"]))
    folder = find_bundle(sha256)
    report["dataset"] = str(folder) if folder else None
    report["installed"] = install(folder, wheel, sha256, needs) if folder else []
    if "arc-helpers" not in report["installed"]:
        report["embedded"] = use_embedded(archive)
    importlib.invalidate_caches()
    guard_cells()
    report["seconds"] = round(time.time() - float(os.environ[STARTED]), 1)
    (working() / REPORT).mkdir(parents=True, exist_ok=True)
    (working() / REPORT / "bootstrap.json").write_text(json.dumps(report, indent=2) + "\n")
    say(f"ready after {report['seconds']} s")


# --- where we are


def is_rerun() -> bool:
    """Whether this is the scored run on the hidden tasks."""
    return os.environ.get("KAGGLE_IS_COMPETITION_RERUN", "").lower() not in ("", "0", "false", "no")


def root() -> Path:
    """/kaggle, or what stands for it in a rehearsal."""
    return Path(os.environ.get("ARC_KAGGLE_ROOT", "/kaggle"))


def working() -> Path:
    """The folder whose top holds submission.json and nothing else."""
    return root() / "working"


def say(line: str) -> None:
    """One line of the kernel's log."""
    print(f"bootstrap: {line}", flush=True)


def find_challenges(competition: str | None) -> Path | None:
    """The competition's test file, in the newer or the older mount layout; the named competition first."""
    own = [f"competitions/{competition}", competition] if competition else []
    for folder in (*own, "competitions/*", "*"):
        found = sorted(glob.glob(str(root() / "input" / folder / "*test_challenges*.json")))
        if found:
            return Path(found[0])
    return None


# --- the submission, before and after


def answers_needed(challenges: Path) -> dict:
    """How many answers each task of a challenges file wants: {id: number >= 1}, for malformed ones as well."""
    needed = {}
    for task_id, task in json.loads(challenges.read_bytes()).items():
        test = task.get("test") if isinstance(task, dict) else None
        needed[task_id] = max(1, len(test)) if isinstance(test, list) else 1
    return needed


def write_fallback(competition: str | None) -> str:
    """Make submission.json valid for the mounted test file; answers that are there already are kept."""
    return repair_submission(competition, "fallback")


def finish(competition: str | None) -> None:
    """The last cell: whatever became of the run, what is submitted is valid."""
    say(repair_submission(competition, "at the end"))


def repair_submission(competition: str | None, when: str) -> str:
    """Give every task of the test file its answers: those in submission.json that are valid, else the fallback."""
    if not competition:
        return "no submission: this kernel takes part in no competition"
    challenges = find_challenges(competition)
    if challenges is None:
        say(f"{when}: NO SUBMISSION: no *test_challenges*.json under {root() / 'input'}: is {competition} attached?")
        return "no submission: no test file"
    try:
        needed, held = answers_needed(challenges), held_answers()
        whole, answered = {}, 0
        for task_id, n in needed.items():
            kept = held.get(task_id)
            kept = kept if isinstance(kept, list) and len(kept) == n and all(map(is_answer, kept)) else None
            whole[task_id] = kept or [{"attempt_1": GRID, "attempt_2": GRID} for _ in range(n)]
            answered += any(answer[name] != GRID for answer in whole[task_id] for name in answer)
        if whole != held:
            replace_text(working() / "submission.json", json.dumps(whole, separators=(",", ":")))
        line = f"{when}: submission.json is valid for {challenges.name}, {answered} of {len(needed)} tasks are answered"
    except (OSError, ValueError, AttributeError) as error:
        line = f"{when}: NO SUBMISSION: {challenges}: {error}"
    say(line)
    return line


def held_answers() -> dict:
    """What submission.json holds; {} where there is none, or none that can be read."""
    try:
        held = json.loads((working() / "submission.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def is_answer(answer: object) -> bool:
    """Whether it is {"attempt_1": grid, "attempt_2": grid}."""
    names = ("attempt_1", "attempt_2")
    return isinstance(answer, dict) and set(answer) == set(names) and all(is_grid(answer[name]) for name in names)


def is_grid(grid: object) -> bool:
    """Whether it is a rectangle of 1 to 30 by 1 to 30 integers 0 to 9."""
    if not isinstance(grid, list) or not 1 <= len(grid) <= SIDE:
        return False
    if not all(isinstance(row, list) and 1 <= len(row) <= SIDE and len(row) == len(grid[0]) for row in grid):
        return False
    return all(type(cell) is int and 0 <= cell <= 9 for row in grid for cell in row)


def replace_text(path: Path, text: str) -> None:
    """Replace a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(text)
    os.replace(draft, path)


# --- GPUs


def check_gpus(run=subprocess.run) -> list:
    """The names of the GPUs that do one real operation, in a process of its own, which may crash or hang.

    A P100 is visible to an image whose torch cannot use it. Where any GPU fails, all are hidden: the run goes on, on
    the CPU, and says so in its first minute.
    """
    if not glob.glob("/dev/nvidia[0-9]*"):
        say("no GPU")
        return []
    try:
        done = run([sys.executable, "-c", GPU_CHECK], capture_output=True, text=True, timeout=180)
        names, failure = done.stdout.split("\n")[:-1], done.stderr.strip().split("\n")[-1] if done.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        names, failure = [], str(error)
    if names and not failure:
        say("GPUs that work: " + ", ".join(names))
        return names
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    say(f"GPU DOES NOT WORK, THE CPU IS TAKEN: {failure or 'torch sees none'} (choose machine_shape NvidiaTeslaT4)")
    return []


# --- what is installed


def find_bundle(sha256: str) -> Path | None:
    """The folder of our dataset, in either mount layout; one that is of this notebook's state before any other."""
    mounts = root() / "input"
    files = [f for p in ("*/manifest.json", "datasets/*/*/manifest.json") for f in sorted(mounts.glob(p))]
    ours = [file.parent for file in files if read_manifest(file.parent).get("bundle") == MARK]
    ours.sort(key=lambda folder: sha256 not in read_manifest(folder)["files"].values())
    if not ours:
        say("the dataset is not attached: no wheels, no embedded model")
    return ours[0] if ours else None


def read_manifest(folder: Path) -> dict:
    """A dataset's manifest, {} where it is not one."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else {}


def install(folder: Path, wheel: str, sha256: str, needs: list) -> list:
    """Install our wheel and the wanted third-party ones that the image lacks; returns the names of those installed.

    A file whose hash is not the manifest's is left out, and so is a wheel of ours of another state than this notebook.
    """
    manifest, wanted = read_manifest(folder), {}
    if manifest["files"].get(wheel) == sha256:
        wanted["arc-helpers"] = wheel
    else:
        say("the dataset is STALE: its arc_helpers is not this notebook's")
    for name in needs:
        entry = manifest.get("wheels", {}).get(name)
        if entry is None:
            say(f"{name} is not in the dataset")
        elif not have(name, entry["version"]):
            wanted[name] = entry["file"]
    sound = {}
    for name, file in wanted.items():
        if hash_of(folder / file) == manifest["files"].get(file):
            sound[name] = folder / file
        else:
            say(f"{file} is DAMAGED or missing: left out")
    return pip(sound)


def pip(wheels: dict) -> list:
    """Install wheel files, all at once; where that fails, one by one, so that a bad one costs itself only."""
    if not wheels:
        return []
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--quiet"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", *map(str, wheels.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        say("installed " + ", ".join(wheels))
        return list(wheels)
    if len(wheels) == 1:
        say(f"{next(iter(wheels))} could not be installed: {(done.stderr.strip() or '?').splitlines()[-1]}")
        return []
    return [name for one in wheels.items() for name in pip(dict([one]))]


def have(name: str, version: str) -> bool:
    """Whether a package is installed, not older than a version."""

    def numbers(text: str) -> list:
        return [int(part) for part in text.split("+")[0].split(".") if part.isdigit()]

    try:
        return numbers(importlib.metadata.version(name)) >= numbers(version)
    except importlib.metadata.PackageNotFoundError:
        return False


def hash_of(path: Path) -> str | None:
    """sha256 of a file, None where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def use_embedded(archive: zipfile.ZipFile) -> str:
    """Unpack the copy of `arc_helpers` in the notebook and import from it."""
    folder = root() / "temp" / "arc_helpers_embedded"  # not under working, where every file becomes an output
    folder.mkdir(parents=True, exist_ok=True)
    archive.extractall(folder)
    sys.path.insert(0, str(folder))
    say("arc_helpers is the copy in this notebook")
    return str(folder)


# --- cells that cannot end a scored run


def guard_cells() -> None:
    """Define the cell magic `%%guarded`: in the scored rerun, a cell that fails leaves the submission as it is, and
    the cells after it are left out; in any other run it fails as always."""
    shell = _shell()
    if shell is None:
        return
    failed = []

    def guarded(line: str, cell: str) -> None:
        if failed:
            print("left out, since a cell before failed")
            return
        shown, shell.showtraceback = shell.showtraceback, lambda *args, **options: None
        try:
            result = shell.run_cell(cell)
        finally:
            shell.showtraceback = shown
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            return
        if not is_rerun():
            raise error
        failed.append(error)
        say(f"THIS CELL FAILED, the submission stays as it is: {type(error).__name__}: {error}")
        text = "".join(traceback.format_exception(error))
        print(text)
        with open(working() / REPORT / "errors.log", "a", encoding="utf-8") as file:
            file.write(text)

    shell.register_magic_function(guarded, "cell", "guarded")


def _shell():
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None

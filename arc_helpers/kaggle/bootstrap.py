"""The first code cell of a kernel on Kaggle: a valid submission first, then wheels, then everything else.

It runs before anything of ours is installed, so it is text inside the notebook (`bundle.py` puts it there) and knows
the standard library only. Nothing in it may end the run: what fails is said in one line, and costs itself.
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
MAX_BYTES = 2**30  # of a JSON file that is looked at
MAX_FILES = 100_000  # of a mount that are looked at
REPORT = "report"  # beside submission.json, which stands alone at the top of the working folder
GPU_CHECK = """
import torch
for i in range(torch.cuda.device_count()):
    x = torch.ones(8, 8, device=f"cuda:{i}")
    assert (x @ x).sum().item() == 512
    print(torch.cuda.get_device_name(i))
"""


def start(*, wheel: str, sha256: str, needs: list, competition: "str | None", git: str = "unknown") -> None:
    """Prepare the kernel: fallback submission, one real operation on every GPU, wheels, `arc_helpers`.

    wheel, sha256, git: file name, hash and commit of the wheel of this notebook's state. needs: names of the
    third-party packages this kernel wants from the dataset. competition: its slug, or None.
    """
    os.environ.setdefault(STARTED, str(time.time()))
    os.environ["HF_HUB_OFFLINE"] = "1"  # a try to reach the hub would wait for a network that is not there
    report: dict = {"rerun": is_rerun(), "fallback": survive(write_fallback, competition, otherwise="none")}
    report["gpus"] = survive(check_gpus, otherwise=[])
    os.environ[GPUS] = str(len(report["gpus"]))
    folder = survive(find_bundle, sha256, otherwise=None)
    report["dataset"] = str(folder) if folder else None
    report["installed"] = survive(install, folder, wheel, sha256, needs, git, otherwise=[]) if folder else []
    importlib.invalidate_caches()
    survive(guard_cells, otherwise=None)
    report["seconds"] = round(time.time() - float(os.environ[STARTED]), 1)
    (working() / REPORT).mkdir(parents=True, exist_ok=True)
    (working() / REPORT / "bootstrap.json").write_text(json.dumps(report, indent=2) + "\n")
    say(f"ready after {report['seconds']} s")


def survive(step, *args, otherwise):
    """What a step returns; whatever is wrong with what it looked at is said and costs this step alone."""
    try:
        return step(*args)
    except Exception as error:
        say(f"{step.__name__} FAILED: {type(error).__name__}: {error}")
        return otherwise


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


# --- what the competition wants


def find_mount(competition: "str | None") -> "Path | None":
    """The folder of the named competition, in the newer or the older mount layout; never another's."""
    places = [root() / "input" / layout / competition for layout in ("competitions", "")] if competition else []
    return next((place for place in places if place.is_dir()), None)


def json_files(folder: Path) -> list:
    """Every *.json under a folder, the highest first, without dot files and __MACOSX; MAX_FILES are looked at."""
    found, looked_at = [], 0
    for here, folders, names in os.walk(folder, followlinks=True):
        looked_at += len(folders) + len(names)
        if looked_at > MAX_FILES:
            say(f"{folder}: only its first {MAX_FILES:,} files are looked at")
            break
        folders[:] = [] if len(Path(here).parts) > len(folder.parts) + 12 else sorted(folders)  # a link to itself
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        found += [Path(here, name) for name in names if name.lower().endswith(".json") and not name.startswith(".")]
    return sorted(found, key=lambda path: (len(path.parts), str(path)))


def read_json(path: Path):
    """The value in a file; None, and a line, where there is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        say(f"{path.name} is left out: {type(error).__name__}: {str(error)[:100]}")
        return None


def answers_wanted(content: object) -> "dict | None":
    """{id: number of answers} of a sample submission, None where it is none."""
    if not isinstance(content, dict) or not content or not all(isinstance(v, list) for v in content.values()):
        return None
    like = [answer for answers in content.values() for answer in answers[:1]]
    if not all(isinstance(answer, dict) and "attempt_1" in answer for answer in like):
        return None
    return {task_id: max(1, len(answers)) for task_id, answers in content.items()}


def questions_asked(content: object) -> "dict | None":
    """{id: number of test inputs} of a challenges file or a list of tasks with ids, malformed tasks included; None
    where it is neither."""
    if isinstance(content, list) and all(isinstance(t, dict) and isinstance(t.get("id"), str) for t in content):
        content = {task["id"]: task for task in content}
    if not isinstance(content, dict) or not any(isinstance(t, dict) and "test" in t for t in content.values()):
        return None
    tests = {task_id: task.get("test") if isinstance(task, dict) else None for task_id, task in content.items()}
    return {task_id: max(1, len(test)) if isinstance(test, list) else 1 for task_id, test in tests.items()}


def read_sample(mount: Path) -> "dict | None":
    """{id: number of answers} of the mount's sample submission, the authority on both; None where there is none."""
    for path in json_files(mount):
        if "sample" in path.name.lower() and (wanted := answers_wanted(read_json(path))):
            return wanted
    return None


def choose_challenges(mount: Path, wanted: "dict | None") -> "tuple[Path | None, dict]":
    """The mount's test file and its {id: number of test inputs}: the file that shares most ids with the sample
    submission; without one the file that is called so, or the only one."""
    found = {}
    for path in json_files(mount):
        if "solution" not in path.name.lower() and "sample" not in path.name.lower():
            asked = questions_asked(read_json(path))
            if asked:
                found[path] = asked
    if wanted is None:
        named = {path: asked for path, asked in found.items() if "test" in path.name.lower()}
        found = named or (found if len(found) == 1 else {})

    def fit(path: Path) -> tuple:
        same = sum(wanted.get(task_id) == n for task_id, n in found[path].items()) if wanted else 0
        shared = len(set(wanted) & set(found[path])) if wanted else 1
        return shared, same, -len(found[path]), "test" in path.name.lower()

    fitting = sorted((path for path in found if fit(path)[0]), key=fit, reverse=True)
    if not fitting:
        return None, {}
    best = [path for path in fitting if fit(path)[:3] == fit(fitting[0])[:3]]
    if len(best) > 1:
        say(f"{' and '.join(path.name for path in best)} both match: {fitting[0].name} is taken")
    return fitting[0], found[fitting[0]]


def find_challenges(competition: "str | None") -> "Path | None":
    """The test file of the named competition's mount, or None."""
    mount = find_mount(competition)
    return choose_challenges(mount, read_sample(mount))[0] if mount else None


# --- the submission, before and after


def write_fallback(competition: "str | None") -> str:
    """Make submission.json valid for the mounted test file; answers that are there already are kept."""
    return repair_submission(competition, "fallback")


def finish(competition: "str | None") -> None:
    """The last cell: whatever became of the run, what is submitted is valid."""
    survive(repair_submission, competition, "at the end", otherwise=None)


def repair_submission(competition: "str | None", when: str) -> str:
    """Give every task that the competition wants its answers: those in submission.json that are valid, else the
    fallback. The sample submission says which; without one the test file does. It is written before the test file is
    looked for."""
    if not competition:
        return "no submission: this kernel takes part in no competition"
    mount = find_mount(competition)
    if mount is None:
        line = f"{when}: NO SUBMISSION: {competition} is not attached (nothing of that name under {root() / 'input'})"
        say(line)
        return line
    wanted = read_sample(mount)
    if wanted:
        fill_submission(wanted)
    path, asked = choose_challenges(mount, wanted)
    if wanted is None and asked:
        say(f"there is no sample submission: ids and counts are those of {path.name}")
        wanted = asked
        fill_submission(wanted)
    if wanted is None:
        line = f"{when}: NO SUBMISSION: neither a sample submission nor one test file is in {mount}"
    else:
        held = held_answers()
        answered = sum(any(a[name] != GRID for a in held[i] for name in a) for i in wanted)
        line = f"{when}: submission.json is valid for {len(wanted)} tasks, {answered} are answered"
        line += f"; the tasks are in {path.name}" if path else "; NO TEST FILE MATCHES the sample submission"
        if path and asked != wanted:
            same = sum(asked.get(task_id) == n for task_id, n in wanted.items())
            line += f", WHICH DIFFERS: {same} of {len(wanted)} tasks are as the sample submission has them"
    say(line)
    return line


def fill_submission(wanted: dict) -> None:
    """Write submission.json, unless it is what it should be: {id: number of answers}, valid answers kept."""
    held, whole = held_answers(), {}
    for task_id, n in wanted.items():
        kept = held.get(task_id)
        kept = kept if isinstance(kept, list) and len(kept) == n and all(map(is_answer, kept)) else None
        whole[task_id] = kept or [{"attempt_1": GRID, "attempt_2": GRID} for _ in range(n)]
    if whole != held or not (working() / "submission.json").exists():
        replace_text(working() / "submission.json", json.dumps(whole, separators=(",", ":")))


def held_answers() -> dict:
    """What submission.json holds; {} where there is none, or none that can be read."""
    try:
        held = json.loads((working() / "submission.json").read_bytes())
    except (OSError, ValueError, RecursionError):
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


def find_bundle(sha256: str) -> "Path | None":
    """The folder of our dataset, at any depth of a mount; one of this notebook's state before any other."""
    mounts = root() / "input"
    files = [
        f for f in json_files(mounts) if f.name == "manifest.json" and f.relative_to(mounts).parts[0] != "competitions"
    ]
    ours = [file.parent for file in files if read_manifest(file.parent).get("bundle") == MARK]
    ours.sort(key=lambda folder: sha256 not in read_manifest(folder)["files"].values())
    if not ours:
        say("the dataset is NOT ATTACHED: no arc_helpers, no model. Add Input, your dataset, then run again")
    return ours[0] if ours else None


def read_manifest(folder: Path) -> dict:
    """A dataset's manifest, without the entries that are not as ours are; {} where it is not one."""
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict):
        return {}
    files, wheels = ({} if not isinstance(manifest.get(part), dict) else manifest[part] for part in ("files", "wheels"))
    files = {name: value for name, value in files.items() if isinstance(value, str) and ".." not in Path(name).parts}
    sound = {
        name: entry
        for name, entry in wheels.items()
        if isinstance(entry, dict) and isinstance(entry.get("version"), str) and entry.get("file") in files
    }
    return {**manifest, "files": files, "wheels": sound}


def install(folder: Path, wheel: str, sha256: str, needs: list, git: str = "unknown") -> list:
    """Install our wheel and the wanted third-party ones that the image lacks; returns the names of those installed.

    A file whose hash is not the manifest's is left out. A wheel of ours of another state than this notebook's is taken,
    and said. Where pip fails on ours, it is unpacked.
    """
    manifest, wanted = read_manifest(folder), {}
    own = [name for name in manifest["files"] if name.startswith("arc_helpers-") and name.endswith(".whl")]
    if manifest["files"].get(wheel) == sha256:
        own = [wheel]
    elif own:
        theirs = manifest.get("git", "unknown")
        say(f"the dataset is STALE: its arc_helpers is of {theirs}, this notebook of {git}: attach its newest version")
    wanted.update({"arc-helpers": own[0]} if own else {})
    for name in needs:
        entry = manifest["wheels"].get(name)
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
    done = pip(sound)
    if "arc-helpers" in sound and "arc-helpers" not in done:
        done.append(unpack(sound["arc-helpers"]))
    return done


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


def hash_of(path: Path) -> "str | None":
    """sha256 of a file, None where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def unpack(wheel: Path) -> str:
    """Import from a wheel of ours without pip."""
    folder = root() / "temp" / "arc_helpers_unpacked"  # not under working, where every file becomes an output
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    sys.path.insert(0, str(folder))
    say(f"arc_helpers is unpacked from {wheel.name}")
    return "arc-helpers, unpacked"


# --- cells that cannot end a scored run


def guard_cells() -> None:
    """Define the cell magic `%%guarded`: in the scored rerun, a cell that fails leaves the submission as it is, and
    the cells after it are left out; in any other run it fails as always. `%%guarded teaching`: the scored rerun leaves
    it out, and elsewhere its failure ends nothing."""
    shell = _shell()
    if shell is None:
        return
    failed = []

    def guarded(line: str, cell: str) -> None:
        teaching = line.strip() == "teaching"
        if failed or (teaching and is_rerun()):
            print("left out, since " + ("a cell before failed" if failed else "it teaches, and this run is scored"))
            return
        shown, shell.showtraceback = shell.showtraceback, lambda *args, **options: None
        try:
            result = shell.run_cell(cell)
        finally:
            shell.showtraceback = shown
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            return
        if teaching:
            return say(f"A TEACHING CELL FAILED, the work goes on: {type(error).__name__}: {error}")
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

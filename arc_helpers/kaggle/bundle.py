"""From the repository to what is uploaded: a dataset with wheels and a model, and a folder a kernel."""

import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.kaggle import bootstrap
from arc_helpers.kaggle.bootstrap import MARK
from arc_helpers.kaggle.effective import check_parameters_cell
from arc_helpers.kaggle.kernels import NOBODY, TABLE, Kernel, Table, missing_wheels, read_table
from arc_helpers.kaggle.wheels import (
    KAGGLE_PYTHON,
    WHEELS,
    build_own,
    fetch,
    package_files,
    pinned,
    sha256,
)
from arc_helpers.runs import ConfigError, atomic_write_json, built_folder, git_version, project_root, resolve_path
from arc_helpers.runs.notebook import EXERCISE, REST, SOLUTION, TEACHING, TOP

BUILD = "kaggle/build"
MAX_NOTEBOOK = 1_000_000  # bytes; Kaggle refuses sources from 1 MB on
PARAMETERS = {TOP, REST, "injected-parameters"}
UNTAGGED = {"cell_type": "code", "execution_count": None, "outputs": []}

BOOTSTRAP = """\
# Kaggle: a valid submission first, then what the attached dataset brings. The story goes on below this cell. The text
# is arc_helpers/kaggle/bootstrap.py, which runs before anything of ours is installed.
import sys, types

bootstrap = sys.modules["bootstrap"] = types.ModuleType("bootstrap")
exec(r'''
{source}
''', vars(bootstrap))
bootstrap.start(wheel={wheel!r}, sha256={sha256!r}, git={git!r},
                needs={needs!r}, competition={competition!r})
"""
MODE = """\
from arc_helpers.kaggle import submission_mode

globals().update(submission_mode.parameters(globals(), notebook={notebook!r}, competition={competition!r},
                                            hours={hours!r}, commit_minutes={commit_minutes!r}))
"""
FINISH = "bootstrap.finish({competition!r})\n"


@dataclass(frozen=True)
class Bundle:
    """What a build made: the dataset's folder, {slug: folder} of the kernels, and a line for each that was left out."""

    dataset: Path
    kernels: Mapping[str, Path]
    left_out: tuple[str, ...]
    seconds: float
    wheel_bytes: int


def build(
    folder: str | Path = BUILD, *, python: str = KAGGLE_PYTHON, user: str | None = None, table: Table | None = None
) -> Bundle:
    """Make `folder` anew. python: the version the wheels are for. user: the Kaggle account that will own it all.

    A kernel whose notebook does not exist is left out and named. Raises ConfigError, one line, on everything else.
    """
    start, folder, table = time.monotonic(), resolve_path(folder), table or read_table()
    kernels, left_out = _with_notebooks(table)
    versions = pinned()
    if missing := missing_wheels(table.kernels, versions):
        raise ConfigError(f"{TABLE}: wheels: {', '.join(missing)} not in {WHEELS}")
    folder = built_folder(folder, "kaggle bundle")
    files = package_files()
    own, wheel_bytes = write_dataset(folder / "dataset", table, files, versions, python, user)
    folders = {k.slug: write_kernel(folder / k.slug, k, table, own, user) for k in kernels}
    return Bundle(folder / "dataset", folders, tuple(left_out), time.monotonic() - start, wheel_bytes)


def write_dataset(
    folder: Path,
    table: Table,
    files: Mapping[str, bytes],
    versions: Mapping[str, str],
    python: str,
    user: str | None,
) -> tuple[Path, int]:
    """The dataset: wheels, models, manifest.json, dataset-metadata.json. Returns our wheel and the wheels' bytes."""
    own = build_own(folder, files)
    wheels = fetch(folder, dict(versions), python)
    for model in table.dataset.models:
        source = resolve_path(model)
        if not (source / "config.json").is_file():
            raise ConfigError(f"{TABLE}: dataset.models: {model}: no such model folder ({source})")
        shutil.copytree(source, folder / model)
    hashes = {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {
        "bundle": MARK,
        "python": python,
        "git": git_version(),
        "source": source_sha256(),
        "wheels": {name: {"version": versions[name], "file": path.name} for name, path in wheels.items()},
        "files": hashes,
    }
    atomic_write_json(folder / "manifest.json", manifest)
    about = {
        "title": table.dataset.title,
        "id": f"{user or NOBODY}/{table.dataset.slug}",
        "licenses": [{"name": name} for name in table.dataset.licenses],
    }
    atomic_write_json(folder / "dataset-metadata.json", about)
    return own, sum(path.stat().st_size for path in folder.glob("*.whl"))


def write_kernel(folder: Path, kernel: Kernel, table: Table, own: Path, user: str | None) -> Path:
    """One kernel's folder: the notebook with its parameters and our cells, and its metadata."""
    import papermill

    notebook, values = kernel.checked()
    folder.mkdir(parents=True)
    target = folder / f"{kernel.slug}.ipynb"
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of every `int | None` that it cannot read
    papermill.execute_notebook(notebook.path, target, values, prepare_only=True, progress_bar=False)
    prepared = json.loads(target.read_text(encoding="utf-8"))
    prepared["metadata"].pop("papermill", None)  # paths of this machine
    add_cells(prepared, kernel, notebook.name, own)
    text = json.dumps(prepared, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MAX_NOTEBOOK:
        raise ConfigError(f"{target.name}: {len(text.encode()):,} bytes, Kaggle takes {MAX_NOTEBOOK:,}")
    target.write_text(text, encoding="utf-8")
    atomic_write_json(folder / "kernel-metadata.json", kernel.metadata(user, table.dataset))
    return folder


def add_cells(notebook: dict[str, Any], kernel: Kernel, name: str, own: Path) -> None:
    """Put the bootstrap under the title, submission mode after the parameters, the last check last; guard the rest.

    Exercises are for readers: a submission has none.
    """
    own_facts = {"wheel": own.name, "sha256": sha256(own), "needs": kernel.wheels, "competition": kernel.competition}
    facts = {**kernel.model_dump(), **own_facts, "notebook": name}
    facts |= {"source": Path(bootstrap.__file__).read_text(encoding="utf-8").strip(), "git": git_version()}
    cells = [cell for cell in notebook["cells"] if not {EXERCISE, SOLUTION} & set(cell["metadata"].get("tags", []))]
    notebook["cells"] = cells
    injected = [i for i, cell in enumerate(cells) if "injected-parameters" in cell["metadata"].get("tags", [])]
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    after = (injected or tagged)[-1] + 1
    for cell in cells:
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "code" and not PARAMETERS & tags:
            how = "%%guarded teaching\n" if TEACHING in tags else "%%guarded\n"
            cell["source"] = how + "".join(cell["source"])
    cells.insert(after, _cell("submission-mode", "%%guarded\n" + MODE.format(**facts)))
    start = _cell("bootstrap", BOOTSTRAP.format(**facts))
    start["metadata"] |= {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}
    cells.insert(1, start)  # below the title
    cells.append(_cell("finish", FINISH.format(**facts)))


def source_sha256() -> str:
    """Of everything that a bundle is made from: code, profiles, notebooks, the two lists, the models' cards."""
    root = project_root()
    files = {name: sha256(content) for name, content in package_files().items()}
    for pattern in ("notebooks/*.ipynb", TABLE, WHEELS, "models/arc-*/*"):
        files |= {str(path.relative_to(root)): sha256(path) for path in sorted(root.glob(pattern)) if path.is_file()}
    return sha256(json.dumps(files, sort_keys=True).encode())


def _with_notebooks(table: Table) -> tuple[list[Kernel], list[str]]:
    """The kernels that can be built, and a line for each whose notebook is not there."""
    kernels, left_out = [], []
    for kernel in table.kernels:
        try:
            notebook, _ = kernel.checked()
            check_parameters_cell(notebook)
        except ConfigError as error:
            if not str(error).startswith("notebook = "):
                raise ConfigError(f"{TABLE}: {kernel.slug}: {error}") from None
            left_out.append(f"left out {kernel.slug}: there is no notebook {kernel.notebook}")
        else:
            kernels.append(kernel)
    return kernels, left_out


def _cell(name: str, source: str) -> dict[str, Any]:
    return {**UNTAGGED, "id": name, "metadata": {"tags": [name]}, "source": source.rstrip("\n")}


def describe(bundle: Bundle) -> Iterable[str]:
    """What was built, for people."""
    wheels = sorted(bundle.dataset.glob("*.whl"), key=lambda path: -path.stat().st_size)
    yield f"{bundle.dataset}: {len(wheels)} wheels, {bundle.wheel_bytes / 1e6:.1f} MB without models"
    heavy = sum(path.stat().st_size for path in wheels if path.name.startswith(("bitsandbytes-", "ray-")))
    yield f"  {(bundle.wheel_bytes - heavy) / 1e6:.1f} MB without bitsandbytes and ray"
    for slug, folder in bundle.kernels.items():
        yield f"{folder}: {(folder / f'{slug}.ipynb').stat().st_size / 1e3:.0f} kB"
    yield from bundle.left_out
    yield f"built in {bundle.seconds:.1f} s"

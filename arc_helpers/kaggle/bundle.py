"""From the repository to what is uploaded: a dataset with wheels and a model, and a folder a kernel."""

import base64
import json
import logging
import shutil
import textwrap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.kaggle.bootstrap import MARK
from arc_helpers.kaggle.kernels import NOBODY, TABLE, Kernel, Table, missing_wheels, read_table
from arc_helpers.kaggle.wheels import (
    KAGGLE_PYTHON,
    WHEELS,
    build_own,
    embedded_copy,
    fetch,
    package_files,
    pinned,
    sha256,
)
from arc_helpers.runs import ConfigError, atomic_write_json, built_folder, git_version, project_root, resolve_path

BUILD = "kaggle/build"
MAX_NOTEBOOK = 1_000_000  # bytes; Kaggle refuses sources from 1 MB on
UNTAGGED = {"cell_type": "code", "execution_count": None, "outputs": []}

BOOTSTRAP = '''\
# A valid submission first, then wheels from the attached dataset; COPY is the source of arc_helpers (a zip), for when
# the dataset is missing or of another state. arc_helpers/kaggle/bootstrap.py is what runs here.
import base64, io, sys, types, zipfile

COPY = """
{copy}
"""
archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(COPY)))
bootstrap = sys.modules["bootstrap"] = types.ModuleType("bootstrap")
exec(archive.read("arc_helpers/kaggle/bootstrap.py"), vars(bootstrap))
bootstrap.start(archive, wheel={wheel!r}, sha256={sha256!r},
                needs={needs!r}, competition={competition!r})
'''
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
    files = package_files()  # once, so that wheel and copy are of one state
    own, wheel_bytes = write_dataset(folder / "dataset", table, files, versions, python, user)
    copy = embedded_copy(files)
    folders = {k.slug: write_kernel(folder / k.slug, k, table, own, copy, user) for k in kernels}
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


def write_kernel(folder: Path, kernel: Kernel, table: Table, own: Path, copy: bytes, user: str | None) -> Path:
    """One kernel's folder: the notebook with its parameters and our cells, and its metadata."""
    import papermill

    notebook, values = kernel.checked()
    folder.mkdir(parents=True)
    target = folder / f"{kernel.slug}.ipynb"
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of every `int | None` that it cannot read
    papermill.execute_notebook(notebook.path, target, values, prepare_only=True, progress_bar=False)
    prepared = json.loads(target.read_text(encoding="utf-8"))
    prepared["metadata"].pop("papermill", None)  # paths of this machine
    add_cells(prepared, kernel, notebook.name, own, copy)
    text = json.dumps(prepared, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MAX_NOTEBOOK:
        raise ConfigError(f"{target.name}: {len(text.encode()):,} bytes, Kaggle takes {MAX_NOTEBOOK:,}")
    target.write_text(text, encoding="utf-8")
    atomic_write_json(folder / "kernel-metadata.json", kernel.metadata(user, table.dataset))
    return folder


def add_cells(notebook: dict[str, Any], kernel: Kernel, name: str, own: Path, copy: bytes) -> None:
    """Put the bootstrap first, submission mode after the parameters, the last check last; guard what is between."""
    own_facts = {"wheel": own.name, "sha256": sha256(own), "needs": kernel.wheels, "competition": kernel.competition}
    facts = {**kernel.model_dump(), **own_facts, "notebook": name}
    facts["copy"] = "\n".join(textwrap.wrap(base64.b64encode(copy).decode(), 120))
    cells = notebook["cells"]
    injected = [i for i, cell in enumerate(cells) if "injected-parameters" in cell["metadata"].get("tags", [])]
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    after = (injected or tagged)[-1] + 1
    for cell in cells[after:]:
        if cell["cell_type"] == "code":
            cell["source"] = "%%guarded\n" + "".join(cell["source"])
    cells.insert(after, _cell("submission-mode", "%%guarded\n" + MODE.format(**facts)))
    cells.insert(0, _cell("bootstrap", BOOTSTRAP.format(**facts)))
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
            kernel.checked()
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

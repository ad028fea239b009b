"""Push, look, fetch, submit: the official client with the checks that it does not make."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_helpers.kaggle.bundle import BUILD, source_sha256
from arc_helpers.kaggle.effective import effective_lines, forecast_line
from arc_helpers.kaggle.kernels import NOBODY, Kernel, Table, read_table
from arc_helpers.kaggle.wheels import carried
from arc_helpers.runs import ConfigError, atomic_write_json, git_version, load_profile, resolve_path
from arc_helpers.runs.config import section

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

PUSHED = "pushed.json"  # what was sent last: {slug: version}, and the dataset's manifest
READY_SECONDS = 900  # how long a new dataset version may take until kernels see it


def user_name() -> str | None:
    """The Kaggle account: KAGGLE_USERNAME, or the name (never the key) in ~/.kaggle/kaggle.json."""
    if os.environ.get("KAGGLE_USERNAME"):
        return os.environ["KAGGLE_USERNAME"]
    try:
        return json.loads((Path.home() / ".kaggle/kaggle.json").read_text(encoding="utf-8")).get("username")
    except (OSError, ValueError):
        return None


def connect() -> "KaggleApi":
    """The official client, signed in. Raises ConfigError, one line."""
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError:
        raise ConfigError("the kaggle client is not installed: pip install -e '.[kaggle]'") from None
    api = KaggleApi()
    try:
        api.authenticate()
    except (SystemExit, OSError) as error:  # it prints a page of help and leaves
        raise ConfigError(f"Kaggle did not accept a token (KAGGLE_API_TOKEN, ~/.kaggle/): {error}") from None
    return api


def check_push(slug: str, folder: Path, table: Table) -> dict[str, Any]:
    """The metadata of a kernel that may be pushed. Raises ConfigError, one line, at the first thing that is wrong."""
    kernel, built = table.kernel(slug), folder / slug
    manifest = folder / "dataset/manifest.json"
    if not manifest.is_file() or not (built / "kernel-metadata.json").is_file():
        raise ConfigError(f"{built}: is not built: make kaggle-bundle")
    metadata = json.loads((built / "kernel-metadata.json").read_text(encoding="utf-8"))
    if metadata["id"].startswith(NOBODY):
        raise ConfigError("KAGGLE_USERNAME was not set when the bundle was made: set it, then make kaggle-bundle")
    git = git_version()
    if git == "unknown" or git.endswith("-dirty"):
        raise ConfigError(f"the working tree is not committed ({git}): commit first, so that a score has a source")
    if json.loads(manifest.read_text(encoding="utf-8"))["source"] != source_sha256():
        raise ConfigError(f"{folder}: is older than the sources: make kaggle-bundle")
    if missing := missing_model(kernel, folder / "dataset"):
        raise ConfigError(f"{slug}: model_dir = {missing}: neither in the dataset nor in the row's `models`")
    return metadata


def missing_model(kernel: Kernel, dataset: Path) -> str | None:
    """The model folder that a kernel wants and will not find, or None."""
    notebook, values = kernel.checked()
    knobs = getattr(load_profile(values.get("profile", "laptop")), section(notebook.name))
    model = values.get("model_dir") or getattr(knobs, "model_dir", None)
    attached = [f"models/{source}" for source in kernel.models]
    if model is None or model in attached or (dataset / model / "config.json").is_file():
        return None
    if any(f"{model}/".startswith(pattern.split("*")[0]) for pattern in carried()):  # in our wheel
        return None
    return model


def push(slug: str, *, folder: str | Path = BUILD, dry_run: bool = False, api: "KaggleApi | None" = None) -> Iterator:
    """Send the dataset, if it has changed, and one kernel; yields lines. A dry run says what would be sent."""
    folder, table = resolve_path(folder), read_table()
    metadata = check_push(slug, folder, table)
    kernel, dataset = table.kernel(slug), folder / "dataset"
    pushed = read_pushed(folder)
    changed = pushed.get("dataset") != _text(dataset / "manifest.json")
    yield from describe_push(metadata, folder / slug, dataset, changed, kernel)
    if dry_run:
        yield "dry run: nothing was sent"
        return
    api = api or connect()
    if changed:
        yield f"dataset: {send_dataset(api, dataset)}"
        pushed["dataset"] = _text(dataset / "manifest.json")
        atomic_write_json(folder / PUSHED, pushed)
    answer = api.kernels_push(str(folder / slug), str(int(kernel.hours * 3600)))
    if answer.error:
        raise ConfigError(f"{slug}: Kaggle refused it: {answer.error}")
    kinds = ("dataset", "competition", "kernel", "model")
    refused = [source for kind in kinds for source in getattr(answer, f"invalid_{kind}_sources") or []]
    pushed[slug] = answer.version_number
    atomic_write_json(folder / PUSHED, pushed)
    yield f"{metadata['id']}: version {answer.version_number} is running: {answer.url}"
    yield from (f"NOT ATTACHED: {source}" for source in refused)


def describe_push(metadata: Mapping[str, Any], built: Path, dataset: Path, changed: bool, kernel: Kernel) -> Iterator:
    """What a push sends: sizes, what is attached, every parameter that it runs with, and how long that may take."""
    size = sum(path.stat().st_size for path in dataset.rglob("*") if path.is_file())
    about = json.loads(_text(dataset / "dataset-metadata.json"))
    yield f"dataset {about['id']}: {size / 1e6:.1f} MB, {'is to be sent' if changed else 'is as it was sent last'}"
    code = (built / metadata["code_file"]).stat().st_size
    yield f"kernel {metadata['id']}: {code / 1e3:.0f} kB, limit {kernel.hours:g} h"
    yield from (f"  {name}: {value}" for name, value in metadata.items())
    yield "runs with:"
    yield from effective_lines(kernel)
    yield forecast_line(kernel)


def send_dataset(api: "KaggleApi", folder: Path) -> str:
    """Create the dataset or a new version of it, folders included, and wait until kernels can see it."""
    name = json.loads(_text(folder / "dataset-metadata.json"))["id"]
    answer = api.dataset_create_new(str(folder), quiet=True, dir_mode="zip")
    if answer.error:  # it is there already
        git = json.loads(_text(folder / "manifest.json"))["git"]
        answer = api.dataset_create_version(str(folder), git, quiet=True, dir_mode="zip")
    if answer.error:
        raise ConfigError(f"{name}: Kaggle refused it: {answer.error}")
    until = time.monotonic() + READY_SECONDS
    while (status := str(api.dataset_status(name)).lower()) != "ready":
        if time.monotonic() > until:
            raise ConfigError(f"{name}: is still {status} after {READY_SECONDS} s: push again later")
        time.sleep(10)
    return f"{name} is ready"


def status(slug: str, api: "KaggleApi | None" = None) -> str:
    """A kernel's state, and its failure if it has one."""
    name = full_name(slug)
    answer = (api or connect()).kernels_status(name)
    return f"{name}: {answer.status}" + (f": {answer.failure_message}" if answer.failure_message else "")


def logs(slug: str, api: "KaggleApi | None" = None) -> str:
    """What a kernel printed; the bootstrap's lines come first."""
    return (api or connect()).kernels_logs(full_name(slug))


def output(slug: str, folder: str | Path = "artifacts/kaggle", api: "KaggleApi | None" = None) -> Path:
    """Fetch what a kernel wrote; returns the folder."""
    target = resolve_path(folder) / slug
    (api or connect()).kernels_output(full_name(slug), str(target), force=True)
    return target


def submit(
    slug: str,
    message: str,
    version: int | None = None,
    *,
    folder: str | Path = BUILD,
    dry_run: bool = False,
    api: "KaggleApi | None" = None,
) -> str:
    """Submit a version of a kernel to its competition, which reruns it on the hidden tasks. version: None means the
    one pushed last. Raises ConfigError, one line."""
    kernel = read_table().kernel(slug)
    if not kernel.competition:
        raise ConfigError(f"{slug}: takes part in no competition (see kaggle/kernels.yaml)")
    version = version or read_pushed(resolve_path(folder)).get(slug)
    if not version:
        raise ConfigError(f"{slug}: was not pushed from here: name a version, V=…")
    what = f"{full_name(slug)}, version {version}, submission.json, to {kernel.competition}: {message}"
    if dry_run:
        return f"dry run: would submit {what}"
    answer = (api or connect()).competition_submit_code(
        "submission.json", message, kernel.competition, full_name(slug), version, quiet=True
    )
    return f"submitted {what}: {answer.message}"


def full_name(slug: str) -> str:
    """owner/slug of one of our kernels. Raises ConfigError, one line."""
    read_table().kernel(slug)
    user = user_name()
    if not user:
        raise ConfigError("KAGGLE_USERNAME is not set")
    return f"{user}/{slug}"


def read_pushed(folder: Path) -> dict[str, Any]:
    """What was sent from this folder last."""
    return json.loads(_text(folder / PUSHED)) if (folder / PUSHED).is_file() else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")

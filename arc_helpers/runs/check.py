"""What can be known to be wrong before the work begins: the same for `check` and the start of every run. No torch."""

import ast
import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from arc_helpers.runs.config import ConfigError
from arc_helpers.runs.env import detect, output_path, resolve_path
from arc_helpers.runs.explain import show
from arc_helpers.runs.fingerprint import code_fingerprint, fingerprint
from arc_helpers.runs.folder import RunFolder, check_built
from arc_helpers.runs.knobs import Knobs, RunKnobs
from arc_helpers.runs.log import versions

ROOM = 0.2  # GiB that a run may write besides what its knobs allow it
MODELS = ("model_dir", "base", "drafter_dir", "lm_dir", "text_model")  # knobs that name a model with its tokenizer
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. bad: with it, the run would fail."""

    about: str
    text: str
    bad: bool = False


def open_folder(notebook: str, own: RunKnobs, config: Knobs) -> RunFolder:
    """The folder of a notebook's run, with what the run depends on. It is not opened yet."""
    env = detect()
    asked = {"seed": own.seed, **{k: v for k, v in config.model_dump().items() if k not in config.may_change}}
    found: dict[str, Any] = {"code": code_fingerprint()}
    found |= {f"version of {name}": version for name, version in versions().items() if name in ("torch", "numpy")}
    for name in config.inputs:
        path = resolve_path(getattr(config, name) or "")
        if getattr(config, name) and path.exists():
            found[f"what {name} names"] = fingerprint(path)
    path = output_path(own.out_dir or Path("artifacts") / notebook)
    return RunFolder(path, notebook, asked, found, goes_on=config.goes_on, ours=env.on_kaggle)


def require(notebook: str, own: RunKnobs, config: Knobs) -> list[Finding]:
    """All findings; raises ConfigError, one line, with the first that is bad. On Kaggle it is printed instead: a scored
    run tries all the same."""
    findings = list(examine(notebook, own, config))
    for finding in findings:
        if finding.bad and detect().on_kaggle:
            print(f"{finding.about}: {finding.text}")
        elif finding.bad:
            raise ConfigError(f"{finding.about}: {finding.text}")
    return findings


def examine(notebook: str, own: RunKnobs, config: Knobs) -> Iterator[Finding]:
    """Look at data, answers, models, folder and disk. Nothing is changed."""
    if config.reader:  # this package knows nothing of what it reads
        yield from _told("data", lambda: (Finding(*found) for found in resolve_name(config.reader)(config)))
    for look in (_models, _folder, _disk):
        yield from _told(look.__name__.strip("_"), partial(look, notebook, own, config))


def _told(about: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except (ValueError, OSError) as error:
        yield Finding(about, " ".join(str(error).split()), bad=True)


def misspelt(cells: list[str], names: list[str]) -> str | None:
    """A line about a name that a parameters cell, or a cell after it, sets and that is nearly a parameter's.

    cells: what the kernel has run, in order; the last run of the parameters cell is the one that counts.
    """
    sets = [{name: value for node in _assignments(cell) for name, value in node} for cell in cells]
    first = max((i for i, found in enumerate(sets) if "profile" in found), default=len(sets))
    for name, value in {n: v for found in sets[first:] for n, v in found.items()}.items():
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        if name not in names and near:
            return f"{name} = {show(value)}: is no parameter; did you mean {near[0]}?"
    return None


def declared(cells: list[str]) -> list[str]:
    """The parameters that a notebook's own two parameters cells declare; [] where none of the cells is one."""
    rest: list[str] = []
    for cell in reversed(cells):
        try:
            body = ast.parse(cell).body
        except SyntaxError:  # a magic
            continue
        names = [ast.unparse(node.target) for node in body if isinstance(node, ast.AnnAssign)]
        if "profile" in names:
            return [*names, *rest]
        rest = names if "seed" in names else rest
    return []


def _assignments(cell: str) -> Iterator[list[tuple[str, Any]]]:
    """Plain values that a cell assigns at its top level."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # a magic
        return
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Constant | ast.UnaryOp):
            yield [(target.id, ast.unparse(value)) for target in targets if isinstance(target, ast.Name)]


def _models(notebook: str, own: RunKnobs, config: Any) -> Iterator[Finding]:
    for name in (*MODELS, "tokenizer", "checkpoint", "trm_checkpoint", "adapter_path", "start_adapter"):
        value = getattr(config, name, None)
        if not value:
            continue
        path = resolve_path(value)
        if name.endswith("checkpoint"):  # a folder or a file of several kinds, which its own door knows
            yield Finding(
                f"{name} = {value}", f"{path}" if path.exists() else f"is not there ({path})", not path.exists()
            )
            continue
        if path.is_dir() and name == "tokenizer":
            there = _has_tokenizer(path)
            yield Finding(f"{name} = {value}", f"{path}" if there else "has no tokenizer (tokenizer.json)", not there)
        elif path.is_dir():
            yield Finding(f"{name} = {value}", *_model_folder(path, tokenizer=name in MODELS))
        elif not path.is_file() and (value.count("/") != 1 or value.startswith(("/", ".", "~", "models/"))):
            yield Finding(f"{name} = {value}", f"no such folder ({path})", bad=True)
        elif not path.is_file():
            offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
            yield Finding(f"{name} = {value}", "is not here: the hub is asked for it, by the network", bad=offline)


def _model_folder(path: Path, tokenizer: bool) -> tuple[str, bool]:
    config = path / "config.json" if (path / "config.json").exists() else path / "adapter_config.json"
    if not config.is_file():
        return f"has no config.json ({path})", True
    if not isinstance(json.loads(config.read_text(encoding="utf-8")), dict):
        return "its config.json is not a mapping", True
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        return "holds no *.safetensors (.bin files are pickles, and not read)", True
    for file in weights:
        if not _is_safetensors(file):
            return f"{file.name} is not a whole safetensors file", True
    tokenizer &= config.name == "config.json"  # an adapter has its base's
    if tokenizer and not _has_tokenizer(path):
        return "has no tokenizer (tokenizer.json)", True
    return f"{sum(file.stat().st_size for file in weights) / 2**20:,.1f} MiB of weights", False


def _has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in TOKENIZERS)


def _is_safetensors(file: Path) -> bool:
    """Whether a file's header fits its size: a download that was cut short does not."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= size - 8:
            return False
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False
    return 8 + length + max(ends, default=0) == size


def _folder(notebook: str, own: RunKnobs, config: Any) -> Iterator[Finding]:
    folder = open_folder(notebook, own, config)
    verdict = folder.judge(own.fresh)
    told = {"new": "a new run", "resume": f"goes on with {verdict.why}", "set aside": "sets the run there aside: "}
    yield Finding("out_dir", f"{folder.path}: {told[verdict.verb]}{verdict.why * (verdict.verb == 'set aside')}")
    named = getattr(config, "out_model", None)
    if named:
        check_built(output_path(named), "a model")


def _disk(notebook: str, own: RunKnobs, config: Any) -> Iterator[Finding]:
    path = output_path(own.out_dir or Path("artifacts") / notebook)
    while not path.exists():
        path = path.parent
    with tempfile.TemporaryFile(dir=path) as probe:  # asks the disk itself: a mount may be read-only for everybody
        probe.write(b"x" * 4096)
    free, need = shutil.disk_usage(path).free / 2**30, ROOM + getattr(config, "cache_disk_gib", 0)
    yield Finding("disk", f"{free:,.1f} GiB are free in {path}, the run may take {need:g}", bad=free < need)


def page(notebook: str, own: RunKnobs, config: Knobs, told: str = "") -> tuple[list[str], bool]:
    """Lines for people, and whether all is well. told: what the notebook says about its time."""
    findings = list(examine(notebook, own, config))
    lines = [f"{'WRONG' if f.bad else 'ok':<6}{f.about}: {f.text}" for f in findings]
    limit = getattr(config, "deadline_seconds", None)
    lines.append(f"{'':<6}time: {told or 'not told'}" + (f"; at most {limit:g} s by deadline_seconds" if limit else ""))
    return lines, not any(finding.bad for finding in findings)

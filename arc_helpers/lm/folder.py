"""What a model folder holds, looked at before anything is built of it: files, sizes, and what it would run."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.lm.catalogue import MODELS, model_folder
from arc_helpers.runs import resolve_path
from arc_helpers.runs.seal import sha256_of

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
JSON_BYTES = 64 * 2**20  # no config or index is as large
#: {size in a config: the largest that is believed}; all are whole numbers from 1 on
SIZES = {
    **dict.fromkeys(("num_hidden_layers", "n_layer"), 1024),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head"), 4096),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 8192),
    **dict.fromkeys(("hidden_size", "n_embd", "head_dim"), 2**18),
    **dict.fromkeys(("intermediate_size", "n_inner", "moe_intermediate_size"), 2**22),
    "vocab_size": 2**24,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "sliding_window"), 2**28),
}
KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
NUMBERS_IN = {"U8": 2, "I8": 2, "I32": 8}  # weights that one number of a quantised file may stand for


class ModelError(ValueError):
    """A model folder that cannot be used; one line: what, where, what is allowed."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder that may be loaded."""

    path: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]  # the safetensors files that are read
    has_code: bool  # it brings Python code of its own, or names some
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name


def inspect_folder(folder: str | Path, *, trust_remote_code: bool = False, speaks: bool = True) -> ModelFolder:
    """Look at a Hugging Face folder of a model. ModelError, one line, for anything that is not to be loaded:

    a missing part, a link that leads out of it, sizes nobody has, weights that are too few for them, shipped weights
    that are not the shipped ones, an adapter, and code, unless trust_remote_code; never code from elsewhere.
    speaks: it has to bring its tokenizer.
    """
    path = resolve_path(folder).resolve()
    if (path / "adapter_config.json").is_file():
        raise ModelError(f"{path}: holds an adapter (adapter_config.json); give the folder of its base instead")
    needed: dict[str, tuple[str, ...]] = {"config.json": ("config.json",)}
    if speaks:
        needed[f"tokenizer ({' or '.join(TOKENIZERS[:2])})"] = TOKENIZERS
    for what, names in needed.items():
        if not any((path / name).is_file() for name in names):
            raise ModelError(f"{path}: has no {what}; a Hugging Face folder needs config, tokenizer and weights")
    _check_links(path)
    config = read_json(path / "config.json")
    _check_sizes(path, config)
    has_code = _check_code(path, trust_remote_code)
    weights = tuple(_weight_files(path))
    _check_budget(path, config, weights)
    _check_shipped(path)
    pickles = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    notes = (f"{pickles[0]} is not read: only safetensors are",) if pickles else ()
    return ModelFolder(path, config, weights, has_code, notes)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a model folder. ModelError, one line, for anything else."""
    try:
        if file.stat().st_size > JSON_BYTES:
            raise ModelError(f"{file}: {file.stat().st_size / 2**20:.0f} MiB of JSON: nothing of a model is as large")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{file}: cannot be read ({str(error).splitlines()[0][:120]})") from None
    if not isinstance(found, dict):
        raise ModelError(f"{file}: must hold a JSON object, not {type(found).__name__}")
    return found


def _check_links(path: Path) -> None:
    """Links may lead within the folder, or, as in Hugging Face's cache, from snapshots/<commit> to its blobs."""
    allowed = [path]
    if path.parent.name == "snapshots":
        allowed.append(path.parent.parent / "blobs")
    for file in path.iterdir():
        target = file.resolve()
        if file.is_symlink() and not any(target.is_relative_to(folder.resolve()) for folder in allowed):
            raise ModelError(f"{file}: is a link that leads out of the folder ({target}); copy the file instead")


def _check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    if not isinstance(config.get("text_config") or {}, Mapping):
        raise ModelError(f"{path}: text_config in its config.json must be an object")
    for where, values in ((("config.json"), config), ("config.json, text_config", config.get("text_config"))):
        if not isinstance(values, Mapping):
            continue
        for name, most in SIZES.items():
            value = values.get(name)
            for size in value if isinstance(value, list) else [value]:
                if size is None or (name == "sliding_window" and size == 0):
                    continue
                if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= most:
                    raise ModelError(f"{path}: {name} = {str(size)[:40]} in its {where}: must be 1 to {most}")


def _check_code(path: Path, trusted: bool) -> bool:
    """Whether there is code; ModelError where it may not be run, or where it would come from elsewhere."""
    named = False
    for file in sorted(path.glob("*.json")):
        if file.name in ("tokenizer.json", "vocab.json") or file.name.endswith(".index.json"):
            continue
        found = read_json(file)
        kernels = [str(value) for key in KERNELS for value in _values(found, key) if "/" in str(value)]
        if kernels:  # transformers would fetch it from the hub, and run it
            raise ModelError(
                f"{file}: names the kernel {kernels[0][:80]!r}, code of another repository, which is not run"
            )
        for auto_map in _values(found, "auto_map"):
            named = True
            elsewhere = [str(value) for value in _leaves(auto_map) if "--" in str(value)]
            if trusted and elsewhere:
                raise ModelError(
                    f"{file}: auto_map names code of another repository ({elsewhere[0][:80]}); only code that lies in "
                    "the folder is run"
                )
    if named and not trusted:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        kind = read_json(path / "config.json").get("model_type")
        if kind not in CONFIG_MAPPING:
            raise ModelError(
                f"{path}: {kind!r} needs Python code of its own (auto_map); only trust_remote_code = true runs it"
            )
    return named


def _values(value: Any, wanted: str) -> Iterator[Any]:
    """What stands under a key in a JSON value, however deep; empty ones are left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == wanted and inner:
                yield inner
            else:
                yield from _values(inner, wanted)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, wanted)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(inner)
    else:
        yield value


def _weight_files(path: Path) -> Iterator[Path]:
    """The files that the loader reads: model.safetensors, or the shards that its index names."""
    whole, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if whole.is_file():
        yield whole
        return
    if not index.is_file():
        raise ModelError(
            f"{path}: has no weights (model.safetensors, or shards with model.safetensors.index.json); a Hugging Face "
            "folder needs config, tokenizer and weights"
        )
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{index}: has no weight_map")
    for name in sorted({str(name) for name in shards.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: names the shard {name[:80]!r}: must be a *.safetensors file of the folder")
        if not (path / name).is_file():
            raise ModelError(f"{path}: the shard {name} is missing")
        yield path / name


def _check_budget(path: Path, config: Mapping[str, Any], weights: tuple[Path, ...]) -> None:
    """The weights are as many numbers and blocks as the config's sizes ask for, at least: else building it would take
    any memory, and the rest would be random numbers."""
    numbers, blocks = 0, 0
    for file in weights:
        for name, kind, count in tensors_in(file):
            numbers += count * NUMBERS_IN.get(kind, 1)
            found = re.search(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.", name)
            blocks = max(blocks, int(found[1]) + 1 if found else 0)
    text = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else config
    layers = text.get("num_hidden_layers", text.get("n_layer"))
    if blocks and isinstance(layers, int) and layers > blocks:
        raise ModelError(f"{path}: num_hidden_layers = {layers} in its config.json, but its weights are of {blocks}")
    wide = text.get("hidden_size", text.get("n_embd"))
    rows, inner = text.get("vocab_size"), text.get("intermediate_size")
    sizes: dict[str, tuple] = {
        "vocab_size × hidden_size": (rows, wide),
        "num_hidden_layers × hidden_size": (layers, wide),
    }
    if not any(name in text for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        sizes["num_hidden_layers × hidden_size × intermediate_size"] = (layers, wide, inner)
    for name, factors in sizes.items():
        if all(isinstance(factor, int) for factor in factors):
            asked = 1
            for factor in factors:
                asked *= factor
            if asked > numbers:
                raise ModelError(
                    f"{path}: {name} = {asked:,} in its config.json, but its weights are {numbers:,} numbers"
                )


def tensors_in(file: Path) -> Iterator[tuple[str, str, int]]:
    """(name, number format, how many numbers) of a safetensors file, by its header, which must fit the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118
                view, count = opened.get_slice(name), 1
                for side in view.get_shape():
                    count *= side
                yield name, view.get_dtype(), count
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: is not a whole safetensors file ({str(error).splitlines()[0][:120]})") from None


def _check_shipped(path: Path) -> None:
    """The weights that the repository ships are those that it was tested with."""
    for model in MODELS:
        if model.sha256 and path == model_folder(model.name).resolve():
            for name, digest in model.sha256.items():
                if (path / name).is_file() and sha256_of(path / name) != digest:
                    raise ModelError(
                        f"{path / name}: is not the file that is shipped (its sha256 differs): git checkout "
                        f"models/{model.name}, or keep your own model in a folder of another name"
                    )

"""The one door: everything that is loaded from a folder comes through here (files of a run: `runs/checkpoint.py`).

safetensors only; nothing missing, nothing left over, every weight a finite number; no code but that of a folder which
the user trusts by name; and the network only where the word `download` was given. `tests/test_door.py` keeps the
loaders' names out of all other modules.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as hf_logging

from arc_helpers.lm import gridlm  # noqa: F401  registers model_type "gridlm"
from arc_helpers.lm.folder import ModelError, ModelFolder, inspect_folder, read_json, tensors_in
from arc_helpers.runs import HOST, load_tensors, resolve_path

#: what a download takes: never a pickle, never code
DOWNLOADED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "LICENSE*", "README.md")


def open_folder(model_dir: str | Path, *, download: bool = False, **looked_at: bool) -> ModelFolder:
    """The folder of a model, found (`find_folder`) and looked at (`inspect_folder`). Raises ModelError, one line.

    looked_at: options of `inspect_folder`.
    """
    return inspect_folder(find_folder(model_dir, download), **looked_at)


def find_folder(model_dir: str | Path, download: bool = False) -> Path:
    """Where a model is: a folder (relative: under the project), or with download=True a hub id such as "Qwen/Qwen2-7B".

    Raises ModelError, one line.
    """
    folder = resolve_path(model_dir)
    if folder.is_dir():
        return folder
    # "owner/name", where no folder "owner" is here: a mistyped path must not become a download
    is_local = folder.parent.is_dir() or str(model_dir).startswith("models/")
    if is_local or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(model_dir)):
        raise ModelError(f"model_dir {str(model_dir)!r}: no such folder ({folder}); see models/README.md")
    if not download:
        raise ModelError(
            f"model_dir {str(model_dir)!r}: no such folder; if it is a hub id, get it once: "
            f"hf download {model_dir} --local-dir models/{Path(str(model_dir)).name}"
        )
    return _download(str(model_dir))


def open_tokenizer(
    folder: ModelFolder | str | Path, *, use_fast: bool = True, trust_remote_code: bool = False, verbatim: bool = False
) -> Any:
    """The tokenizer of a folder. verbatim: its tokenizer.json to the letter; else as transformers rebuilds it for the
    kind of model. Raises ModelError, one line."""
    path = folder.path if isinstance(folder, ModelFolder) else resolve_path(folder)
    maker = PreTrainedTokenizerFast if verbatim else AutoTokenizer
    options = {} if verbatim else {"use_fast": use_fast, "trust_remote_code": trust_remote_code}
    return _or_model_error(path, lambda: maker.from_pretrained(path, local_files_only=True, **options))


def open_config(folder: ModelFolder, *, trust_remote_code: bool = False) -> Any:
    """The config of a folder as transformers' object."""
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    return _or_model_error(folder.path, lambda: AutoConfig.from_pretrained(folder.path, **options))


def open_model(
    folder: ModelFolder,
    *,
    config: Any = None,
    trust_remote_code: bool = False,
    device: str | torch.device = HOST,
    **options: Any,
) -> PreTrainedModel:
    """The causal LM of a folder in evaluation mode, frozen, whole, every weight finite; ModelError, one line, else.

    options: of `AutoModelForCausalLM.from_pretrained` (dtype, quantization_config, device_map, attn_implementation).
    """
    config = config or open_config(folder, trust_remote_code=trust_remote_code)
    model, report = _or_model_error(  # what is wrong is told below in one line, not in transformers' table
        folder.path,
        lambda: AutoModelForCausalLM.from_pretrained(
            folder.path,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **options,
        ),
    )
    check_report(folder.path, report)
    if not options.get("device_map"):
        model = model.to(device)
    check_finite(folder.path, dict(model.named_parameters()))
    _check_4bit(folder.path, model)
    return model.eval().requires_grad_(False)


def check_names(folder: ModelFolder, config: Any) -> None:
    """The tensors of a folder are those of its architecture, for a library that loads it without a report."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    own, theirs = set(model.state_dict()), {name for file in folder.weights for name, *_ in tensors_in(file)}
    tied = set(model.all_tied_weights_keys) if config.tie_word_embeddings else set()
    unknown = {name for name in theirs - own if not name.endswith("rotary_emb.inv_freq")}  # of old releases
    check_report(folder.path, {"missing_keys": own - theirs - tied, "unexpected_keys": unknown})


def check_report(where: str | Path, report: Mapping[str, Any]) -> None:
    """The weights and the model have the same tensors. ModelError names the first that are not so."""
    words = {
        "missing_keys": "lacks",
        "unexpected_keys": "has what the model does not know:",
        "mismatched_keys": "has in another shape:",
        "error_msgs": "cannot be read:",
    }
    for name, words_of in words.items():
        found = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report.get(name) or ())
        if found:
            more = f" and {len(found) - 2} more" if len(found) > 2 else ""
            raise ModelError(f"{where}: its weights file {words_of} {', '.join(found[:2])[:200]}{more}")


@torch.no_grad()
def check_finite(where: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Every number is finite. ModelError names the first tensor with another."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and tensor.device.type != "meta":
            low, high = tensor.detach().aminmax()  # both carry NaN on
            if not (low.isfinite() & high.isfinite()):
                raise ModelError(f"{where}: {name} is not finite (NaN or infinite numbers)")


def open_tensors(file: str | Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, finite, on the CPU. Raises ModelError, one line."""
    try:
        tensors, _ = load_tensors(file)
    except (OSError, ValueError) as error:
        raise ModelError(str(error)) from None
    check_finite(file, tensors)
    return tensors


def open_adapter(model: nn.Module, folder: str | Path) -> Any:
    """The model with a PEFT adapter of a folder around it, in evaluation mode.

    Raises ModelError, one line, where the adapter is not whole, not finite, or not of this base.
    """
    from peft import PeftModel, get_peft_model_state_dict

    folder = resolve_path(folder)
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: is no PEFT folder (adapter_config.json is missing)")
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder}: has no adapter_model.safetensors; no other file of weights is read")
    read_json(folder / "adapter_config.json")
    tensors = open_tensors(folder / "adapter_model.safetensors")
    try:
        wrapped = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: does not fit this base ({str(error).splitlines()[0][:160]})") from None
    own = {name for name in get_peft_model_state_dict(wrapped) if ".base_layer." not in name}
    theirs = {name for name in tensors if ".base_layer." not in name}
    if own != theirs:
        odd = sorted(own ^ theirs)
        raise ModelError(f"{folder}: does not fit this base ({odd[0][:120]} is on one side only)")
    return wrapped.eval()


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """No bars from transformers: a model of a few MB is there at once, and papermill would save a frozen widget. Nor
    its table of what is missing in a folder: that is an error here."""
    shown, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if shown:
            hf_logging.enable_progress_bar()


def hub_token() -> str | None:
    """HF_TOKEN of the environment, or Kaggle's secret of that name; None where there is neither."""
    if os.environ.get("HF_TOKEN"):
        return os.environ["HF_TOKEN"]
    try:
        from kaggle_secrets import UserSecretsClient
    except ImportError:
        return None
    try:
        return UserSecretsClient().get_secret("HF_TOKEN")
    except Exception as error:  # Kaggle's client raises types of its own where no such secret is attached
        print(f"HF_TOKEN: no such Kaggle secret ({str(error).splitlines()[0] if str(error) else type(error).__name__})")
        return None


def _download(hub_id: str) -> Path:
    """A model of the hub, in Hugging Face's own cache."""
    from huggingface_hub import snapshot_download

    found = _or_model_error(
        hub_id, lambda: snapshot_download(hub_id, allow_patterns=list(DOWNLOADED), token=hub_token())
    )
    return Path(found)


def _check_4bit(where: Path, model: nn.Module) -> None:
    """Linear4bit hides its numbers: their scales are what NaN shows in."""
    for name, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            outer = state.state2 if getattr(state, "nested", False) else state
            offset = torch.zeros(1) if state.offset is None else torch.as_tensor(state.offset)
            check_finite(where, {f"{name} (scales)": outer.absmax, f"{name} (offset)": offset})


def _or_model_error(model_dir: str | Path, load):
    """Hugging Face's errors are paragraphs: keep the first line and say which folder."""
    try:
        with without_progress_bars():
            return load()
    except ModelError:
        raise
    except Exception as error:  # tokenizers, safetensors and accelerate each raise types of their own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        why = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        raise ModelError(f"{model_dir}: cannot be loaded ({why})") from error

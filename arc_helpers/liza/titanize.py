"""The original recipe with today's names: any Llama or Qwen2 folder becomes a TpttModel with LoRA, repaired."""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from arc_helpers.liza.gate import learn_gates
from arc_helpers.liza.repair import LizaError, check_mode, check_versions, repair_model
from arc_helpers.liza.schedule import set_mag_weight
from arc_helpers.lm.door import check_finite, check_names, open_config, open_folder, open_model, without_progress_bars
from arc_helpers.lm.folder import ModelFolder
from arc_helpers.lm.loading import DTYPES, QUANTIZATIONS, avoid_traps_of_4bit_on_a_cpu, bitsandbytes_config
from arc_helpers.runs import choose_device

ARCHITECTURES = ("llama", "qwen2")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
NOT_OF_THE_BASE = ("model_type", "transformers_version", "architectures")  # on reload they would override tptt's own


def titanize_model(
    model_dir: str | Path,
    *,
    operator_mode: str,
    mag_weight: float = 0.01,
    r: int = 8,
    lora_alpha: int = 16,
    lora_dropout: float = 0.05,
    quantization: str = "none",
    compute_dtype: str = "auto",
    device: str | None = None,
    seed: int = 0,
    repaired: bool = True,
    base_scale_attn: bool = False,
    cross_gate: bool = False,
    learned_gate: bool = False,
    download: bool = False,
) -> PreTrainedModel:
    """A TpttModel in evaluation mode: the base frozen, LoRA on q, k, v, o, LiZA beside every attention.

    model_dir: a Hugging Face folder. operator_mode: see `repair.MODES`; mag_weight: LiZA's share of each
    attention's output. quantization: one of `lm.loading.QUANTIZATIONS`. compute_dtype: "auto" takes the device's.
    seed: of the adapters; the same adapters for every mode.
    repaired=False leaves the library's operator, cache and masks as they are, to compare with. base_scale_attn: give
    LiZA's output the size that the softmax branch has; cross_gate: add the product of both. learned_gate: mag_weight
    times a share that is learned for each channel, from 0 on. download: model_dir may be a hub id.
    Raises LizaError or lm.ModelError, one line.
    """
    check_versions()
    check_mode(operator_mode, repaired)
    from tptt import TpttConfig, TpttModel

    folder, options, config = _base(model_dir, quantization, device, compute_dtype, download)
    base = {name: value for name, value in config.to_dict().items() if name not in NOT_OF_THE_BASE}
    tptt_config = TpttConfig(
        base_model_config=base,
        base_model_name=str(folder.path),
        operator_mode=operator_mode,
        mag_weight=mag_weight,
        lora_config=_lora(r, lora_alpha, lora_dropout).to_dict(),
        use_linear_checkpoint=False,
        base_scale_attn=base_scale_attn,
        cross_gate=cross_gate,
        learned_gate=learned_gate,  # ours; the library keeps it in the config
    )
    with quiet():
        model = TpttModel(tptt_config, local_files_only=True, **options)
    check_finite(folder.path, dict(inner_model(model).named_parameters()))
    _settle(model, options, device, seed)
    if learned_gate:
        learn_gates(model)
    set_mag_weight(model, mag_weight)  # the library rounds it to float32
    return repair_model(model) if repaired else model


def lora_only(
    model_dir: str | Path,
    *,
    r: int = 8,
    lora_alpha: int = 16,
    lora_dropout: float = 0.05,
    quantization: str = "none",
    device: str | None = None,
    seed: int = 0,
) -> nn.Module:
    """The control: the same base with the very same adapters, and nothing else (a PeftModel in evaluation mode)."""
    folder, options, _ = _base(model_dir, quantization, device)
    with quiet():
        model = open_model(folder, device=choose_device(device).device, **options)
        model = get_peft_model(model, _lora(r, lora_alpha, lora_dropout))
    _settle(model, options, device, seed)
    return model


def inner_model(model: nn.Module) -> nn.Module:
    """What the Trainer and `generate` get: the PeftModel inside a TpttModel, or the model itself."""
    return getattr(model, "tptt_model", model)


@torch.no_grad()
def seed_adapters(model: nn.Module, seed: int) -> None:
    """Draw every LoRA A by its module's name and zero every B, so that arms start from the same adapters."""
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            # tptt's wrappers are in the name: leave them out
            path = name[name.index("layers.") :].replace(".base_attn", "")
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {path}".encode()))
            bound = parameter.shape[1] ** -0.5
            parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)
        elif ".lora_B." in name:
            parameter.zero_()


@torch.no_grad()
def nudge_adapters(model: nn.Module, scale: float = 0.02, seed: int = 0) -> None:
    """Move every trainable weight off its start, as a training would: what LoRA B = 0 hides becomes visible."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter.device))


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no word of peft's about a name that transformers will drop."""
    with without_progress_bars(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _base(model_dir, quantization: str, device: str | None, dtype: str = "auto", download: bool = False):
    """Where the base is, how to load it, and its config."""
    if dtype != "auto" and dtype not in DTYPES:
        raise LizaError(f"compute_dtype = {dtype!r}: must be auto, {', '.join(DTYPES)}")
    choice = choose_device(device)
    folder, config = open_base(model_dir, download)
    if config.model_type not in ARCHITECTURES:
        raise LizaError(f"{model_dir}: model_type = {config.model_type!r}: must be one of {', '.join(ARCHITECTURES)}")
    # eager: tptt casts the boolean masks of the other implementations to numbers and adds them
    options = {"attn_implementation": "eager", "dtype": DTYPES[choice.dtype if dtype == "auto" else dtype]}
    if quantization not in QUANTIZATIONS:
        raise LizaError(f"quantization = {quantization!r}: must be one of {', '.join(QUANTIZATIONS)}")
    if quantizer := bitsandbytes_config(quantization, options["dtype"]):
        options["quantization_config"] = quantizer
        options["device_map"] = {"": choice.device}
    return folder, options, config


def open_base(model_dir: str | Path, download: bool = False) -> tuple[ModelFolder, PretrainedConfig]:
    """The folder of a base and its config. tptt builds the base itself, and would run any code that it names."""
    folder = open_folder(model_dir, download=download)
    if folder.has_code:
        raise LizaError(f"{folder.path}: the base has Python code of its own (auto_map), which is not run")
    config = open_config(folder)
    check_names(folder, config)
    return folder, config


def _lora(r: int, lora_alpha: int, lora_dropout: float) -> LoraConfig:
    return LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=list(TARGETS),
    )


def _settle(model: nn.Module, options: dict, device: str | None, seed: int) -> None:
    if "quantization_config" not in options:
        model.to(choose_device(device).device)
    elif next(model.parameters()).device.type == "cpu":
        avoid_traps_of_4bit_on_a_cpu(model, "4-bit base")
    seed_adapters(model, seed)
    model.eval()

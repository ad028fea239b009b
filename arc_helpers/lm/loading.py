"""Load any Hugging Face causal LM for grids: local folders, 4-bit or not, on a GPU or a CPU."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from arc_helpers.lm.adapter import Adapter, attach_adapter, is_adapter, read_adapter
from arc_helpers.lm.decoder import decoder_of, embedding_scale, finished
from arc_helpers.lm.door import open_config, open_folder, open_model, open_tokenizer
from arc_helpers.lm.expanded import expand_keys, needs_expanding
from arc_helpers.lm.folder import ModelError, ModelFolder
from arc_helpers.lm.memory import spread, too_large
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.selfcheck import Reference, differences, is_cut, reference
from arc_helpers.lm.task_tokens import TaskTokens
from arc_helpers.lm.vocabulary import TokenizerError
from arc_helpers.runs import choose_device, resolve_path

QUANTIZATIONS = {"none": None, "4bit": "nf4", "4bit-fp4": "fp4"}  # and bitsandbytes' name for each
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedLM:
    """A frozen causal LM and what the suite needs to know about it."""

    model: PreTrainedModel
    tokenizer: Any
    prompt_form: PromptForm
    name: str
    max_len: int  # tokens; never more than the model's context
    device: torch.device
    dtype: torch.dtype  # of activations
    notes: tuple[str, ...] = field(default=())
    task_tokens: TaskTokens | None = None  # of a model that was adapted jointly (ttt/joint.py)
    no_split: str = ""  # why it cannot be run in two halves, which mode "top_m" needs

    @property
    def head(self) -> nn.Module:
        """The LM head: hidden [..., H] to logits [..., V]."""
        return self.model.get_output_embeddings()

    def positions(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Position ids of whole, left-padded sequences [B, T] (None: without padding): [B, T], or [B, T, ≥ 3] for a
        GridLM."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if hasattr(self.model, "grid_positions"):
            return _unpadded_positions(self.model.grid_positions, input_ids, attention_mask)
        return (attention_mask.long().cumsum(dim=-1) - 1).clamp_min(0)

    def hidden(self, input_ids: Tensor | None = None, **inputs) -> Any:
        """The decoder's output (`last_hidden_state` is after the final norm), without the head."""
        return decoder_of(self.model)(input_ids=input_ids, **inputs)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of the decoder's output [..., H], as the model itself makes them."""
        return finished(self.model.config, self.head(hidden.to(self.head.weight.dtype)))


def _unpadded_positions(grid_positions: Callable[[Tensor], Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """Positions [B, T, 3] of left-padded ids [B, T] as they are without the padding: where no token starts a document,
    cells are counted from the first one."""
    padding = (mask.cumsum(dim=1) == 0).sum(dim=1, keepdim=True)  # [B, 1]
    index = torch.arange(ids.shape[1], device=ids.device)
    found = grid_positions(ids.gather(1, (index + padding) % ids.shape[1]))
    return found.gather(1, ((index - padding) % ids.shape[1])[..., None].expand(found.shape))


def load_causal_lm(
    model_dir: str | Path,
    *,
    quantization: str = "none",
    compute_dtype: torch.dtype | str = "auto",
    device: str | None = None,
    device_map: str | dict | None = None,
    max_len: int | None = None,
    use_fast: bool = True,
    trust_remote_code: bool = False,
    download: bool = False,
    trim_vocab: bool = False,
    prompt_form: str = "auto",
    start_adapter: str | Path | None = None,
) -> LoadedLM:
    """Load a frozen causal LM in evaluation mode.

    model_dir: a folder with config.json, a tokenizer and safetensors weights (relative: under the project), or a PEFT
        adapter's folder, which names its base; or with download=True a hub id such as "Qwen/Qwen2-7B": the only thing
        that ever reaches for the network.
    quantization: "none", "4bit" (bitsandbytes' NF4, its scales in 8 bits; also on a CPU), or "4bit-fp4" as in the seed.
    compute_dtype: "auto" takes the device's: bfloat16 from compute capability 8.0 on, float16 below, float32
        on a CPU. device: None (the best there is), "cpu" or "cuda"; device_map overrides it, and must name one device.
    max_len: longest sequence in tokens; clamped to the model's context (TinyLlama 2048, Qwen2 32768).
    trim_vocab: keep only the embedding and head rows that the prompt form uses (16 of the suite's), in full precision.
    prompt_form: how tasks are spelled, a name of `prompt_form.FORMS`; "auto" finds it (`PromptForm.choose`).
    start_adapter: a PEFT adapter's folder, made part of the model before anything else (`adapter.attach_adapter`).
    Raises ModelError, AdapterError or TokenizerError, one line each.
    """
    if start_adapter is None and is_adapter(resolve_path(model_dir)):
        start_adapter = model_dir
    adapter = None if start_adapter is None else read_adapter(resolve_path(start_adapter))
    if adapter is not None and start_adapter == model_dir:
        model_dir, trust_remote_code = _base_of(adapter), False  # whose code nobody has named
    _check_options(quantization, max_len)
    choice = choose_device(device)
    dtype = _dtype(compute_dtype, choice.dtype)
    notes = []
    if choice.device == "cpu" and dtype == torch.float16:
        notes.append("float16 on a CPU is about 18 times slower than float32")
    folder = open_folder(model_dir, download=download, trust_remote_code=trust_remote_code)
    folders = [adapter.folder, folder.path] if adapter else [folder.path]
    tokenizer, form, told = _speller(
        folder, folders, str(model_dir), prompt_form, use_fast=use_fast, trust_remote_code=trust_remote_code
    )
    notes += [*folder.notes, *told]
    config = open_config(folder, trust_remote_code=trust_remote_code)
    quantizer = bitsandbytes_config(quantization, dtype)
    four_bit = quantizer is not None or "quantization_config" in folder.config
    _refuse(model_dir, spread(device_map))
    if device_map is None:
        there = torch.device(choice.device)
        _refuse(model_dir, too_large(config, folder.path, there, dtype.itemsize, four_bit=four_bit))
    model = open_model(
        folder,
        config=config,
        trust_remote_code=trust_remote_code,
        device=choice.device,
        dtype=dtype,
        quantization_config=quantizer,
        device_map=device_map or {"": choice.device} if four_bit or device_map else None,
    )
    _refuse(model_dir, spread({name: p.device for name, p in model.named_parameters()}))
    if needs_expanding(model.device):
        expand_keys(model)
    if four_bit and model.device.type == "cpu":
        avoid_traps_of_4bit_on_a_cpu(model, model_dir)
    if adapter is not None:
        attach_adapter(model, adapter)
        notes.append(f"with the adapter {adapter.folder.name}, trained on {adapter.base or 'a base it does not name'}")
    known, last = model.get_input_embeddings().weight.shape[0], max(form.token_ids)
    if last >= known:
        raise ModelError(f"{model_dir}: its tokenizer uses token {last}, but the model knows only {known} tokens")
    task_tokens = None
    if getattr(config, "task_names", None):  # the rows behind its vocabulary are not to be trimmed away
        task_tokens, trim_vocab = TaskTokens(config.vocab_size, tuple(config.task_names)), False
    expected = _own_forward(model, form, model_dir)
    if trim_vocab:
        form = trim_vocabulary(model, form)
        notes.append(f"vocabulary trimmed to {len(form.token_ids)} tokens")
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if max_len is None or (context and max_len > context):
        if max_len is not None:
            notes.append(f"max_len {max_len} clamped to the model's context of {context} tokens")
        max_len = context or 2048
    name = Path(str(model_dir)).name + (f"+{adapter.folder.name}" if adapter else "")
    lm = LoadedLM(model, tokenizer, form, name, max_len, model.device, dtype, tuple(notes), task_tokens)
    return _checked(lm, expected, model_dir)


def _speller(
    folder: ModelFolder, folders: Sequence[Path], name: str, asked: str, **how: bool
) -> tuple[Any, PromptForm, list[str]]:
    """The tokenizer, how it spells tasks, and what is to be said of it.

    transformers rebuilds some tokenizers by the kind of model; where the result cannot spell a grid, the folder's own
    tokenizer.json may. Raises TokenizerError for the tokenizer that the folder describes.
    """
    options: dict[str, Any] = {"asked": asked, "folders": folders}
    try:
        tokenizer = open_tokenizer(folder, **how)
        return tokenizer, PromptForm.choose(tokenizer, name, **options), []
    except (TokenizerError, ModelError):
        if not (folder.path / "tokenizer.json").is_file():
            raise
    tokenizer = open_tokenizer(folder, verbatim=True)
    form = PromptForm.choose(tokenizer, name, **options)
    return tokenizer, form, ["tokenizer.json as it is: what transformers makes of it for this model spells no grid"]


def _own_forward(model: PreTrainedModel, form: PromptForm, model_dir: str | Path) -> Reference:
    try:
        return reference(model, form)
    except ValueError as error:
        raise ModelError(f"{model_dir}: {error}") from None


def _checked(lm: LoadedLM, expected: Reference, model_dir: str | Path) -> LoadedLM:
    """The model, where the suite computes it as it computes itself; ModelError, one line, where it does not."""
    wrong = differences(lm, expected)
    told = ", ".join(f"{way} {distance:.2g}" for way, distance in wrong.items())
    kind = lm.model.config.model_type
    if wrong and is_cut(lm, expected):
        raise ModelError(
            f"{model_dir}: with its vocabulary cut, {kind} computes other logits ({told}): trim_vocab=false"
        )
    if wrong.keys() - {"split"}:
        raise ModelError(
            f"{model_dir}: the suite would not compute {kind} as it computes itself ({told}): not supported"
        )
    if wrong:
        why = f"{lm.name} ({kind}) cannot be run in two halves: mode = head or full"
        return replace(lm, no_split=why, notes=(*lm.notes, why))
    return lm


@torch.no_grad()
def trim_vocabulary(model: PreTrainedModel, prompt_form: PromptForm) -> PromptForm:
    """Cut embedding and head to the rows in use, in place, as float32; returns the vocabulary's new ids.

    Full-vocabulary logits of a 7B model do not fit a T4 (1.5 MB a position); 16 rows do, and are so few that
    they can be trained in full. Activations keep the model's dtype.
    """
    rows = torch.tensor(prompt_form.token_ids)
    old_embedding, old_head = model.get_input_embeddings(), model.get_output_embeddings()
    dtype = old_embedding.weight.dtype
    scale = embedding_scale(old_embedding)
    embedding = CastingEmbedding(len(rows), old_embedding.weight.shape[1], out_dtype=dtype, embed_scale=scale)
    embedding.weight.copy_(old_embedding.weight[rows.to(old_embedding.weight.device)].float())
    head = CastingLinear(old_head.weight.shape[1], len(rows), bias=old_head.bias is not None)
    head.weight.copy_(old_head.weight[rows.to(old_head.weight.device)].float())
    if old_head.bias is not None:
        head.bias.copy_(old_head.bias[rows.to(old_head.bias.device)].float())
    model.set_input_embeddings(embedding.to(old_embedding.weight.device).requires_grad_(False))
    model.set_output_embeddings(head.to(old_head.weight.device).requires_grad_(False))
    trimmed = prompt_form.trimmed()
    config = model.config.get_text_config()
    config.vocab_size, config.tie_word_embeddings = len(rows), False
    for special in (config, model.generation_config):
        special.bos_token_id, special.eos_token_id, special.pad_token_id = trimmed.start, trimmed.end, trimmed.pad
    if hasattr(config, "marker_token_ids"):
        kept = {old: new for new, old in enumerate(prompt_form.token_ids)}
        config.marker_token_ids = [kept[mark] for mark in config.marker_token_ids]
        config.row_end_token_id = trimmed.row_end
    return trimmed


class CastingEmbedding(nn.Embedding):
    """float32 rows that speak the model's dtype, scaled as the model's own are."""

    def __init__(self, *args, out_dtype: torch.dtype, embed_scale: Tensor | float = 1.0):
        super().__init__(*args)
        self.out_dtype = out_dtype
        self.register_buffer("embed_scale", torch.as_tensor(embed_scale, dtype=torch.float32), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids).to(self.out_dtype) * self.embed_scale.to(self.out_dtype)


class CastingLinear(nn.Linear):
    """A float32 head that takes hidden states of any dtype; logits are float32."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False):
        super().__init__(in_features, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def _check_options(quantization: str, max_len: int | None) -> None:
    if quantization not in QUANTIZATIONS:
        raise ModelError(f"quantization = {quantization!r}: must be one of {', '.join(QUANTIZATIONS)}")
    if max_len is not None and max_len < 16:
        raise ModelError(f"max_len = {max_len}: must be >= 16")


def _refuse(model_dir, problem: str | None) -> None:
    if problem:
        raise ModelError(f"{model_dir}: {problem}")


def _base_of(adapter: Adapter) -> str:
    """The base that an adapter names. ModelError, one line, where it names none that is here."""
    if not resolve_path(adapter.base or "-").is_dir():
        raise ModelError(
            f"{adapter.folder}: is an adapter of {adapter.base or 'a base it does not name'}, which is not here; give "
            "the base as model_dir and this folder as start_adapter"
        )
    return adapter.base


def _dtype(asked: torch.dtype | str, of_device: str) -> torch.dtype:
    if isinstance(asked, torch.dtype):
        return asked
    name = of_device if asked == "auto" else asked
    if name not in DTYPES:
        raise ModelError(f"compute_dtype = {asked!r}: must be auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def bitsandbytes_config(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What loading in one of `QUANTIZATIONS` needs, None for none. ModelError, one line, without bitsandbytes."""
    if QUANTIZATIONS[quantization] is None:
        return None
    # it tells every CPU that a kernel could be downloaded
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise ModelError(
            f"quantization = {quantization!r}: bitsandbytes is not installed; install the extra `gpu` or use 'none'"
        ) from None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=QUANTIZATIONS[quantization],
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def avoid_traps_of_4bit_on_a_cpu(model: PreTrainedModel, model_dir) -> None:
    """bitsandbytes 0.50 reads rows that are not whole blocks of 64 weights back wrongly, without a word; and its
    packed AVX-512 kernel passes no gradient on."""
    from bitsandbytes.nn import Linear4bit

    for path, layer in model.named_modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
            if layer.in_features % 64:
                raise ModelError(
                    f"{model_dir}: {path} has rows of {layer.in_features} weights; 4-bit on a CPU needs multiples "
                    "of 64: use quantization = 'none'"
                )

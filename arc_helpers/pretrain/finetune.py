"""Make a general language model an ARC model: a LoRA in a prompt form, on the mixture that pretraining draws from.

`Pretrainer` trains a `FineTuned` as it trains a GridLM. What is saved is an adapter in PEFT's format, for the whole
model however few rows of its vocabulary were in use, and, where asked for, the model with the adapter merged in.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arc_helpers.lm.adapter import CONFIG, PREFIX, ROWS, WEIGHTS, attach_adapter, is_adapter, read_adapter
from arc_helpers.lm.door import without_progress_bars
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.lora import FP16_LOSS_SCALE, add_lora, checkpoint_layers
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.runs import HOST, replacing_folder, resolve_path
from arc_helpers.runs.checkpoint import atomic_write_json

COPIED = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.jinja", "LICENSE*")


@dataclasses.dataclass(frozen=True)
class AdapterSettings:
    """The LoRA of a fine-tuning, in PEFT's words."""

    r: int = 32
    alpha: float = 64.0
    use_rslora: bool = False
    target_modules: tuple[str, ...] = ()  # last parts of names; empty = all linear layers
    train_rows: bool = True  # embedding and head rows of the tokens in use, in full
    checkpointing: bool = False  # compute layers again in the backward pass, to save memory


class FineTuned(nn.Module):
    """A language model with a trainable LoRA, as the trainer asks it: ids [B, T] and, where rows are packed, what
    keeps documents apart.

    Its vocabulary is cut to the tokens of its prompt form, so probabilities are among these, as in test-time training.
    `settings` is what a resumed run compares. Raises ValueError, one line, on an option this base cannot have.
    """

    def __init__(self, lm: LoadedLM, adapter: AdapterSettings, base: str):
        super().__init__()
        # ids in the whole vocabulary, in the order of the rows that are left
        whole = PromptForm.from_tokenizer(lm.tokenizer, lm.name, dataclasses.replace(lm.prompt_form, ids={}))
        self.rows, self.prompt_form, self.max_len = whole.token_ids, lm.prompt_form, lm.max_len
        self.base, self.adapter = base, adapter
        add_lora(
            lm,
            adapter.r,
            adapter.alpha,
            use_rslora=adapter.use_rslora,
            target_modules=adapter.target_modules or "all-linear",
            train_rows=adapter.train_rows,
        )
        if adapter.checkpointing:
            checkpoint_layers(lm)
        self.lm, self.language_model = lm, lm.model
        self.reads_ids = isinstance(lm.model, GridLMForCausalLM)  # positions and masks are its own

    @classmethod
    def load(cls, base: str, adapter: AdapterSettings, *, seed: int = 0, **options) -> "FineTuned":
        """Load a base with `load_causal_lm` (options as there) and put a fresh adapter in it, drawn from the seed."""
        if is_adapter(resolve_path(base)):
            raise ValueError(f"base = {base}: is an adapter; give a model, such as that adapter merged (merge=true)")
        lm = load_causal_lm(base, trim_vocab=True, **options)
        torch.manual_seed(seed)
        return cls(lm, adapter, base)

    @property
    def device(self) -> torch.device:
        return self.lm.device

    @property
    def config(self) -> Any:
        return self.language_model.config.get_text_config()

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied by on the way back: float16 would lose small gradients."""
        return FP16_LOSS_SCALE if self.lm.dtype == torch.float16 else 1.0

    @property
    def packs_by_positions(self) -> bool:
        """Whether packed documents are told apart by positions that begin anew."""
        return not self.reads_ids

    @property
    def settings(self) -> dict[str, object]:
        """What the weights of a run belong to, flat."""
        own = {name: value for name, value in dataclasses.asdict(self.adapter).items() if name != "checkpointing"}
        own["target_modules"] = list(self.adapter.target_modules)
        return {"base": self.base, "prompt_form": self.prompt_form.name, **own}

    def forward(self, ids: Tensor, apart: Any = None) -> Any:
        """Output with `logits` [B, T, n]. apart: None, positions [B, T] that begin anew, or a GridLM's mask."""
        if self.reads_ids:
            return self.language_model(ids, attention_mask=apart)
        return self.language_model(ids, position_ids=apart, use_cache=False)

    @torch.no_grad()
    def save_adapter(self, folder: str | Path, card: str) -> Path:
        """Write the adapter for the whole base, its prompt form and a card into a folder of their own, all at once."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save

        folder = Path(folder)
        tensors = {
            PREFIX + name: t for name, t in get_peft_model_state_dict(self.language_model).items() if "lora_" in name
        }
        indices = {}
        if self.adapter.train_rows:
            for name, module in self._row_modules().items():
                tensors[f"{PREFIX}{name}.{ROWS}"] = module.weight
                indices[name.rsplit(".", 1)[-1]] = self.rows
        tensors = {name: t.detach().float().cpu().contiguous() for name, t in tensors.items()}
        with replacing_folder(folder) as draft:
            (draft / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
            (draft / "README.md").write_text(card, encoding="utf-8")
            self.prompt_form.save(draft)
            atomic_write_json(draft / CONFIG, self._peft_config(indices))
        return folder

    def _row_modules(self) -> dict[str, nn.Module]:
        """{name in the base: module} of what has trained rows; PEFT ties a head to the embedding as the base does."""
        names = {id(module): name for name, module in self.language_model.named_modules()}
        embedding, head = self.language_model.get_input_embeddings(), self.lm.head
        modules = [embedding] if head.weight is embedding.weight else [embedding, head]
        return {names[id(module)]: module for module in modules}

    def _peft_config(self, indices: Mapping[str, list[int]]) -> dict[str, object]:
        config = self.language_model.peft_config["default"]
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "inference_mode": True,
            "r": config.r,
            "lora_alpha": config.lora_alpha,
            "use_rslora": config.use_rslora,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(config.target_modules),
            "trainable_token_indices": dict(indices) or None,
        }


def merge_adapter(adapter_dir: str | Path, folder: str | Path, card: str) -> Path:
    """Write the base of an adapter with the adapter merged in as an ordinary model folder: weights in the base's
    format, the base's tokenizer, the prompt form and a card. Returns the folder."""
    folder, adapter = Path(folder), read_adapter(adapter_dir)
    if not resolve_path(adapter.base).is_dir():
        raise ValueError(f"merge: {adapter.base}, the base of {adapter.folder}, is no folder here")
    config = json.loads((resolve_path(adapter.base) / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        raise ValueError(
            f"merge: {adapter.base} is quantised; merge into the model it was made from, or keep the adapter"
        )
    stored = config.get("dtype") or config.get("torch_dtype") or "float32"
    whole = load_causal_lm(adapter.base, compute_dtype=stored, device=HOST)
    attach_adapter(whole.model, adapter)
    with replacing_folder(folder) as draft:
        with without_progress_bars():
            whole.model.save_pretrained(draft)
        for pattern in COPIED:
            for path in resolve_path(adapter.base).glob(pattern):
                shutil.copy2(path, draft / path.name)
        PromptForm.load(adapter.folder).save(draft)
        (draft / "README.md").write_text(card, encoding="utf-8")
    return folder

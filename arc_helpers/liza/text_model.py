"""A small Llama or Qwen2 that reads text, made on the spot: no weights have to be downloaded to try LiZA."""

import json
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from arc_helpers.liza.repair import LizaError
from arc_helpers.liza.text import load_documents
from arc_helpers.lm.door import open_tokenizer, without_progress_bars
from arc_helpers.runs import atomic_write_json, choose_device, progress, replacing_folder
from arc_helpers.texts import TextError, cut_windows

FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
END = "<|endoftext|>"
RECIPE = "text-model.json"
MUON = 5  # its steps are orthogonal matrices: a rate as many times AdamW's


def make_text_model(
    folder: str | Path,
    *,
    family: str = "llama",
    hidden: int = 128,
    layers: int = 4,
    heads: int = 4,
    vocab: int = 512,
    length: int = 192,
    steps: int = 800,
    batch: int = 8,
    lr: float = 4e-3,
    dataset: str = "offline",
    seed: int = 0,
) -> Path:
    """Train a model on `dataset` in windows of `length` tokens, save it as a Hugging Face folder, return the folder.

    A folder made with the same arguments is used again. steps=0 leaves it random. Raises LizaError or TextError.
    """
    recipe = {name: value for name, value in locals().items() if name != "folder"}
    folder = Path(folder)
    if (folder / RECIPE).is_file() and json.loads((folder / RECIPE).read_text())["recipe"] == recipe:
        return folder
    if family not in FAMILIES:
        raise LizaError(f"family = {family!r}: must be one of {', '.join(FAMILIES)}")
    documents = load_documents(dataset)
    with replacing_folder(folder) as draft:
        tokenizer = _tokenizer(documents, vocab, draft)
        torch.manual_seed(seed)
        config_class, model_class = FAMILIES[family]
        model = model_class(
            config_class(
                vocab_size=len(tokenizer),
                hidden_size=hidden,
                intermediate_size=3 * hidden,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads // 2,
                max_position_embeddings=8192,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.eos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ).to(choose_device().device)
        began, loss = time.monotonic(), None
        if steps:
            loss = _train(model, token_stream(documents, tokenizer), length, steps, batch, lr, seed)
        with without_progress_bars():
            model.save_pretrained(draft)
        seconds = round(time.monotonic() - began, 1)
        atomic_write_json(draft / RECIPE, {"recipe": recipe, "loss": loss, "seconds": seconds})
    return folder


def token_stream(documents: list[str], tokenizer) -> Tensor:
    """All documents as one row of token ids, each with an end mark behind it."""
    ids = tokenizer(documents, add_special_tokens=False)["input_ids"]
    return torch.tensor([token for document in ids for token in (*document, tokenizer.eos_token_id)])


def windows(documents: list[str], tokenizer, length: int, count: int) -> Tensor:
    """At most `count` windows [n, length] of documents, as `texts.cut_windows` chooses them. Raises TextError."""
    rows = tokenizer(documents, add_special_tokens=False)["input_ids"]
    return torch.tensor(cut_windows(rows, length, count, tokenizer.eos_token_id))


def _tokenizer(documents: list[str], vocab: int, folder: Path) -> PreTrainedTokenizerFast:
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(documents, vocab_size=vocab, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trainer._tokenizer, eos_token=END, bos_token=END, pad_token=END
    )
    tokenizer.save_pretrained(folder)
    return open_tokenizer(folder)


def _train(model, stream: Tensor, length: int, steps: int, batch: int, lr: float, seed: int) -> float:
    """Muon for the layers' matrices, AdamW for the rest, one cycle; returns the mean loss of the last 20 steps."""
    if len(stream) <= length:
        raise TextError(f"the texts have {len(stream):,} tokens together: too small for windows of {length:,}")
    generator = torch.Generator().manual_seed(seed)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    rest = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON * lr, weight_decay=0.1),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.1, betas=(0.9, 0.95)),
    ]
    rates = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer, optimizer.param_groups[0]["lr"], total_steps=steps, pct_start=0.1, cycle_momentum=False
        )
        for optimizer in optimizers
    ]
    losses = []
    model.train()
    for _ in progress(range(steps), desc="text model"):
        starts = torch.randint(len(stream) - length, (batch, 1), generator=generator)
        ids = stream[starts + torch.arange(length)].to(model.device)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *rates):
            part.step()
        losses.append(loss.item())
    model.eval()
    return sum(losses[-20:]) / len(losses[-20:])

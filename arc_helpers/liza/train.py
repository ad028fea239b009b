"""Tuning a titanized model (or its control) with the Hugging Face Trainer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from arc_helpers.liza.repair import LizaError
from arc_helpers.liza.schedule import AdjustMaGWeightCallback
from arc_helpers.liza.titanize import inner_model
from arc_helpers.runs import choose_device


@dataclass(frozen=True)
class Tuned:
    """What a training left: one loss a logged step, the MaG trace (empty without a schedule), and the Trainer."""

    losses: list[float]
    mag: list[tuple[int, float, float]]
    trainer: Trainer


def encode_documents(documents: list[str], tokenizer, max_length: int = 384) -> list[dict[str, list[int]]]:
    """Token ids of each document, cut to `max_length` tokens. Raises LizaError, one line, where nothing is left."""
    if not documents:
        raise LizaError("documents: there are none to train on")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    encoded = tokenizer(list(documents), truncation=True, max_length=max_length)["input_ids"]
    rows = [{"input_ids": ids} for ids in encoded if len(ids) > 1]
    if not rows:
        raise LizaError(f"documents: none of {len(documents)} has two tokens to learn from")
    return rows


def tune(
    model: nn.Module,
    tokenizer,
    documents: list[str],
    out_dir: str | Path,
    *,
    schedule: AdjustMaGWeightCallback | None = None,
    steps: int = 100,
    batch_size: int = 3,
    lr: float = 5e-4,
    max_length: int = 384,
    seed: int = 42,
    held_out: list[str] | None = None,
    resume_from: str | Path | None = None,
    **arguments: Any,
) -> Tuned:
    """Train the adapters for `steps` optimizer steps; the defaults are the original recipe's.

    The Trainer works on the PeftModel inside: only there do checkpoints, resuming, the best model, gradient
    accumulation and gradient checkpointing work. arguments: further TrainingArguments, for instance
    gradient_accumulation_steps=4, save_steps=50, or load_best_model_at_end=True with held_out documents.
    resume_from: a checkpoint folder of an earlier call. Raises LizaError, one line, on bad documents.
    """
    choice = choose_device()
    defaults = {
        "logging_steps": 1,
        "save_strategy": "steps" if "save_steps" in arguments else "no",
        "eval_strategy": "no" if held_out is None else "steps",
        "bf16": choice.dtype == "bfloat16",
        "fp16": choice.dtype == "float16",
        "use_cpu": choice.device == "cpu",
    }
    settings = TrainingArguments(
        output_dir=str(out_dir),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=lr,
        seed=seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=choice.device != "cpu",
        **{**defaults, **arguments},
    )
    trainer = Trainer(
        model=inner_model(model),
        args=settings,
        train_dataset=encode_documents(documents, tokenizer, max_length),
        eval_dataset=encode_documents(held_out, tokenizer, max_length) if held_out is not None else None,
        data_collator=DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False),
        callbacks=[schedule] if schedule else [],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    model.eval()
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    return Tuned(losses, schedule.trace if schedule else [], trainer)

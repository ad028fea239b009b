"""The recipes, so that a notebook, a benchmark and the shipped weights train the same way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from arc_helpers.memory.adapters import add_adapter
from arc_helpers.memory.corpus import TextTokens
from arc_helpers.memory.dialog import DialogBatches, persona_sft
from arc_helpers.memory.meta import Batch, MetaConfig, MetaTrainer
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM
from arc_helpers.memory.persona import PersonaDialogs, Style
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import choose_device

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the seed. rows: texts a step."""

    model_size: str = "nano"
    window: int = 16
    ttt_batch: int = 16
    rows: int = 8
    micro_batch: int = 0
    steps: int | None = 1200
    seconds: float | None = None
    lr: float = 4e-3
    inner_lr: float = 0.2
    # Few kinds of fact a text, so that the name is needed to tell them apart: with all twelve, most answers can be
    # had from the kind alone, and after 400 steps that was all the model had learned (86 % recall). Long enough that
    # six facts in words that nobody knows, and the questions about them, are hardly ever cropped.
    style: Style = field(default_factory=lambda: Style(kinds=(1, 6), length=321))


RECIPE = Recipe()


def new_model(
    tokens: DialogTokens | TextTokens, seed: int, recipe: Recipe = RECIPE, *, device: str | None = None, **changes
) -> TTTForCausalLM:
    """An untrained model; a seed gives the same weights on every device. changes: of TTTConfig, such as
    full_attention=True. device: what `runs.choose_device` prefers; None = the best there is.
    """
    torch.manual_seed(seed)
    shape = {"sliding_window": recipe.window, "ttt_batch": recipe.ttt_batch, "inner_lr": recipe.inner_lr, **changes}
    ids = {"pad_token_id": tokens.pad, "eos_token_id": tokens.end}
    model = TTTForCausalLM(TTTConfig.preset(recipe.model_size, len(tokens), **ids, **shape))
    return model.to(choose_device(device).device)


def train_memory(
    tokens: DialogTokens | TextTokens,
    seed: int,
    recipe: Recipe = RECIPE,
    *,
    order: int = 2,
    objective: str = "stream",
    batches: Callable[[int], Batch] | None = None,
    checkpoint: Path | None = None,
    on_metrics: Callable[[dict], None] = lambda metrics: None,
    **changes,
) -> tuple[TTTForCausalLM, dict[str, float]]:
    """(trained model, what MetaTrainer.run says). order=0: the static twin, the same texts and steps.

    batches: step → Batch, such as `corpus.TextBatches`; None: persona dialogues, for which tokens are DialogTokens.
    """
    model = new_model(tokens, seed, recipe, **changes)
    if batches is None:
        if not isinstance(tokens, DialogTokens):
            raise ValueError("batches: are needed, for persona dialogues are written in DialogTokens alone")
        dialogs = PersonaDialogs(tokens, recipe.style, seed)
        batches = lambda step: dialogs.batch(step, recipe.rows)  # noqa: E731
    config = MetaConfig(
        steps=recipe.steps,
        seconds=recipe.seconds,
        lr=recipe.lr,
        order=order,
        objective=objective,
        micro_batch=recipe.micro_batch,
    )
    trainer = MetaTrainer(model, batches, config, checkpoint, on_metrics)
    return model, trainer.run()


def train_adapter(
    model: TTTForCausalLM,
    tokens: DialogTokens,
    kind: str,
    *,
    steps: int,
    order: int = 2,
    lr: float = 1e-2,
    seed: int = 0,
    batches: Callable[[int], Batch] | None = None,
    on_metrics: Callable[[dict], None] = lambda metrics: None,
) -> "PeftModel":
    """Fine-tune an adapter on what the assistant says; the model is wrapped, its own weights stay.

    order: 2 through the inner loop, 0 with learning off, which is the usual way. batches: step → Batch; None: persona
    dialogues in the phrasings that the base was not trained on.
    """
    wrapped = add_adapter(model, kind, seed)
    dialogs = PersonaDialogs(tokens, Style(wording="held_out"), seed + 100)
    batches = batches or (lambda step: persona_sft(dialogs, step, RECIPE.rows))
    config = MetaConfig(steps=steps, lr=lr, weight_decay=0.0, warmup_steps=min(10, steps), order=order)
    MetaTrainer(model, batches, config, on_metrics=on_metrics).run()
    return wrapped


def train_on_dialogs(
    model: PreTrainedModel,
    batches: DialogBatches,
    kind: str = "lora",
    *,
    steps: int,
    lr: float = 1e-3,
    r: int = 8,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_metrics: Callable[[dict], None] = lambda metrics: None,
) -> "PeftModel":
    """Fine-tune an adapter of an ordinary causal language model on what the assistant says; its own weights stay.

    r: rank of a LoRA.
    """
    wrapped = add_adapter(model, kind, seed, r)
    config = MetaConfig(steps=steps, lr=lr, weight_decay=0.0, warmup_steps=min(10, steps), log_every=1)
    MetaTrainer(wrapped.get_base_model(), batches, config, checkpoint, on_metrics).run()
    return wrapped

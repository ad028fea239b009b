"""Joint training: adapters and TRM learn, the language model stays as it is; feedback on an attempt now and then."""

import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arc_helpers.hybrid.feedback import Attempt, tokens_to_grid
from arc_helpers.hybrid.model import HybridModel
from arc_helpers.hybrid.questions import Example, Question, as_batch, draft_tokens, labels_of
from arc_helpers.lm.lora import FP16_LOSS_SCALE
from arc_helpers.trm import segment_loss
from arc_helpers.trm.loop import LoopConfig, TrainingLoop, check_gradients
from arc_helpers.trm.model import Segment
from arc_helpers.trm.optim import build_optimizers

GATES = 10.0  # a gate learns so much faster than the other weights, or it would open long after everything else


@dataclass(frozen=True)
class JointConfig(LoopConfig):
    """One joint training. `lr` is the rate of adapters and of TRM's embedding and heads; `autocast` means bfloat16."""

    lr: float = 2e-3
    warmup_steps: int = 20
    batch_size: int = 32
    max_attempts: int = 2  # of a step with feedback; the others take one, whose states are kept
    feedback_every: int = 8  # steps; a further attempt goes through the language model, forward and backward
    attempt_weights: tuple[float, ...] = ()  # of the attempts' losses; () = all the same
    told: float = 0.5  # share of rows that are told what their attempt changed; asked, all are, or none (muted)

    POSITIVE = (*LoopConfig.POSITIVE, "batch_size", "max_attempts", "feedback_every")

    def __post_init__(self):
        super().__post_init__()
        if self.attempt_weights and len(self.attempt_weights) != self.max_attempts:
            raise ValueError(f"attempt_weights: {len(self.attempt_weights)} given for {self.max_attempts} attempts")

    def attempts(self, step: int) -> int:
        """How many attempts a step trains; the second step, the first whose gates are open, has feedback."""
        return self.max_attempts if (step - 1) % self.feedback_every == 0 else 1

    def weight(self, attempt: int, of: int) -> float:
        """The share of an attempt (from 0) in a step's loss."""
        weights = self.attempt_weights[:of] or (1.0,) * of
        return weights[attempt] / sum(weights)


class JointTrainer(TrainingLoop):
    """Trains a HybridModel on examples, each epoch in another order."""

    kind = "joint training"
    model: HybridModel
    config: JointConfig

    def __init__(
        self,
        model: HybridModel,
        examples: Sequence[Example],
        config: JointConfig,
        checkpoint: Path | None = None,
        on_metrics: Callable[[dict], None] = lambda metrics: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not examples:
            raise ValueError("examples: there is nothing to learn from")
        super().__init__(model, config, optimizers_of(model, config), checkpoint, on_metrics, clock=clock)
        self.examples = list(examples)
        # over a language model in float16, small gradients on their way back through it would become zero
        half = model.config.conditioning == "text" and model.lm.dtype == torch.float16
        self.loss_scale = FP16_LOSS_SCALE if half else 1.0
        self.steps_per_epoch = max(1, len(self.examples) // config.batch_size)
        self._resume()

    def facts(self) -> dict[str, dict[str, Any]]:
        return {"config": asdict(self.config), "about": self.model.about()}

    def loss(self, examples: Sequence[Example], attempts: int, told: Tensor | None = None) -> tuple[Tensor, dict]:
        """The loss of one step and its metrics. told: bool [B], the rows that hear what they changed; None = all."""
        model, device = self.model, self.model.trm.device
        side = model.config.canvas_side
        questions = [example.question for example in examples]
        use_id = model.config.conditioning == "id"
        batch = as_batch(questions, side, [e.task for e in examples] if use_id else ()).to(device)
        labels = labels_of(examples, side).to(device)
        states, histories = model.first_states(questions), [[] for _ in examples]
        total, metrics = torch.zeros((), device=device), {}
        for number in range(1, attempts + 1):
            made, moved = model.segments(batch, states)
            losses, sums = zip(*(segment_loss(s, labels, model.trm.config.loss) for s in made), strict=True)
            total = total + self.config.weight(number - 1, attempts) * torch.stack(losses).mean()
            metrics[f"loss_{number}"] = losses[-1].item()
            metrics[f"exact_{number}"] = sums[-1]["exact"].item() / len(examples)
            if number < attempts:
                questions = self._look_back(questions, histories, made[-1], moved, told)
                batch.draft = draft_tokens([question.draft for question in questions], side).to(device)
                states = model.next_states(questions, histories, made[-1].carry.latents)
        return total, metrics

    def _look_back(self, questions, histories, last: Segment, moved: Tensor, told: Tensor | None) -> list[Question]:
        """Write into each history what was answered, as when asked; the questions with these answers as drafts."""
        facts = torch.sigmoid(last.halt.detach().float()).tolist(), moved.tolist()
        segments = self.model.trm.config.halt_max_steps
        for row, (question, history) in enumerate(zip(questions, histories, strict=True)):
            grid = tokens_to_grid(last.logits[row].argmax(-1).cpu(), width=self.model.config.canvas_side)
            before = question.draft if told is None or bool(told[row]) else None
            q, rest = (values[row] for values in facts)
            history.append(Attempt(len(history) + 1, grid, q, rest, segments, before))
        return [replace(q, draft=history[-1].grid) for q, history in zip(questions, histories, strict=True)]

    def _learn(self) -> dict[str, float]:
        config, device = self.config, self.model.trm.device
        examples = [self.examples[i] for i in self._rows()]
        told = torch.rand(len(examples), generator=self._generator("told", self.step)) < config.told
        attempts = config.attempts(self.step) if self.model.config.conditioning == "text" else 1
        with torch.autocast(device.type, torch.bfloat16) if config.autocast else nullcontext():
            loss, metrics = self.loss(examples, attempts, told)
        (loss * self.loss_scale).backward()
        self._update(checked=self.step == 1 and attempts == config.max_attempts > 1)
        return metrics

    def _update(self, checked: bool) -> None:
        """One step of all optimizers; it is left out where a scaled gradient has overflowed."""
        for parameter in self.model.parameters():
            if parameter.grad is not None and self.loss_scale != 1:
                parameter.grad /= self.loss_scale
        limit = self.config.max_grad_norm or float("inf")
        overflown = not nn.utils.clip_grad_norm_(self.model.parameters(), limit).isfinite() and self.loss_scale != 1
        if checked and not overflown:
            check_gradients(self.model)
        for optimizer in self.optimizers:
            if not overflown:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _metrics(self, made: list[dict[str, Any]], seconds: float) -> dict[str, float]:
        names = sorted({name for metrics in made for name in metrics})
        return {name: _mean(m[name] for m in made if name in m) for name in names}

    def _rows(self) -> list[int]:
        """The examples of this step: each epoch is a permutation, so a resumed run needs no state for it."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        order = torch.randperm(len(self.examples), generator=self._generator("epoch", epoch))
        return order[place * self.config.batch_size :][: self.config.batch_size].tolist()

    def _generator(self, what: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.config.seed}/{what}/{number}".encode()))


def optimizers_of(model: HybridModel, config: JointConfig) -> list[torch.optim.Optimizer]:
    """TRM's own, and AdamW for adapters, gates and LoRA."""
    rates = {name: getattr(config, name) for name in ("lr", "lr_matrices", "lr_tasks", "weight_decay")}
    made = build_optimizers(model.trm, config.optimizer, **rates)
    others = {name: p for name, p in model.named_parameters() if not name.startswith("trm.")}
    gates = [p for name, p in others.items() if ".gates." in name]
    rest = [p for name, p in others.items() if ".gates." not in name]
    if others:
        groups = [{"params": rest}, {"params": gates, "lr": GATES * config.lr, "weight_decay": 0.0}]
        made.append(torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay))
    return made


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)

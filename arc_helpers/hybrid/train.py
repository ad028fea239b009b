"""Joint training: adapters and TRM learn, the language model stays as it is; feedback on an attempt now and then."""

import math
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from arc_helpers.hybrid.checks import check_gradients
from arc_helpers.hybrid.feedback import Attempt, tokens_to_grid
from arc_helpers.hybrid.model import HybridModel
from arc_helpers.hybrid.questions import Example, Question, as_batch, draft_tokens, labels_of
from arc_helpers.lm.lora import FP16_LOSS_SCALE
from arc_helpers.runs import CheckpointError, load_state, sealing, usable
from arc_helpers.trm import segment_loss
from arc_helpers.trm.model import Segment
from arc_helpers.trm.optim import OPTIMIZERS, build_optimizers

GATES = 10.0  # a gate learns so much faster than the other weights, or it would open long after everything else


@dataclass(frozen=True)
class JointConfig:
    """One joint training. Its length is `epochs`, or `deadline_seconds` of training time, whichever comes first.

    Without a deadline it is a function of its settings and seed: k steps and a resume equal a straight run.
    """

    epochs: float = 1.0
    batch_size: int = 32
    max_attempts: int = 2  # of a step with feedback; the others take one, whose states are kept
    feedback_every: int = 8  # steps; a further attempt goes through the language model, forward and backward
    attempt_weights: tuple[float, ...] = ()  # of the attempts' losses; () = all the same
    told: float = 0.5  # share of rows that are told what their attempt changed; asked, all are, or none (muted)
    lr: float = 2e-3  # adapters, TRM's embedding and heads
    lr_matrices: float = 0.02  # matrices of TRM's blocks (Muon)
    lr_tasks: float = 1e-2  # task vectors (conditioning "id")
    optimizer: str = "muon"  # of TRM
    weight_decay: float = 0.01
    warmup_steps: int = 20
    max_grad_norm: float = 1.0
    deadline_seconds: float | None = None
    autocast: bool = False  # bfloat16 products, where the device has them
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 200

    def __post_init__(self):
        for name in ("epochs", "batch_size", "max_attempts", "feedback_every", "lr", "log_every", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be > 0")
        if self.attempt_weights and len(self.attempt_weights) != self.max_attempts:
            raise ValueError(f"attempt_weights: {len(self.attempt_weights)} given for {self.max_attempts} attempts")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer = {self.optimizer!r}: must be one of {', '.join(OPTIMIZERS)}")

    def attempts(self, step: int) -> int:
        """How many attempts a step trains; the second step, the first whose gates are open, has feedback."""
        return self.max_attempts if (step - 1) % self.feedback_every == 0 else 1

    def weight(self, attempt: int, of: int) -> float:
        """The share of an attempt (from 0) in a step's loss."""
        weights = self.attempt_weights[:of] or (1.0,) * of
        return weights[attempt] / sum(weights)


#: what may change when a run goes on
RESUMABLE = {"epochs", "deadline_seconds", "log_every", "checkpoint_every"}


class JointTrainer:
    """Trains a HybridModel to the end of the run, and goes on from its checkpoint where there is one.

    on_metrics gets a flat dict every `log_every` steps. clock: what the deadline is measured by.
    """

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
        self.model, self.examples, self.config = model, list(examples), config
        self.checkpoint, self.on_metrics, self.clock = checkpoint, on_metrics, clock
        self.optimizers = optimizers_of(model, config)
        self.peak = [[group["lr"] for group in o.param_groups] for o in self.optimizers]
        # over a language model in float16, small gradients on their way back through it would become zero
        half = model.config.conditioning == "text" and model.lm.dtype == torch.float16
        self.loss_scale = FP16_LOSS_SCALE if half else 1.0
        self.step, self.seconds = 0, 0.0
        self.history, self._earlier = [], []
        self.steps_per_epoch = max(1, len(self.examples) // config.batch_size)
        self.steps = math.ceil(config.epochs * self.steps_per_epoch)
        if checkpoint is not None and usable(checkpoint):
            self._load()

    @property
    def progress(self) -> float:
        """How much of the run is over, 0 to 1."""
        limit = self.config.deadline_seconds
        return min(1.0, max(self.step / self.steps, self.seconds / limit if limit else 0.0))

    def run(self, steps: int | None = None) -> dict[str, float]:
        """Train to the end, or `steps` further; returns step, seconds and the last metrics."""
        began, before, window, last = self.clock(), self.seconds, [], {}
        stop = self.steps if steps is None else min(self.steps, self.step + steps)
        while self._earlier:  # metrics of the run's earlier parts
            last = self._earlier.pop(0)
            self.on_metrics(last)
        self.model.train()
        while self.step < stop and self.progress < 1:
            window.append(self._one_step())
            self.seconds = before + self.clock() - began
            over = self.step >= stop or self.progress >= 1
            if over or self.step % self.config.log_every == 0:
                names = {name for metrics in window for name in metrics}
                last = {name: _mean(m[name] for m in window if name in m) for name in sorted(names)}
                last |= {"step": self.step, "seconds": self.seconds}
                self.history.append(last)
                self.on_metrics(last)
                window = []
            if self.checkpoint and (over or self.step % self.config.checkpoint_every == 0):
                self.save()
        self.model.eval()
        return {**last, "step": self.step, "seconds": self.seconds}

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

    def _one_step(self) -> dict[str, float]:
        config = self.config
        for optimizer, peaks in zip(self.optimizers, self.peak, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * self.rate
        examples = [self.examples[i] for i in self._rows()]
        device = self.model.trm.device
        told = torch.rand(len(examples), generator=self._generator("told", self.step)) < config.told
        attempts = config.attempts(self.step) if self.model.config.conditioning == "text" else 1
        with torch.autocast(device.type, torch.bfloat16) if config.autocast else nullcontext():
            loss, metrics = self.loss(examples, attempts, told)
        (loss * self.loss_scale).backward()
        for parameter in self.model.parameters():
            if parameter.grad is not None and self.loss_scale != 1:
                parameter.grad /= self.loss_scale
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        overflown = self.loss_scale != 1 and not norm.isfinite()  # this step is left out then
        if self.step == 1 and attempts == config.max_attempts > 1 and not overflown:
            check_gradients(self.model)
        for optimizer in self.optimizers:
            if not overflown:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return metrics

    @property
    def rate(self) -> float:
        """Warm-up, then a cosine to zero, as a factor of the peak."""
        warm = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        return warm * 0.5 * (1 + math.cos(math.pi * self.progress))

    def _rows(self) -> list[int]:
        """The examples of this step: each epoch is a permutation, so a resumed run needs no state for it."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        order = torch.randperm(len(self.examples), generator=self._generator("epoch", epoch))
        return order[place * self.config.batch_size :][: self.config.batch_size].tolist()

    def _generator(self, what: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.config.seed}/{what}/{number}".encode()))

    def save(self) -> None:
        """Write the whole state, atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "config": asdict(self.config),
            "about": self.model.about(),
            "history": self.history,
        }
        with sealing(self.checkpoint) as draft:
            torch.save(state, draft)

    def _load(self) -> None:
        state = load_state(self.checkpoint)
        if not {"config", "about"} <= set(state):
            raise CheckpointError(f"{self.checkpoint}: not a checkpoint of joint training; delete it to start anew")
        saved = {**state["config"], **state["about"]}
        mine = {**asdict(self.config), **self.model.about()}
        for name in mine.keys() - RESUMABLE:
            if saved.get(name) != mine[name]:
                raise CheckpointError(
                    f"{self.checkpoint}: was made with {name} = {saved.get(name)}, this run has {mine[name]}; "
                    "give the same value or start in another folder"
                )
        self.model.load_state_dict(state["model"])
        for optimizer, old in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(old)
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = state["history"]
        self._earlier = list(self.history)


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

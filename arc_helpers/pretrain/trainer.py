"""Training on grids: Muon on matrices, AdamW on the rest, warm-up / stable / decay, EMA, full resume; of a GridLM from
nothing, or of an adapter in a language model (`finetune.FineTuned`)."""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from arc_helpers.engine import Engine, Weights, shared_weights
from arc_helpers.lm.attention import choose_kernel, packed_mask
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.prompt import IGNORE
from arc_helpers.pretrain.batches import Batch
from arc_helpers.pretrain.curriculum import Curriculum
from arc_helpers.pretrain.flops import device_peak, matrix_parameters, training_flops
from arc_helpers.pretrain.mixture import Mixture
from arc_helpers.pretrain.muon import Muon, NorMuon
from arc_helpers.pretrain.processes import Processes
from arc_helpers.pretrain.settings import RESUMABLE, PretrainConfig
from arc_helpers.runs import load_state, sealing, usable

if TYPE_CHECKING:
    from arc_helpers.pretrain.finetune import FineTuned


def build_optimizers(model: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon or NorMuon for the blocks' matrices and AdamW for the rest, or AdamW for all; frozen weights are left."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in trained.items() if p.ndim == 2 and ".layers." in name]
    ids = {id(p) for p in matrices}
    rest = [p for p in trained.values() if id(p) not in ids]
    adamw = {"betas": (0.9, 0.95), "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return [torch.optim.AdamW([*matrices, *rest], lr=config.lr_adamw, **adamw)]
    muon = (NorMuon if config.optimizer == "normuon" else Muon)(
        matrices, lr=config.lr_muon, momentum=0.95, weight_decay=config.weight_decay
    )
    return [muon, torch.optim.AdamW(rest, lr=config.lr_adamw, **adamw)]


class Pretrainer:
    """Trains a model on a mixture to the end of the run, and goes on from its checkpoint where there is one.

    With `steps` alone a run is a function of settings, mixture and seed: k steps and a resume equal a straight run.
    source: a mixture, or a curriculum of several. on_metrics gets a flat dict every `log_every` steps; what earlier
    parts of a resumed run reported is in `history`. Under torchrun give each process the same arguments and its
    `Processes`; only the first one reports, evaluates and saves. clock: gives the seconds that `config.seconds` and all
    speeds are in, such as CPU seconds. `notes` say what was found out about the device.
    """

    def __init__(
        self,
        model: "GridLMForCausalLM | FineTuned",
        source: Mixture | Curriculum | Any,  # or what gives batches and settings as a Mixture does
        config: PretrainConfig,
        checkpoint: Path | None = None,
        on_metrics: Callable[[dict], None] = lambda metrics: None,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        processes: Processes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.clock, began = clock, clock()
        self.model, self.curriculum, self.config = model, Curriculum.of(source), config
        self.checkpoint, self.on_metrics, self.evaluate = checkpoint, on_metrics, evaluate
        self.processes = processes or Processes()
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.ema: AveragedModel | None = None
        if config.ema_decay:
            self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
            self.ema.eval()  # it is only evaluated: nothing is dropped
        self.optimizers = build_optimizers(model, config)
        self.peak = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.step, self.tokens, self.seconds, self.flops, self.cursor, self.stage = 0, 0, 0.0, 0.0, (0, 0), 0
        self.history: list[dict[str, Any]] = []
        self.matrices, self.frozen = matrix_parameters(model), matrix_parameters(model, frozen=True)
        if checkpoint is not None and usable(checkpoint):
            self._load()
        self.start_id = self.curriculum.stages[0][1].prompt_form.start
        self.kernel, self.notes = "mask", []
        if config.pack:
            self._choose_kernel()
        self.forward: Callable = model
        self.scale = float(getattr(model, "loss_scale", 1.0))
        self.engine = self._engine() if config.engine else None
        if config.compile and self.engine is None:
            self._compile()
        self.setting_up = clock() - began  # seconds that the next call of `run` counts: they are gone from its budget

    @property
    def averaged(self) -> Any:
        """The model with averaged weights, where they are averaged: the one to evaluate and to save."""
        return self.ema.module if self.ema is not None else self.model

    @property
    def over(self) -> bool:
        """Whether the run has reached its end."""
        return self.config.progress(self.step, self.seconds) >= 1

    def run(self, stop_after: float | None = None) -> dict[str, float]:
        """Train to the end of the run; returns steps, tokens, seconds, FLOPs, the last metrics, and what `evaluate`
        says of the model as it is then.

        stop_after: seconds after which this call saves and returns although the run is not over, for machines that
        are lent for less than a run takes. The schedule knows nothing of it.
        """
        last: dict[str, float] = {}
        losses: list[Tensor] = []
        looked = False  # whether `last` holds what `evaluate` says of this very model
        began, before, self.setting_up = self.clock(), self.seconds + self.setting_up, 0.0
        window = _Window(began, self.tokens, self.flops)
        self.model.train()
        for batch in self._batches():
            if self.over or (stop_after is not None and self.seconds - before >= stop_after):
                break
            losses.append(self._one_step(batch))
            looked = False
            self.seconds = before + self.processes.from_first(self.clock() - began, self.model.device)
            if self.over or self.step % self.config.log_every == 0:
                last |= self._metrics(losses, window)
                if (
                    self.evaluate
                    and (self.over or self.step % self.config.evaluate_every == 0)
                    and self.processes.first
                ):
                    last |= self.evaluate(self.averaged)
                    looked = True
                self._report(dict(last))
                losses, window = [], _Window(self.clock(), self.tokens, self.flops)
            if self.step % self.config.checkpoint_every == 0:
                self.save()
        self.save()
        if self.evaluate and self.processes.first and not looked:
            last |= self.evaluate(self.averaged)
        counters = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds, "flops": self.flops}
        return {**(self.history[-1] if self.history else {}), **last, **counters}

    def _batches(self) -> Iterator[Batch]:
        """Batches from the cursor on; the curriculum's next stage begins with the next pool."""
        while True:
            mixture = self.curriculum.stages[self.stage][1]
            row_tokens = self._row_tokens(mixture) if self.config.pack else None
            drawn = mixture.batches(
                self.config.batch_tokens, self.cursor, row_tokens=row_tokens, workers=self.config.workers
            )
            for batch in drawn:
                due = self.curriculum.stage(self.config.progress(self.step, self.seconds))
                if due > self.stage:  # never back: a resumed run may have been made longer
                    self.stage, self.cursor = due, (self.cursor[0] + 1, 0)
                    break
                yield batch

    def _row_tokens(self, mixture: Mixture) -> int:
        """A mask costs as much as the square of a row; for the other kernels one shape, compiled once, is better."""
        return mixture.max_len if self.kernel == "mask" else self.curriculum.longest

    def _metrics(self, losses: list[Tensor], window: "_Window") -> dict[str, float]:
        loss = torch.stack(losses).mean().item()  # waits for the device, so the clock below is honest
        seconds = self.clock() - window.began
        speed = {"tokens_per_second": (self.tokens - window.tokens) / seconds}
        peak = device_peak(self.model.device, self.config.autocast)
        if peak:
            speed["mfu"] = (self.flops - window.flops) / seconds / peak / self.processes.count
        return {
            "step": self.step,
            "tokens": self.tokens,
            "loss": loss,
            **speed,
            "lr_factor": self.config.rate(self.step, self.seconds),
            "seconds": self.seconds,
            "stage": self.stage,
        }

    def _report(self, metrics: dict[str, float]) -> None:
        self.history.append(metrics)
        if self.processes.first:
            self.on_metrics(metrics)

    def _one_step(self, batch: Batch) -> Tensor:
        """Forward and backward over this process's rows, part by part, and one update; the step's mean loss."""
        factor = self.config.rate(self.step, self.seconds)
        for optimizer, peaks in zip(self.optimizers, self.peak, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        if getattr(self.model.config, "dropout", 0.0):  # a resumed run drops what a straight one would
            torch.manual_seed(zlib.crc32(f"{self.config.seed}:{self.step}".encode()))
        loss = torch.zeros((), device=self.model.device)
        weights = shared_weights(self.model) if self.engine else None
        leaves = weights.detached() if weights else None
        for inputs in self._parts(batch):
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.autocast and not leaves):
                part = self._loss_sum(*inputs, leaves) / max(1, batch.counted)
            (part * self.scale).backward()
            loss += part.detach()
        if weights and leaves:
            weights.flow_back(leaves)  # once for all parts
        self._sum_gradients(loss)
        self._update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.step += 1
        self.tokens += batch.tokens
        self.flops += training_flops(self.matrices, self.model.config, batch.lengths, self.frozen)
        self.cursor = batch.following
        return loss

    def _update(self) -> None:
        """Clip and step; where a scaled loss has overflowed, the step is left out."""
        if self.scale != 1:
            for p in self.trained.values():
                if p.grad is not None:
                    p.grad /= self.scale
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.config.max_grad_norm)
        for optimizer in self.optimizers:
            if self.scale == 1 or norm.isfinite():
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _parts(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, object]]:
        """ids and labels [b, T] and mask of this process's rows, at most `micro_tokens` at a time (or one row)."""
        own = slice(self.processes.rank, None, self.processes.count)
        device, micro = self.model.device, self.config.micro_tokens
        ids, labels = torch.from_numpy(batch.input_ids[own]), torch.from_numpy(batch.labels[own])
        places = torch.from_numpy(batch.positions[own])
        rows = max(1, micro // ids.shape[1] if micro else len(ids))
        for first in range(0, len(ids), rows):
            width = ids.shape[1] if batch.packed else max(batch.lengths[own][first : first + rows])
            part = ids[first : first + rows, :width]
            goal = labels[first : first + rows, :width].to(device, non_blocking=True)
            there = part.to(device, non_blocking=True)
            mask = None
            if batch.packed and self.kernel == "positions":
                mask = places[first : first + rows].to(device, non_blocking=True)
            elif batch.packed:  # varlen's starts are a list: made here, so that nobody waits for the device
                seen = part if self.kernel == "varlen" else there
                mask = packed_mask(seen, self.start_id, self.kernel).to(device)
                if self.kernel == "varlen":  # their number changes: do not compile anew for each
                    torch._dynamo.maybe_mark_dynamic(mask, 0)
            yield there, goal, mask

    def _loss_sum(self, ids: Tensor, labels: Tensor, mask, weights: Weights | None = None) -> Tensor:
        """The loss summed over counted tokens; with `weights`, by the engine."""
        if self.engine and weights:
            positions = self.model.grid_positions(ids)
            rotary = self.model.model.rotary(positions)
            return self.engine.losses(weights, ids, labels, positions, rotary, training=True)[0].sum()
        # at all places: a fixed shape, no waiting
        logits = self.forward(ids, mask).logits[:, :-1].float().flatten(0, 1)
        return F.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum")

    def _sum_gradients(self, loss: Tensor) -> None:
        if self.processes.count > 1:
            for p in self.trained.values():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad  # a process may have had no row
            self.processes.sum_([loss, *(p.grad for p in self.trained.values())])

    def _choose_kernel(self) -> None:
        if getattr(self.model, "packs_by_positions", False):
            self.kernel = "positions"
            self.notes.append("packed: positions begin anew in each document, by which the model keeps them apart")
            return
        c, device = self.model.config, self.model.device
        if self.start_id is None:
            raise ValueError("pack: the tokenizer has no start token to tell packed documents apart")
        dtype = torch.bfloat16 if self.config.autocast else torch.float32
        heads = c.num_attention_heads
        self.kernel, note = choose_kernel(device, dtype, heads, c.hidden_size // heads)
        self.notes.append(f"packed: {note}")

    def _engine(self) -> Engine:
        products = torch.bfloat16 if self.config.autocast else torch.float32
        engine = Engine(self.model.config, self.model.device, products=products, compile=self.config.compile)
        self.notes.append(f"engine: {engine.note}")
        return engine

    def _compile(self) -> None:
        """Compile the decoder, and try it on one batch: where that fails, the run goes on without."""
        batch = next(self._batches())
        self.forward = torch.compile(self.model, dynamic=None if self.config.pack else True)
        try:
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.autocast):
                self._loss_sum(*next(self._parts(batch))).backward()
        except Exception as error:  # a missing compiler, an operation that it does not know, and so on
            self.forward = self.model
            self.notes.append(f"not compiled: {str(error).strip().splitlines()[0][:120]}")
        else:
            self.notes.append("compiled")
        self.model.zero_grad(set_to_none=True)

    def save(self) -> None:
        """Write the whole state but for what is frozen, atomically, where there is a checkpoint to write and this is
        the first process."""
        if self.checkpoint is None or not self.processes.first:
            return
        state = {
            "model": {name: p.detach() for name, p in self.trained.items()},
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "counters": [self.step, self.tokens, self.seconds, *self.cursor],
            "flops": self.flops,
            "stage": self.stage,
            "history": self.history,
            "config": asdict(self.config),
            "mixture": self._facts,
        }
        with sealing(self.checkpoint) as draft:
            torch.save(state, draft)

    def _load(self) -> None:
        state = load_state(self.checkpoint, self.model.device)
        fixed = {k: v for k, v in asdict(self.config).items() if k not in RESUMABLE}
        self._refuse_others(state["config"], fixed)
        self._refuse_others(state["mixture"], self._facts)
        if state["model"].keys() != self.trained.keys():
            raise ValueError(f"{self.checkpoint}: was made of other weights; start in another folder")
        self.model.load_state_dict(state["model"], strict=False)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds, *cursor = state["counters"]
        self.cursor = tuple(cursor)
        self.stage, self.history, self.flops = state["stage"], state["history"], state["flops"]

    @property
    def _facts(self) -> dict[str, object]:
        """What decides the documents and, for an adapter, what it is of: a resumed run compares it."""
        return self.curriculum.settings | dict(getattr(self.model, "settings", {}))

    def _refuse_others(self, saved: Mapping[str, object], asked: Mapping[str, object]) -> None:
        """A run goes on with the settings that it began with. ValueError names the first that differs."""
        for name, value in asked.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{self.checkpoint}: was made with {name} = {saved.get(name)}, this run has {value}; "
                    "give the same value or start in another folder"
                )


@dataclass(frozen=True)
class _Window:
    """When the metrics since the last report begin."""

    began: float
    tokens: int
    flops: float

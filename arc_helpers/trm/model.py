"""TRM: a two-layer network that is applied to its own latents, dozens of times, until it halts.

Two latents live on a canvas: z_H, from which the answer is read, and z_L, the scratch pad. A *cycle* updates z_L
L_cycles times from (z_L, z_H + question), then z_H once from (z_H, z_L). A *segment* is H_cycles cycles, and one
step of training; the latents go on to the next segment without their history, up to `halt_max_steps` of them.
"""

from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from arc_helpers.trm.batch import Batch
from arc_helpers.trm.blocks import Block, linear, rotary, truncated_normal
from arc_helpers.trm.canvas import PAD
from arc_helpers.trm.conditioner import CONDITIONERS


@dataclass(frozen=True)
class TRMConfig:
    """The defaults are the published ARC model (6.83 M parameters without its table of identifiers)."""

    vocab_size: int = 12
    hidden_size: int = 512
    num_layers: int = 2
    num_heads: int = 8
    expansion: float = 4.0
    width_multiple: int = 256  # the SwiGLU's inner width is rounded up to a multiple of it
    H_cycles: int = 3
    L_cycles: int = 4
    full_gradient: bool = False  # through all cycles of a segment; published: the last one only
    halt_max_steps: int = 16
    halt_exploration: float = 0.1  # probability of a drawn smallest number of segments
    mixer: Literal["attention", "mlp"] = "attention"
    canvas_cells: int = 900  # fixed for the mlp mixer; attention takes any
    rope: Literal["none", "1d", "2d"] = "1d"
    rope_theta: float = 10000.0
    conditioning: Literal["identifier", "shared"] = "identifier"
    conditioned_rows: int = 1  # of the conditioning's table, the blank row included
    prefix_len: int = 16
    condition_cells: bool = False  # add the prefix's sum to every cell, too
    mends: bool = False  # a batch may hold drafts, which every cell sees beside the question
    loss: Literal["stablemax", "softmax"] = "stablemax"

    def __post_init__(self):
        for name in ("hidden_size", "num_layers", "num_heads", "H_cycles", "L_cycles", "halt_max_steps", "prefix_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be >= 1")
        choices = {
            "mixer": ("attention", "mlp"),
            "rope": ("none", "1d", "2d"),
            "conditioning": tuple(CONDITIONERS),
            "loss": ("stablemax", "softmax"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be one of {', '.join(allowed)}")
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError(
                f"hidden_size = {self.hidden_size}: must be a multiple of 4 · num_heads = {self.num_heads}"
            )
        if self.conditioning == "shared" and self.prefix_len < 3:
            raise ValueError(
                f"prefix_len = {self.prefix_len}: shared conditioning needs >= 3 (task, symmetry, colours)"
            )

    @classmethod
    def preset(cls, name: str, **changes) -> "TRMConfig":
        """One of PRESETS with fields changed. Raises ValueError on another name."""
        if name not in PRESETS:
            raise ValueError(f"preset = {name!r}: must be one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, values: dict) -> "TRMConfig":
        """The config of a saved model. Raises ValueError, one line, on a field that does not exist."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"TRM config: unknown field {', '.join(unknown)}")
        return cls(**values)

    def single_pass(self) -> "TRMConfig":
        """The same parameters without recursion: one cycle, one update of each latent, one segment."""
        return replace(self, H_cycles=1, L_cycles=1, halt_max_steps=1)

    def inner(self, width: int) -> int:
        """The inner width of a SwiGLU on `width` channels."""
        return -(-round(self.expansion * width * 2 / 3) // self.width_multiple) * self.width_multiple

    @property
    def every_cycle_learns(self) -> bool:
        """Whether the gradient reaches the latents that a segment starts from."""
        return self.full_gradient or self.H_cycles == 1


#: our own models give every cycle its gradient (H_cycles = 1): in little time, cycles without one do not pay
_OWN = {"H_cycles": 1, "conditioning": "shared", "rope": "2d", "rope_theta": 100.0, "loss": "softmax"}
_ARC = {**_OWN, "prefix_len": 4, "condition_cells": True}
PRESETS = {
    "published": {},
    "sudoku": {
        **_OWN,
        **{"hidden_size": 64, "num_heads": 2, "width_multiple": 32, "L_cycles": 2, "halt_max_steps": 4},
        **{"mixer": "mlp", "rope": "none", "canvas_cells": 36, "prefix_len": 3, "conditioned_rows": 2},
    },
    "tiny": {**_ARC, "hidden_size": 32, "num_heads": 2, "width_multiple": 32, "L_cycles": 1, "halt_max_steps": 2},
    "small": {**_ARC, "hidden_size": 128, "num_heads": 4, "width_multiple": 32, "L_cycles": 2, "halt_max_steps": 2},
    "compact": {**_ARC, "hidden_size": 384, "num_heads": 6, "width_multiple": 128, "L_cycles": 4, "halt_max_steps": 6},
}


@dataclass
class Carry:
    """Where each row is in its recursion.

    z_H, z_L: [B, P + N, D]. steps: int64 [B], segments done. halted: bool [B], ready for another question.
    """

    z_H: Tensor
    z_L: Tensor
    steps: Tensor
    halted: Tensor

    @property
    def latents(self) -> Tensor:
        """z_H, and z_L behind it: [B, 2 (P + N), D]."""
        return torch.cat([self.z_H, self.z_L], dim=1)

    def rows(self, index: Tensor | slice) -> "Carry":
        """The rows that an index, a mask or a slice chooses."""
        return Carry(self.z_H[index], self.z_L[index], self.steps[index], self.halted[index])

    def detach(self) -> "Carry":
        """The same latents without their history."""
        return Carry(self.z_H.detach(), self.z_L.detach(), self.steps, self.halted)


class Segment(NamedTuple):
    """What one segment gives. logits: [B, N, vocabulary]. halt: [B], the logit of "this is right"."""

    carry: Carry
    logits: Tensor
    halt: Tensor


class TRM(nn.Module):
    """The Tiny Recursive Model. Calling it runs one segment."""

    def __init__(self, config: TRMConfig):
        super().__init__()
        self.config = config
        width, length = config.hidden_size, config.prefix_len + config.canvas_cells
        mixer = (length, config.inner(length)) if config.mixer == "mlp" else None
        self.embed = nn.Embedding(config.vocab_size, width)
        truncated_normal(self.embed.weight, width**-0.5)
        if config.mends:
            self.draft = nn.Embedding(config.vocab_size, width, padding_idx=PAD)
            nn.init.zeros_(self.draft.weight)  # a TRM that was pretrained without drafts starts unchanged
        self.conditioner: nn.Module = CONDITIONERS[config.conditioning](
            config.conditioned_rows, config.prefix_len, width
        )
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.inner(width), mixer) for _ in range(config.num_layers)
        )
        self.head = linear(width, config.vocab_size)
        self.halt_head = nn.Linear(width, 1)
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, -5.0)  # nothing is right at first
        # Fixed, as published: where the latents of a new question start.
        self.register_buffer("z_H_start", truncated_normal(torch.empty(width), 1.0))
        self.register_buffer("z_L_start", truncated_normal(torch.empty(width), 1.0))

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    def start(self, rows: int, cells: int, z_H: Tensor | None = None, z_L: Tensor | None = None) -> Carry:
        """The carry of `rows` new questions on canvases of `cells` cells.

        z_H, z_L: [rows, prefix_len + cells, D] in place of the fixed start. Raises ValueError where they could
        not learn: with gradient through the last cycle only, none reaches them.
        """
        if (z_H is not None or z_L is not None) and not self.config.every_cycle_learns:
            raise ValueError(
                f"z_H, z_L: no gradient reaches a given start with H_cycles = {self.config.H_cycles} and "
                "full_gradient = False; set full_gradient, or H_cycles = 1"
            )
        shape = (rows, self.config.prefix_len + cells, self.config.hidden_size)
        latents = []
        for name, given, fixed in (("z_H", z_H, self.z_H_start), ("z_L", z_L, self.z_L_start)):
            if given is not None and given.shape != shape:
                raise ValueError(f"{name}: shape {tuple(given.shape)}, the canvas needs {shape}")
            latents.append(fixed.expand(shape) if given is None else given)
        steps = torch.zeros(rows, dtype=torch.int64, device=self.device)
        z_H, z_L = latents
        return Carry(z_H, z_L, steps, torch.zeros_like(steps, dtype=torch.bool))

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        """The carry in which the rows of a mask [B] stand at the start again."""
        starts = (start.to(carry.z_H.dtype) for start in (self.z_H_start, self.z_L_start))
        z_H, z_L = map(partial(torch.where, rows[:, None, None]), starts, (carry.z_H, carry.z_L))
        return Carry(z_H, z_L, carry.steps.masked_fill(rows, 0), carry.halted & ~rows)

    def forward(self, carry: Carry, batch: Batch, prefix: Tensor | None = None) -> Segment:
        """One segment: H_cycles cycles, an answer and a halting logit.

        prefix: [B, P, D] in place of the conditioner's. `carry.steps` counts up; who halts is `decide_halts`' part.
        """
        config = self.config
        if config.mixer == "mlp" and batch.cells.shape[1] != config.canvas_cells:
            raise ValueError(
                f"a canvas of {batch.cells.shape[1]} cells: the mlp mixer has a fixed one of {config.canvas_cells}; "
                "use attention, or a layout with one size"
            )
        dtype = computed_in(self.device.type)
        question = self.question(batch, prefix).to(dtype)
        turn = self._turn(batch.width, batch.cells.shape[1], question.dtype)
        z_H, z_L = carry.z_H.to(question.dtype), carry.z_L.to(question.dtype)
        for cycle in range(config.H_cycles):
            last = cycle == config.H_cycles - 1
            if last and config.H_cycles > 1 and not config.full_gradient:
                torch.clear_autocast_cache()  # it holds weights that were cast without a gradient
            with nullcontext() if last or config.full_gradient else torch.no_grad():
                for _ in range(config.L_cycles):
                    z_L = self._network(z_L + z_H + question, turn)
                z_H = self._network(z_H + z_L, turn)
        logits = self.head(z_H[:, config.prefix_len :])
        return Segment(Carry(z_H, z_L, carry.steps + 1, carry.halted), logits, self.halt_head(z_H[:, 0])[:, 0])

    def question(self, batch: Batch, prefix: Tensor | None = None) -> Tensor:
        """The embedded question [B, P + N, D] that every update of z_L sees."""
        prefix = self.conditioner(batch) if prefix is None else prefix
        cells = self.embed(batch.cells)
        if batch.draft is not None and self.config.mends:
            cells = cells + self.draft(batch.draft)
        if self.config.condition_cells:
            cells = cells + prefix.sum(dim=1, keepdim=True)
        return self.config.hidden_size**0.5 * torch.cat([prefix, cells], dim=1)

    def _network(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        for block in self.blocks:
            x = block(x, turn)
        return x

    def _turn(self, width: Tensor, cells: int, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Rotary angles: along the sequence (1d), or along rows and columns of the canvas (2d)."""
        config = self.config
        if config.rope == "none" or config.mixer == "mlp":
            return None
        index = torch.arange(cells, device=width.device)
        before = torch.arange(-config.prefix_len, 0, device=width.device)
        if config.rope == "1d":
            coordinates = torch.cat([before, index])[None, :, None] + config.prefix_len  # [1, S, 1]
        else:
            cell = torch.stack([index // width[:, None], index % width[:, None]], dim=-1)  # [B, N, 2]
            coordinates = torch.cat([before[None, :, None].expand(len(width), -1, 2), cell], dim=1)
        return rotary(coordinates, config.hidden_size // config.num_heads, config.rope_theta, dtype)


def computed_in(device: str) -> torch.dtype | None:
    """What latents are kept in: the dtype of autocast on a GPU, as published; None where they stay as they are.

    On CPUs the casts cost more than the narrower sums and norms save.
    """
    return torch.get_autocast_dtype(device) if device != "cpu" and torch.is_autocast_enabled(device) else None


def decide_halts(carry: Carry, halt: Tensor, config: TRMConfig, generator: torch.Generator) -> Carry:
    """Which rows of training are done: at the limit, or where the model says so and exploration lets it.

    With probability `halt_exploration` a row must have done a drawn number of segments, 2 to the limit.
    """
    rows = (len(halt),)
    explores = torch.rand(rows, generator=generator) < config.halt_exploration
    most = max(2, config.halt_max_steps)  # randint needs a range; a limit of one segment is below
    least = torch.randint(2, most + 1, rows, generator=generator)
    least = torch.where(explores, least, 0).to(halt.device)
    halted = (carry.steps >= config.halt_max_steps) | ((halt > 0) & (carry.steps >= least))
    return Carry(carry.z_H, carry.z_L, carry.steps, halted)


def count_parameters(model: TRM) -> dict[str, int]:
    """How many numbers are trained: in the network, and in the conditioning's tables."""
    tables = sum(p.numel() for p in model.conditioner.parameters())
    return {"network": sum(p.numel() for p in model.parameters()) - tables, "conditioning": tables}


def segment_flops(config: TRMConfig, cells: int, training: bool = True) -> int:
    """Multiply-adds counted as two, of one segment of one canvas; matrix products and attention only.

    Backward costs twice the forward, where there is one (the last cycle, or all).
    """
    length, width = config.prefix_len + cells, config.hidden_size
    mlp = 6 * width * config.inner(width) * length
    if config.mixer == "mlp":
        mix = 6 * length * config.inner(length) * width
    else:
        mix = 8 * width * width * length + 4 * length * length * width
    cycle = (config.L_cycles + 1) * config.num_layers * (mlp + mix)
    forward = config.H_cycles * cycle + 2 * width * config.vocab_size * cells
    learning = (config.H_cycles if config.full_gradient else 1) * cycle + 2 * width * config.vocab_size * cells
    return forward + (2 * learning if training else 0)

"""The joint model: a frozen language model reads the problem, TRM thinks on the canvas, and what it thought goes back.

prompt → LLM states → TextToLatentAdapter → TRM's prefix (or start) → segments until it halts → answer
            ↑                                                                             │ z_H, z_L
            └──── soft tokens ← LatentToTextAdapter ←─────────────────────────────────────┘
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from arc_helpers.arc import Pair
from arc_helpers.hybrid.adapters import LatentToTextAdapter, Mode, TextToLatentAdapter, parameter_table
from arc_helpers.hybrid.feedback import Attempt, encode_problem
from arc_helpers.hybrid.questions import Question
from arc_helpers.hybrid.states import StateBank, States, read
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.trm import TRM, Batch, Carry
from arc_helpers.trm.model import Segment

CONDITIONINGS, CONTROLS = ("text", "id", "blank"), ("none", "shuffled", "zeroed")


class HybridError(ValueError):
    """A language model and a TRM that cannot be joined; one line: what, which, what is allowed."""


@dataclass(frozen=True)
class HybridConfig:
    """How the two are joined. conditioning: what TRM is told about the task.

    "text": the language model's states. "id": TRM's own task vectors, which are trained then. "blank": nothing.
    """

    canvas_side: int = 30
    conditioning: str = "text"
    mode: Mode = "prefix"
    layers: int = 2  # cross-attention blocks of the text → latent adapter
    soft_tokens: int = 4  # of the latent → text adapter
    max_attempts: int = 16
    shown_attempts: int = 1  # earlier attempts in a prompt, the last ones
    show_question: bool = True  # put the test input into the first prompt, too, or the demonstrations alone
    control: str = "none"  # shuffled: every row gets the states of another one; zeroed: states without content

    def __post_init__(self):
        if not 1 <= self.canvas_side <= 30:
            raise HybridError(f"canvas_side = {self.canvas_side}: must be >= 1 and <= 30")
        if self.max_attempts < 1:
            raise HybridError(f"max_attempts = {self.max_attempts}: must be >= 1")
        for name, allowed in (("conditioning", CONDITIONINGS), ("control", CONTROLS)):
            if getattr(self, name) not in allowed:
                raise HybridError(f"{name} = {getattr(self, name)!r}: must be one of {', '.join(allowed)}")


class Thought(NamedTuple):
    """Where TRM has come to, for each row. tokens: [B, N]. q, residual: [B], see `Attempt`. segments: [B].

    latents: [B, 2 (P + N), D], z_H and z_L behind it.
    """

    tokens: Tensor
    q: Tensor
    residual: Tensor
    segments: Tensor
    latents: Tensor


class HybridModel(nn.Module):
    """A frozen language model and a TRM, joined by two adapters. Its parameters are those that are trained.

    The language model is not a submodule: it is neither trained nor saved with it (but its LoRA, if it has one, is).
    TRM's conditioner is trained with conditioning "id" only; with "text" it stays as it is, and what the text says is
    added to the prefix it gives. cache_gib: memory for states that are kept. Raises HybridError where the two do not
    go together.
    """

    def __init__(self, lm: LoadedLM, trm: TRM, config: HybridConfig, cache_gib: float = 1.0):
        super().__init__()
        if trm.config.mixer == "mlp" and trm.config.canvas_cells != config.canvas_side**2:
            raise HybridError(
                f"canvas_side = {config.canvas_side}: the TRM has a fixed canvas of {trm.config.canvas_cells} cells"
            )
        self.config, self.trm = config, trm
        trm.conditioner.requires_grad_(config.conditioning == "id")
        self._lm = (lm,)  # a tuple hides it from nn.Module
        if config.conditioning == "text":
            width = llm_width(lm)
            self.to_latent = TextToLatentAdapter(width, trm.config, config.mode, config.layers)
            scale = embedding_rms(lm)
            self.to_text = LatentToTextAdapter(trm.config.hidden_size, width, scale, config.soft_tokens)
        lora = {name.replace(".", "/"): p for name, p in lm.model.named_parameters() if "lora_" in name}
        self.lora = nn.ParameterDict(lora)
        self.bank = None if lora else StateBank(lm, cache_gib)  # states of a model that changes cannot be kept

    @property
    def lm(self) -> LoadedLM:
        return self._lm[0]

    def parameter_table(self) -> dict[str, int]:
        """Trained numbers by part, and those of the language model, which are not."""
        parts = {name: part for name, part in self.named_children() if any(True for _ in part.parameters())}
        frozen = sum(p.numel() for p in self.lm.model.parameters() if not p.requires_grad)
        return {**parameter_table(**parts), "frozen language model": frozen}

    def prompts(self, questions: Sequence[Question]) -> list[np.ndarray]:
        """The first prompt of each question."""
        return [encode_problem(self.lm, q, show_question=self.config.show_question) for q in questions]

    def first_states(self, questions: Sequence[Question]) -> States | None:
        """What the language model makes of the questions before any attempt; each prompt is read once and kept."""
        if self.config.conditioning != "text":
            return None
        prompts = self.prompts(questions)
        return self._controlled(read(self.lm, prompts) if self.bank is None else self.bank.get(prompts))

    def next_states(
        self,
        questions: Sequence[Question],
        histories: Sequence[Sequence[Attempt]],
        latents: Tensor,
        notes: Sequence[Sequence[Pair | str]] = (),
    ) -> States | None:
        """The states after attempts: the last ones of each history as text, latents [B, 2 (P + N), D] as soft tokens.

        Never inside no_grad in training: the gradient goes back through the language model into TRM.
        """
        if self.config.conditioning != "text":
            return None
        notes = notes or [()] * len(questions)
        how: dict[str, Any] = {"show_question": self.config.show_question, "room": self.config.soft_tokens}
        prompts = [
            encode_problem(self.lm, question, history[-self.config.shown_attempts :], note, **how)
            for question, history, note in zip(questions, histories, notes, strict=True)
        ]
        return self._controlled(read(self.lm, prompts, self.to_text(latents)))

    def _controlled(self, states: States) -> States:
        if self.config.control == "zeroed":
            return States(torch.zeros_like(states.hidden), states.mask)
        if self.config.control == "shuffled":
            if len(states.mask) < 2:
                raise HybridError("control = 'shuffled': a batch of one question has no other one's states")
            return States(*(x.roll(len(x) // 2, dims=0) for x in states))  # half a batch away, where another task is
        return states

    def condition(self, batch: Batch, states: States | None) -> tuple[Tensor, Carry]:
        """(prefix [B, P, D], carry) that TRM starts from."""
        prefix, rows, cells = self.trm.conditioner(batch), len(batch), batch.cells.shape[1]
        if states is None:
            return prefix, self.trm.start(rows, cells)
        device = self.trm.device
        latent = self.to_latent(states.hidden.to(device), states.mask.to(device), batch.width, cells)
        if latent.prefix is not None:
            prefix = prefix + latent.prefix
        moved = {"z_H": latent.z_H, "z_L": latent.z_L}
        starts = {name: getattr(self.trm, f"{name}_start") + z for name, z in moved.items() if z is not None}
        return prefix, self.trm.start(rows, cells, **starts)

    def segments(self, batch: Batch, states: States | None) -> tuple[list[Segment], Tensor]:
        """All segments of one attempt, for training, each from where the last one ended, without its history; and how
        much the last one moved, [B]."""
        prefix, carry = self.condition(batch, states)
        made = []
        for _ in range(self.trm.config.halt_max_steps):
            before = carry.z_H.detach()
            made.append(self.trm(carry, batch, prefix))
            carry = made[-1].carry.detach()
        return made, residual(before, carry.z_H)

    @torch.no_grad()
    def think(self, batch: Batch, states: States | None) -> Thought:
        """One attempt, each row until TRM halts it or it has had `halt_max_steps` segments."""
        prefix, carry = self.condition(batch, states)
        done, found = torch.zeros(len(batch), dtype=torch.bool, device=self.trm.device), None
        for number in range(1, self.trm.config.halt_max_steps + 1):
            before = carry.z_H
            carry, logits, halt = self.trm(carry, batch, prefix)
            moved, count = residual(before, carry.z_H), torch.full_like(carry.steps, number)
            new = Thought(logits.argmax(-1), torch.sigmoid(halt.float()), moved, count, carry.latents)
            found = new if found is None else Thought(*map(_keep, found, new, [done] * len(new)))
            done = done | (halt > 0)
            if done.all():
                break
        return found

    def about(self) -> dict:
        """What a saved model must agree with."""
        return {"hybrid": asdict(self.config), "trm": asdict(self.trm.config), "llm_width": llm_width(self.lm)}


def residual(before: Tensor, after: Tensor) -> Tensor:
    """How much latents [B, P + N, D] moved in a segment, relative to their size: float32 [B]."""
    size = before.flatten(1).norm(dim=1).clamp(min=1e-12)
    return ((after - before).flatten(1).norm(dim=1) / size).float()


def llm_width(lm: LoadedLM) -> int:
    """`hidden_size` of a language model's config. Raises HybridError where it has none."""
    width = getattr(lm.model.config.get_text_config(), "hidden_size", None)
    if not isinstance(width, int):
        raise HybridError(f"{lm.name}: its config has no hidden_size; the adapters cannot know how wide its states are")
    return width


def embedding_rms(lm: LoadedLM) -> float:
    """Root mean square of the embeddings of the grid alphabet."""
    rows = torch.tensor(lm.prompt_form.token_ids)
    weight = lm.model.get_input_embeddings().weight
    return weight[rows.to(weight.device)].float().square().mean().sqrt().item()


def _keep(old: Tensor, new: Tensor, done: Tensor) -> Tensor:
    return torch.where(done.reshape(-1, *[1] * (old.dim() - 1)), old, new)

"""K low-rank adapters on one frozen base.

Mode "head", as the seed defines it: adapter i holds A_i [H, r] and B_i [r, H] and changes the final hidden state,

    hidden_i = hidden + (lora_alpha / r) · hidden A_i B_i,        logits_i = hidden_i W_headᵀ.

Every row of a batch is run through the base on its *own* tokens and then through its *own* adapter. (A public
script of this idea runs the base on task 0 only; `tests/ttt/test_multilora.py` fails for that.)
"""

import math
import zlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import IGNORE

MODES = ("head",)


class MultiLoRAModel(nn.Module):
    """A frozen LM with `num_slots` adapters; a slot is one adapter's place, as in PEFT's terms.

    names: what each slot belongs to (task ids). A slot's first weights are drawn from its name and the seed
        alone, so a task's result does not depend on which tasks share its group.
    Adapters are float32 whatever the base computes in; a hidden state is cast to meet them and back.
    """

    def __init__(
        self,
        lm: LoadedLM,
        names: Sequence[str],
        *,
        r: int = 16,
        lora_alpha: float = 32.0,
        mode: str = "head",
        seed: int = 0,
    ):
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode = {mode!r}: must be one of {', '.join(MODES)}")
        if not names:
            raise ValueError("MultiLoRAModel: at least one slot is needed")
        width = lm.model.config.get_text_config().hidden_size
        if not 1 <= r <= width:
            raise ValueError(f"r = {r}: must be 1…{width}, the width of the hidden state")
        self.lm, self.names, self.mode = lm, list(names), mode
        self.scaling = lora_alpha / r
        bound = 1 / math.sqrt(width)  # kaiming_uniform_(a=√5) of one slice; over the stack its fan-in is wrong
        first = [(torch.rand(width, r, generator=_generator(n, seed)) * 2 - 1) * bound for n in names]
        self.A = nn.Parameter(torch.stack(first).to(lm.device))  # [K, H, r]
        self.B = nn.Parameter(torch.zeros(len(self.names), r, width, device=lm.device))  # [K, r, H]

    @property
    def num_slots(self) -> int:
        return len(self.names)

    def adapt(self, hidden: Tensor, slots: Tensor | None = None) -> Tensor:
        """hidden [N, n, H] of any dtype to float32 [N, n, H]; row i goes through adapter slots[i] (default: i)."""
        A, B = (self.A, self.B) if slots is None else (self.A[slots], self.B[slots])
        hidden = hidden.to(A.dtype)
        return torch.baddbmm(hidden, torch.bmm(hidden, A), B, alpha=self.scaling)

    def logits(self, hidden: Tensor, slots: Tensor | None = None) -> Tensor:
        """float32 logits [N, n, V] of final hidden states [N, n, H]."""
        head = self.lm.head
        return head(self.adapt(hidden, slots).to(head.weight.dtype)).float()

    def forward(self, input_ids: Tensor | None = None, slots: Tensor | None = None, **inputs) -> Tensor:
        """logits [N, T, V] of token ids [N, T] (or `inputs_embeds`), each row with its own adapter."""
        return self.logits(self.lm.hidden(input_ids, **inputs).last_hidden_state, slots)


def per_slot_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of each slot, [K], from logits [K, n, V] and labels [K, n] (−100 = not counted).

    Sum these before `backward`: a mean over slots, or a mean over all tokens, would couple the adapters.
    """
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    counted = (labels != IGNORE).sum(dim=1).clamp_min(1)
    return losses.sum(dim=1) / counted


def _generator(name: str, seed: int) -> torch.Generator:
    # crc32, since Python's hash() is salted anew in every process
    return torch.Generator().manual_seed(zlib.crc32(f"{name}:{seed}".encode()))

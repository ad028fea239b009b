"""Which tokens may come next in an answer: every finished answer is a valid grid by construction."""

import torch
from torch import Tensor

from arc_helpers.arc import MAX_SIDE
from arc_helpers.lm.prompt_form import PromptForm


class GridGrammar:
    """Follows N answers as they are written, and masks what would break a rectangle of at most 30 × 30.

    A first row may be 1–30 cells wide; every later row has its width; after each of 1–30 rows the answer may end, as
    the prompt form has it: behind a row end, or instead of one.
    """

    def __init__(self, rows: int, prompt_form: PromptForm, vocab_size: int, device: torch.device | None = None):
        self.prompt_form = prompt_form
        self.column = torch.zeros(rows, dtype=torch.long, device=device)  # cells in the current row
        self.height = torch.zeros_like(self.column)  # finished rows
        self.width = torch.zeros_like(self.column)  # 0 while the first row is open
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self._digit = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self._digit[list(prompt_form.digits)] = True

    def allowed(self) -> Tensor:
        """bool [N, V]: the tokens that may come next; only the end token once an answer is done."""
        limit = torch.where(self.width > 0, self.width, MAX_SIDE)
        cell = (self.column < limit) & (self.height < MAX_SIDE) & ~self.done
        full = torch.where(self.width > 0, self.column == self.width, self.column > 0) & ~self.done
        mask = cell[:, None] & self._digit
        if self.prompt_form.closes_last_row:
            mask[:, self.prompt_form.row_end] = full
            mask[:, self.prompt_form.end] = self.done | ((self.column == 0) & (self.height > 0))
        else:  # a row end promises another row
            mask[:, self.prompt_form.row_end] = full & (self.height < MAX_SIDE - 1)
            mask[:, self.prompt_form.end] = self.done | full
        return mask

    def push(self, tokens: Tensor) -> None:
        """Write one token [N] to each answer."""
        row_end = (tokens == self.prompt_form.row_end) & ~self.done
        self.done = self.done | (tokens == self.prompt_form.end)
        self.width = torch.where(row_end & (self.width == 0), self.column, self.width)
        self.height = self.height + row_end.long()
        self.column = torch.where(row_end, 0, self.column + (~self.done & ~row_end).long())

    def keep(self, rows: Tensor) -> None:
        """Go on with only these rows (indices or a bool mask)."""
        for name in ("column", "height", "width", "done"):
            setattr(self, name, getattr(self, name)[rows])

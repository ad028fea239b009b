"""What the frozen language model makes of a prompt: its hidden states, with or without soft tokens in front."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from arc_helpers.lm.loading import LoadedLM


class States(NamedTuple):
    """hidden: [B, T, H], left-padded, after the model's last norm. mask: bool [B, T], True on what was read."""

    hidden: Tensor
    mask: Tensor


def read(lm: LoadedLM, prompts: Sequence[np.ndarray], soft: Tensor | None = None) -> States:
    """Read prompts (ids, int64 [T] each), one row each: [padding] [soft tokens] [text].

    soft: [B, M, H] embeddings that stand before the text; the gradient goes through the model to them. It is cast to
    the model's dtype and device. Raises ValueError where prompts and soft tokens are longer than the model's context.
    """
    soft_tokens = 0 if soft is None else soft.shape[1]
    lengths = [soft_tokens + len(prompt) for prompt in prompts]
    longest = max(lengths)
    if longest > lm.max_len:
        raise ValueError(f"a prompt of {longest} tokens, {soft_tokens} of them soft: the context is {lm.max_len}")
    ids = np.full((len(prompts), longest), lm.prompt_form.pad)
    for row, prompt in zip(ids, prompts, strict=True):
        row[longest - len(prompt) :] = prompt
    ids = torch.from_numpy(ids).to(lm.device)
    column = torch.arange(longest, device=lm.device)
    starts = longest - torch.tensor(lengths, device=lm.device)[:, None]  # [B, 1]
    mask = column >= starts
    given = {"attention_mask": mask.long(), "position_ids": lm.positions(ids, mask), "use_cache": False}
    if soft is None:
        return States(lm.hidden(ids, **given).last_hidden_state, mask)
    is_soft = mask & (column < starts + soft_tokens)
    if given["position_ids"].dim() == 3:  # a GridLM reads positions off ids: soft tokens stand before the first grid
        place = torch.stack([column - starts + 1, *[torch.zeros_like(ids)] * 2], dim=-1)
        found = given["position_ids"]
        given["position_ids"] = torch.cat([torch.where(is_soft[..., None], place, found[..., :3]), found[..., 3:]], -1)
    embedded = lm.model.get_input_embeddings()(ids)
    soft = soft.to(embedded.device, embedded.dtype).flatten(0, 1)
    embedded = embedded.masked_scatter(is_soft.to(embedded.device)[..., None], soft)
    return States(lm.hidden(inputs_embeds=embedded, **given).last_hidden_state, mask)


class StateBank:
    """States of prompts that are read again and again: a frozen model reads each of them once.

    Each prompt is read alone, so that not one bit of what is kept depends on who asked with whom, or first.
    limit_gib: memory it may take on the CPU; prompts beyond it are read every time.
    """

    def __init__(self, lm: LoadedLM, limit_gib: float = 1.0):
        self.lm, self.left = lm, int(limit_gib * 2**30)
        self.kept: dict[bytes, Tensor] = {}  # [T, H] each

    def get(self, prompts: Sequence[np.ndarray]) -> States:
        """As `read` without soft tokens and without a gradient, from memory where possible."""
        found = {}
        for prompt in prompts:
            key = prompt.tobytes()
            if key not in found:
                found[key] = self.kept[key] if key in self.kept else self._read(prompt)
        return pad_left([found[prompt.tobytes()] for prompt in prompts])

    @torch.no_grad()
    def _read(self, prompt: np.ndarray) -> Tensor:
        with torch.autocast(self.lm.device.type, enabled=False):
            states = read(self.lm, [prompt]).hidden[0].cpu()
        size = states.numel() * states.element_size()
        if size <= self.left:
            self.kept[prompt.tobytes()], self.left = states, self.left - size
        return states


def pad_left(rows: Sequence[Tensor]) -> States:
    """States [T, H] of several lengths as one batch."""
    longest = max(map(len, rows))
    hidden = torch.stack([torch.nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return States(hidden, torch.arange(longest) >= longest - lengths[:, None])

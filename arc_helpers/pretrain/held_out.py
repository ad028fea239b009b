"""Scores on labelled tasks that are neither trained on nor scored: for curves and for choosing settings."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from arc_helpers.arc import Task
from arc_helpers.lm.prompt import IGNORE, TaskTooLong, encode
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.pretrain.batches import Batch
from arc_helpers.runs import Deadline


def held_out_score(
    model: nn.Module, tasks: list[Task], prompt_form: PromptForm, max_len: int, deadline: Deadline | None = None
) -> dict[str, float]:
    """Answer loss (nats a token) and exact answers under greedy decoding, on the tests of labelled tasks; and on how
    many: those that are looked at before the deadline, one at least."""
    losses, exact = held_out_losses(model, tasks, prompt_form, max_len, deadline)
    return {"held_out_loss": float(losses.mean()), "held_out_exact": int(exact.sum()), "held_out_tasks": len(losses)}


@torch.no_grad()
def held_out_losses(
    model: nn.Module, tasks: list[Task], prompt_form: PromptForm, max_len: int, deadline: Deadline | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Answer loss (nats a token) and whether the answer is exact, float [n] and bool [n], of those tasks that fit
    and are looked at before the deadline, one at least.

    An answer is exact when every one of its tokens is the most likely one given the right tokens before it:
    the same thing as greedy decoding giving the answer, at the price of one forward.
    """
    was_training = model.training
    model.eval()
    losses, exact = [], []
    device = model.device
    documents = []
    for task in tasks:
        task.answers()  # raises where there is nothing to compare with
        try:
            documents.append(("", encode(task, prompt_form, max_len=max_len)))
        except TaskTooLong:
            continue
    for document in documents:
        if losses and deadline and deadline.passed:
            break
        batch = Batch.of([document], prompt_form.pad)
        ids, labels = (torch.from_numpy(a).to(device) for a in (batch.input_ids, batch.labels))
        counted = labels[:, 1:] != IGNORE
        logits = model(ids).logits[:, :-1][counted].float()
        losses.append(F.cross_entropy(logits, labels[:, 1:][counted]).item())
        exact.append(bool((logits.argmax(-1) == labels[:, 1:][counted]).all()))
    model.train(was_training)
    if not documents:
        raise ValueError(f"held_out_score: none of {len(tasks)} tasks fits {max_len} tokens")
    return np.array(losses), np.array(exact)

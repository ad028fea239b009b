"""A task as a few numbers: what a base model makes of its demonstrations."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from arc_helpers.arc import Task
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import Encoded, TaskTooLong, encode
from arc_helpers.ttt.limits import fitting


@torch.no_grad()
def task_features(lm: LoadedLM, tasks: Sequence[Task]) -> np.ndarray:
    """The mean final state of the base over each task's prompt, float32 [n, H]; zeros where a prompt does not fit
    into the context or the memory.

    Test outputs are not looked at.
    """
    width = lm.model.config.get_text_config().hidden_size
    found = np.zeros((len(tasks), width), dtype=np.float32)
    for row, task in enumerate(tasks):
        try:
            prompt = encode(task.without_answers(), lm.prompt_form, max_len=lm.max_len)
        except TaskTooLong:
            continue
        mean = fitting(partial(_mean_state, lm, prompt))
        found[row] = 0 if mean is None else mean
    return found


def _mean_state(lm: LoadedLM, prompt: Encoded) -> np.ndarray:
    ids = torch.from_numpy(prompt.input_ids)[None].to(lm.device)
    return lm.hidden(ids, use_cache=False).last_hidden_state[0].float().mean(dim=0).cpu().numpy()

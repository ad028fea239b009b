"""How likely a model finds the answer tokens of a sequence."""

import numpy as np
import torch

from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import IGNORE, Encoded


@torch.no_grad()
def answer_logprobs(lm: LoadedLM, encoded: Encoded) -> np.ndarray:
    """Natural log-probability of each counted token given the right tokens before it: float32 [answer_tokens]."""
    ids = torch.from_numpy(encoded.input_ids)[None].to(lm.device)
    labels = torch.from_numpy(encoded.labels)[1:].to(lm.device)
    counted = labels != IGNORE
    hidden = lm.hidden(ids).last_hidden_state[0, :-1][counted]
    logprobs = lm.logits(hidden).float().log_softmax(dim=-1)
    return logprobs.gather(1, labels[counted][:, None]).squeeze(1).cpu().numpy()

"""Two families of adapters, one trained on crops and one on whole grids, and a router that picks one for each task.

The seed's idea: local rules are learned from small windows, global ones are not. A family is an ordinary slot of
`MultiLoRAModel`, trained on many labelled tasks; its row of the bank may be what a task's own adapter starts from
(`trainer.Job.start`). The family that is picked most may be merged into a copy of the base: then it costs nothing.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.decoder import embedding_scale, gain_of
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.ttt.multilora import MultiLoRAModel


def cropped(task: Task, side: int, rng: np.random.Generator) -> Task | None:
    """The same task seen through windows of at most side × side cells, each pair through a random one of its own; None
    where some output is not as large as its input, so that a window of both would not show the same place.

    Only for tasks whose outputs may be seen: those with a test output that is not known are refused (ValueError).
    """
    if not task.has_answers:
        raise ValueError(f"task {task.id}: crops need every test output")
    if any(pair.input.shape != pair.output.shape for pair in (*task.train, *task.test)):
        return None

    def window(pair: Pair) -> Pair:
        sizes = [min(side, n) for n in pair.input.shape]
        first = [int(rng.integers(n - size + 1)) for n, size in zip(pair.input.shape, sizes, strict=True)]
        place = tuple(slice(at, at + size) for at, size in zip(first, sizes, strict=True))
        return Pair(pair.input[place], pair.output[place])

    return replace(task, train=tuple(map(window, task.train)), test=tuple(map(window, task.test)))


@dataclass(frozen=True)
class Router:
    """A linear classifier of tasks: which family, from the base's features of their demonstrations."""

    mean: np.ndarray  # [H]
    spread: np.ndarray  # [H]
    weight: np.ndarray  # [families, H]
    bias: np.ndarray  # [families]

    @classmethod
    def fitted(cls, features: np.ndarray, losses: np.ndarray, *, l2: float = 1.0) -> "Router":
        """From features [n, H] of tasks and each family's loss on them [n, families].

        Logistic regression towards the better family, weighted by how much better it is, so that tasks on which there
        is nothing to choose do not count. l2: of the weights, over the mean loss. Raises ValueError without tasks.
        """
        if not len(features) or len(features) != len(losses):
            raise ValueError(f"router: {len(features)} features and {len(losses)} losses: must be as many, and some")
        mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        x = torch.from_numpy((features - mean) / spread).float()
        best = torch.from_numpy(losses.argmin(axis=1))
        stakes = torch.from_numpy(losses.max(axis=1) - losses.min(axis=1)).float()
        stakes = stakes / stakes.mean().clamp_min(1e-12)
        linear = nn.Linear(x.shape[1], losses.shape[1])
        nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
        optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            wrong = (stakes * F.cross_entropy(linear(x), best, reduction="none")).mean()
            total = wrong + l2 * linear.weight.pow(2).mean()
            total.backward()
            return total

        optimizer.step(loss)
        return cls(mean, spread, linear.weight.detach().numpy(), linear.bias.detach().numpy())

    def pick(self, features: np.ndarray) -> np.ndarray:
        """The family of each task, int [n]."""
        return (((features - self.mean) / self.spread) @ self.weight.T + self.bias).argmax(axis=1)


@torch.no_grad()
def merged(model: MultiLoRAModel, k: int) -> LoadedLM:
    """A copy of the base with slot k in its weights: the same logits, and no adapter to carry.

    Raises ValueError, one line, for mode "head" (which would change the head for all of its vocabulary at once) and for
    a base whose weights are not plain numbers.
    """
    if model.mode == "head":
        raise ValueError("merged: mode = 'head' is not supported; allowed are top_m, full")
    lm = replace(model.lm, model=deepcopy(model.lm.model), name=f"{model.lm.name}-{model.names[k]}")
    if lm.head.weight is lm.model.get_input_embeddings().weight and "head" in model.bank:
        lm.head.weight = nn.Parameter(lm.head.weight.clone(), requires_grad=False)  # no longer the embedding's
        lm.model.config.get_text_config().tie_word_embeddings = False
    slot = model.bank.slot(k)
    for name, value in slot.items():
        module, _, kind = name.rpartition(".")
        if kind == "A":
            change = model.scaling * slot[f"{module}.B"] @ value
            module = lm.model.get_submodule(module)
        elif kind == "scale":
            module = lm.model.get_submodule(module)
            change = gain_of(module) * value
        elif name in ("head", "embedding"):
            module, change = lm.head if name == "head" else lm.model.get_input_embeddings(), value
            change = change if name == "head" else change / embedding_scale(module)
        else:
            continue  # B, taken with its A
        if not module.weight.is_floating_point():
            raise ValueError(f"merged: {lm.name} is quantised; its weights cannot be added to")
        module.weight.add_(change.to(module.weight.dtype))
    return lm

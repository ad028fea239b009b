"""Joint test-time training: a copy of the base learns all tasks of a run at once, from their demonstrations.

Each demonstration becomes single pairs, one in each of the eight symmetries, behind the task's token and the view's
(`lm/task_tokens.py`, the form of mdlARC and TRM); or leave-one-out sequences in context; or both. All
weights learn, with Muon, and what is common to the tasks is learned once. Slots of `ttt.solve_tasks` may follow, each
on its own task. Test outputs are out of reach: tasks are stripped of them first.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from arc_helpers.arc import DIHEDRAL, MAX_SIDE, Pair, Task
from arc_helpers.engine import TOKENS_AT_ONCE, WORTH_COMPILING
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import TaskTooLong, encode_pairs
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.task_tokens import TaskTokens
from arc_helpers.pretrain.batches import Batch, Document, padded_groups
from arc_helpers.pretrain.mixture import random_transform
from arc_helpers.pretrain.settings import PretrainConfig
from arc_helpers.pretrain.trainer import Pretrainer
from arc_helpers.runs import has_bfloat16
from arc_helpers.ttt.results import weights_hash

POOL = 512  # documents sorted by length together
MOST_DEMOS = 8  # demonstrations of an in-context sequence


def joint_config(device: str, steps: int | None, seconds: float | None = None, **changes) -> PretrainConfig:
    """The settings that a short joint training does well with; `changes` are fields of PretrainConfig.

    On a CPU it goes through the engine, compiled where the run is long enough to win that time back.
    """
    usual: dict = {"warmup_steps": 20, "ema_decay": 0.95, "log_every": 10, "checkpoint_every": 50}
    usual["autocast"] = has_bfloat16(device)
    if torch.device(device).type == "cpu":
        tokens = (steps or math.inf) * changes.get("batch_tokens", PretrainConfig.batch_tokens)
        long = tokens > WORTH_COMPILING and (seconds or math.inf) > 60
        usual |= {"engine": True, "micro_tokens": TOKENS_AT_ONCE, "compile": long}
    return PretrainConfig(steps=steps, seconds=seconds, **{**usual, **changes})


def check_learner(lm: LoadedLM) -> None:
    """Raises ValueError, one line, for a base that cannot learn all tasks together."""
    if not isinstance(lm.model, GridLMForCausalLM):
        raise ValueError(f"joint training: {lm.name} is no GridLM; use joint_steps = 0, or a base such as arc-micro")


def adapt_jointly(
    lm: LoadedLM,
    tasks: Sequence[Task],
    config: PretrainConfig,
    *,
    form: str = "pairs",
    dropout: float = 0.0,
    task_vectors: bool = False,
    background: Sequence[Task] = (),
    checkpoint: Path | None = None,
    on_metrics: Callable[[dict], None] = lambda metrics: None,
    clock: Callable[[], float] = time.monotonic,
) -> LoadedLM:
    """A copy of a GridLM trained on the demonstrations of all `tasks`; the base itself is not changed.

    form: one of `pools.FORMS`. The copy has a token for each task (`LoadedLM.task_tokens`), by which it can be asked in
    single pairs afterwards. dropout: share of each block's two outputs that is dropped in training. task_vectors: the
    vectors of its task and view are added to every token of a pair. background: labelled tasks to learn beside, test
    pairs included; they must not be tasks that are scored. checkpoint: file to go on from, and to save to.
    clock: gives the seconds of `config.seconds`.
    ValueError, one line, for a base that is no GridLM or is quantised, and for a task that is in both lists.
    """
    check_learner(lm)
    if not 0 <= dropout < 1:
        raise ValueError(f"joint training: dropout = {dropout}: must be at least 0 and below 1")
    pools = {task.id: task.without_answers().train for task in tasks}
    for task in background:
        if task.id in pools:
            raise ValueError(f"joint training: task {task.id} is to be solved, so it cannot be a background task")
        pools[task.id] = tuple(pair for pair in (*task.train, *task.test) if pair.output is not None)
    model, tokens = with_task_tokens(lm.model, tuple(pools), config.seed)
    model.config.dropout, model.config.task_vectors = dropout, task_vectors
    source = JointPairs(pools, tokens, lm.prompt_form, lm.max_len, config.seed, form)
    source.options.update(dropout=dropout, task_vectors=task_vectors, base=weights_hash(lm.model))
    trainer = Pretrainer(model, source, config, checkpoint, on_metrics, clock=clock)
    trainer.run()
    averaged = trainer.averaged.eval().requires_grad_(False)
    told = replace(lm, name=f"{lm.name}-joint", notes=(*lm.notes, *trainer.notes))
    return replace(told, model=averaged, task_tokens=tokens, dtype=torch.float32)


def with_task_tokens(
    base: GridLMForCausalLM, names: tuple[str, ...], seed: int
) -> tuple[GridLMForCausalLM, TaskTokens]:
    """A float32 copy of a GridLM that can be trained, with embedding rows for views and tasks; and which they are."""
    model, old = deepcopy(base).float().requires_grad_(True), base.get_input_embeddings().weight
    tokens = TaskTokens(len(old), names)
    embedding = nn.Embedding(len(old) + TaskTokens.rows(names), old.shape[1], device=old.device)
    fresh = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        rows = torch.randn(TaskTokens.rows(names), old.shape[1], generator=fresh)
        embedding.weight.copy_(torch.cat([old.float(), rows.to(old.device) * old.float().std()]))
    model.set_input_embeddings(embedding)
    model.config.task_names = list(names)
    return model, tokens


@dataclass(frozen=True)
class JointPairs:
    """The documents of a joint training, without end: every pair in every view once an epoch, in random order."""

    pools: Mapping[str, Sequence[Pair]]  # task id -> its labelled pairs
    tokens: TaskTokens
    prompt_form: PromptForm
    max_len: int
    seed: int
    form: str = "pairs"
    max_side: int = MAX_SIDE  # in cells: nothing is left out for its size but by `max_len`
    options: dict[str, object] = field(default_factory=dict)  # what else a resumed run must have in common

    @property
    def settings(self) -> dict[str, object]:
        """What the documents depend on: a resumed run compares it."""
        digest = hashlib.sha256()
        for name, pairs in self.pools.items():
            digest.update(json.dumps([name, [(p.input.tolist(), p.output.tolist()) for p in pairs]]).encode())
        counts = {"tasks": len(self.pools), "pairs": sum(map(len, self.pools.values()))}
        return {**counts, "content": digest.hexdigest()[:16], "form": self.form, "seed": self.seed, **self.options}

    def batches(self, batch_tokens: int, cursor: tuple[int, int] = (0, 0), **_) -> Iterator[Batch]:
        """Padded batches of at most `batch_tokens` tokens from `cursor` (epoch, batch in it) on."""
        epoch, skip = cursor
        while True:
            rng = np.random.default_rng([self.seed, epoch])
            documents, groups = self._epoch(rng), []
            for first in range(0, len(documents), POOL):
                groups += padded_groups(documents[first : first + POOL], batch_tokens)
            order = rng.permutation(len(groups))
            for n in range(skip, len(order)):
                yield Batch.of(groups[order[n]], self.prompt_form.pad, following=(epoch, n + 1))
            epoch, skip = epoch + 1, 0

    def _epoch(self, rng: np.random.Generator) -> list[Document]:
        documents: list[Document] = []
        if self.form != "in_context":
            documents += self._alone()
        if self.form != "pairs":
            documents += self._in_context(rng)
        if not documents:
            raise ValueError(f"joint training: no sequence of form {self.form!r} fits {self.max_len} tokens")
        return [documents[i] for i in rng.permutation(len(documents))]

    def _alone(self) -> Iterator[Document]:
        """Every pair by itself, in every view."""
        for task_id, pairs in self.pools.items():
            for pair, view in product(pairs, DIHEDRAL):
                with suppress(TaskTooLong):
                    yield task_id, self.tokens.encode(task_id, pair, view, self.prompt_form, max_len=self.max_len)

    def _in_context(self, rng: np.random.Generator) -> Iterator[Document]:
        """Every pair as the question behind the task's others, in one random view and colouring."""
        for task_id, pairs in self.pools.items():
            for held_out in range(len(pairs)):
                others = [i for i in rng.permutation(len(pairs)) if i != held_out][:MOST_DEMOS]
                transform = random_transform(rng)
                turned = [transform.pair(pairs[i]) for i in (*others, held_out)]
                with suppress(TaskTooLong):
                    encoded = encode_pairs(
                        turned[:-1], turned[-1], self.prompt_form, max_len=self.max_len, all_outputs=True
                    )
                    if encoded.dropped < len(others):
                        yield task_id, encoded

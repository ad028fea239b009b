"""The grid of memory tests: facts × repeats × gap × inner learning rate × model, every control in every cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from arc_helpers.arc import wilson_interval
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.memory.persona import PersonaDialogs, Style, chance
from arc_helpers.memory.probes import CONDITIONS, answer_scores, check_reach, probe_texts
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import progress


@dataclass(frozen=True)
class Cell:
    """One test. model: a name; lr: factor of the trained inner learning rates."""

    model: str = "base"
    facts: int = 5
    repeats: int = 1
    gap: int = 62
    lr: float = 1.0
    words: str = "known"
    wording: str = "trained"
    seed: int = 0

    @property
    def style(self) -> Style:
        return Style(self.facts, self.words, self.wording, self.repeats, self.gap)


def run_cell(
    cell: Cell,
    models: Mapping[str, TTTForCausalLM],
    tokens: DialogTokens,
    n: int,
    *,
    untrained: str | None = None,
    ceiling: str | None = None,
    max_len: int | None = None,
) -> dict[str, float | int | str]:
    """One flat row: losses in nats, and what the memory is worth.

    pre, post: answer loss with learning off and on; delta = pre − post, with a paired bootstrap interval over the n
    texts; percent of pre; recall with its Wilson interval; swapped, irrelevant, shuffled: post after these memories;
    memory_score = loss after irrelevant memory − after the true one. untrained: the name of a model that was not
    meta-trained, its post; ceiling: of one with full attention, and delta as a share of what that recovers, NaN
    where it recovers nothing. Raises ValueError where attention could see a fact.
    """
    model, dialogs = models[cell.model], PersonaDialogs(tokens, cell.style, 10**6 + cell.seed)
    scores, gap = {}, 0
    for condition in CONDITIONS:
        texts = probe_texts(dialogs, n, condition)
        gap = check_reach(model, texts)
        options: dict[str, Any] = {"learn": condition != "off", "lr_scale": cell.lr, "max_len": max_len}
        scores[condition] = answer_scores(model, texts, **options)
    true, off = scores["true"], scores["off"]
    delta = off.answer - true.answer
    low, high = bootstrap(delta, cell.seed)
    recall = wilson_interval(true.recalled, int(true.answers.sum()))
    row = {**cell.__dict__, "n": n, "answers": int(true.answers.sum()), "shortest_gap": gap}
    row |= {"pre": off.answer.mean(), "post": true.answer.mean(), "delta": delta.mean(), "delta_low": low}
    row |= {"delta_high": high, "percent": 100 * delta.mean() / off.answer.mean(), "chance": chance(cell.style)}
    row |= {"recall": true.recalled / true.answers.sum(), "recall_low": recall[0], "recall_high": recall[1]}
    row |= {name: scores[name].answer.mean() for name in ("swapped", "irrelevant", "shuffled")}
    row |= {"memory_score": row["irrelevant"] - row["post"], "all_pre": off.everything.mean()}
    row |= {"all_post": true.everything.mean(), "cut": true.cut, "skipped": true.skipped}
    texts = probe_texts(dialogs, n)
    if untrained:
        other = answer_scores(models[untrained], texts, lr_scale=cell.lr, max_len=max_len)
        row |= {"untrained": other.answer.mean(), "untrained_recall": other.recalled / other.answers.sum()}
    if ceiling:
        best = answer_scores(models[ceiling], texts, learn=False, max_len=max_len).answer.mean()
        room = row["pre"] - best
        row |= {"ceiling": best, "recovered": delta.mean() / room if room > 0 else float("nan")}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}


def run_grid(
    models: Mapping[str, TTTForCausalLM], tokens: DialogTokens, n: int, axes: Mapping[str, Sequence], **options
) -> list[dict]:
    """`run_cell` for every combination of values of a Cell's fields."""
    names = list(axes)
    cells = [Cell(**dict(zip(names, values, strict=True))) for values in product(*axes.values())]
    return [run_cell(cell, models, tokens, n, **options) for cell in progress(cells, desc="cells")]


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean, by resampling texts; of differences within a text it is the paired interval."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def numbers(text: str, kind: type = int) -> list:
    """Numbers out of "2,5,8". Raises ValueError, one line."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{text}: must be numbers separated by commas, such as 2,5,8") from None


class Table(str):
    """A Markdown text that a notebook shows as a table."""

    def _repr_markdown_(self) -> str:
        return str(self)


def table(rows: Sequence[Mapping], columns: Sequence[str]) -> Table:
    """Rows as Markdown, numbers to three places."""
    head = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines = [" | ".join(_show(row[name]) for name in columns) for row in rows]
    return Table("\n".join(f"| {line} |" for line in [*head, *lines]))


def _show(value) -> str:
    return f"{value:.3f}" if isinstance(value, float | np.floating) else str(value)

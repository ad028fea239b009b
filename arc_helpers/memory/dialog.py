"""Dialogue fine-tuning: the inner loop learns from every token, the outer loss counts what the assistant says.

Dialogues are `messages` ([{"role": "user" | "assistant", "content": text}, …], the user first, taking turns): from a
JSON-lines file, from a data set with a `dialog` or `messages` column, or without end from `persona`.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from arc_helpers.memory.meta import Batch
from arc_helpers.memory.persona import Encoded, PersonaDialogs, pad
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import resolve_path

ROLES = ("user", "assistant")
LICENCES = {"daily_dialog": "DailyDialog is CC BY-NC-SA 4.0: not for commercial use, share alike"}


class DialogError(ValueError):
    """One line: which dialogue, what is wrong, what is allowed."""


def check_messages(messages: Sequence[Mapping[str, str]], where: str = "dialogue") -> None:
    """Raises DialogError unless user and assistant take turns, the user first, each with a text."""
    for i, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise DialogError(f"{where}, message {i}: role = {role}: must be user or assistant")
        if role != ROLES[i % 2]:
            raise DialogError(f"{where}, message {i}: is the {role}'s: must be the {ROLES[i % 2]}'s, they take turns")
        if not isinstance(content, str) or not content.strip():
            raise DialogError(f"{where}, message {i}: content must be a text that is not empty")
    if len(messages) < 2:
        raise DialogError(f"{where}: has no assistant turn, so there is nothing to learn to say")


def encode_messages(tokens: DialogTokens, messages: Sequence[Mapping[str, str]], where: str = "dialogue") -> Encoded:
    """Token ids, and in `said` which of them the assistant says (its end token included)."""
    check_messages(messages, where)
    ids: list[int] = []
    said: list[bool] = []
    for message in messages:
        turn = tokens.turn(message["role"], message["content"])
        ids += turn
        said += [message["role"] == "assistant" and i > 0 for i in range(len(turn))]
    nothing = [False] * len(ids)
    return Encoded(ids, nothing, nothing, said)


def load_dialogs(source: str) -> tuple[list[list[dict[str, str]]], str]:
    """(dialogues as messages, the licence line or "") of a .jsonl file, a data-set folder, or a hub id.

    .jsonl: one {"messages": […]} a line. A folder or a hub id is read by `datasets`, from a column `messages`, or
    `dialog` whose utterances take turns (daily_dialog). Only a hub id reaches for the network. Raises DialogError.
    """
    licence = next((line for name, line in LICENCES.items() if name in source), "")
    path = resolve_path(source)
    if path.is_file():
        return [
            _line(text, f"{path}:{n}") for n, text in enumerate(path.read_text("utf-8").splitlines(), 1) if text
        ], ""
    try:
        from datasets import load_dataset
    except ImportError:
        raise DialogError(f"dataset = {source}: needs `pip install datasets`, or a .jsonl file of messages") from None
    try:
        rows = load_dataset(str(path) if path.is_dir() else source, split="train")
    except Exception as error:  # whatever the hub, the network or a file format raises is one line to the user
        raise DialogError(f"dataset = {source}: cannot be read ({str(error).splitlines()[0]})") from None
    return [_row(row, f"{source}, row {n}") for n, row in enumerate(rows)], licence


def _line(text: str, where: str) -> list[dict[str, str]]:
    try:
        return _row(json.loads(text), where)
    except json.JSONDecodeError as error:
        raise DialogError(f"{where}: is not JSON ({error})") from None


def _row(row: Mapping, where: str) -> list[dict[str, str]]:
    if not isinstance(row, Mapping) or not ("messages" in row or "dialog" in row):
        raise DialogError(f"{where}: must have messages, a list of role and content, or dialog, a list of texts")
    messages = row.get("messages")
    if messages is None:
        messages = [{"role": ROLES[i % 2], "content": text} for i, text in enumerate(row["dialog"])]
    check_messages(messages, where)
    return list(messages)


@dataclass(frozen=True)
class DialogBatches:
    """Batches of given dialogues: step → Batch with `scored` on the assistant's tokens. Order by seed and epoch.

    cut: how many dialogues were longer than max_len tokens and lost their end.
    """

    rows: list[Encoded]
    size: int
    max_len: int
    pad_id: int
    seed: int = 0

    @classmethod
    def of(cls, tokens: DialogTokens, dialogs: Sequence, size: int, max_len: int, seed: int = 0) -> "DialogBatches":
        """From messages. Raises DialogError where there are none."""
        if not dialogs:
            raise DialogError("dialogues: there are none")
        rows = [encode_messages(tokens, messages, f"dialogue {n}") for n, messages in enumerate(dialogs)]
        return cls(rows, size, max_len, tokens.pad, seed)

    @property
    def cut(self) -> int:
        return sum(len(row) > self.max_len for row in self.rows)

    def __call__(self, step: int) -> Batch:
        index = range(step * self.size, (step + 1) * self.size)
        chosen = [self._order(i // len(self.rows))[i % len(self.rows)] for i in index]
        return said_batch([self.rows[i] for i in chosen], self.pad_id, self.max_len)

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(f"dialogs/{self.seed}/{epoch}".encode())).permutation(len(self.rows))


def persona_sft(dialogs: PersonaDialogs, step: int, size: int) -> Batch:
    """Persona dialogues number step · size …, with `scored` on the assistant's tokens."""
    texts = [dialogs.text(step * size + i) for i in range(size)]
    return said_batch(texts, dialogs.tokens.pad, dialogs.style.length)


def said_batch(rows: Sequence[Encoded], pad_id: int, max_len: int | None = None) -> Batch:
    """Encoded dialogues, cropped at max_len, with `scored` on the assistant's tokens."""
    batch = pad([row.ids for row in rows], pad_id, max_len and min(max_len, max(len(row) for row in rows)))
    scored = torch.zeros_like(batch.valid)
    for i, row in enumerate(rows):
        said = row.said[: scored.shape[1]]
        scored[i, : len(said)] = torch.tensor(said)
    return Batch(batch.ids, batch.valid, scored)


def write_messages(path: str | Path, dialogs: Sequence[Sequence[Mapping[str, str]]]) -> None:
    """Write dialogues as a .jsonl file that `load_dialogs` reads."""
    lines = [json.dumps({"messages": list(messages)}, ensure_ascii=False) for messages in dialogs]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

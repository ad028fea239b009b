"""Dialogues as people have them, made `messages`: [{"role": "user" | "assistant" | "system", "content": text}, …].

Understood: `messages`, ShareGPT's `conversations`, daily_dialog's `dialog` and its kin, lists of two people's turns,
prompt and answer in two columns, a CSV with a turn a row, and lines with `__eou__`. A row that is none is counted and
shown, and the others go on.
"""

import ast
import io
import json
import random
import re
import tokenize
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.texts.records import Record, TextError, read_records

Message = dict[str, str]
USERS = ("user", "human", "prompter", "customer", "client", "usr")
ASSISTANTS = ("assistant", "gpt", "chatgpt", "bot", "model", "ai", "agent", "chatbot", "bard", "claude")
ROLES = {**dict.fromkeys(USERS, "user"), **dict.fromkeys(ASSISTANTS, "assistant")}
ROLES |= {"system": "system", "developer": "system"}
TOOLS = ("tool", "function", "function_call", "observation", "ipython", "tool_call", "tool_response")
WHO = ("role", "from", "speaker", "author", "sender")
WHAT = ("content", "value", "text", "utterance", "message", "body")
TURNS: tuple[str, ...] = (
    "messages",
    "conversations",
    "conversation",
    "dialog",
    "dialogue",
    "dialogs",
    "turns",
    "utterances",
)
TURNS += ("log", "chosen")
PAIRS: tuple[tuple[str, str], ...]
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"))
PAIRS += (("question", "answer"), ("user", "assistant"), ("input", "output"), ("human", "assistant"))
PAIRS += (
    ("query", "response"),
    ("query", "answer"),
    ("context", "response"),
    ("message", "response"),
    ("source", "target"),
)
IDS = ("dialog_id", "dialogue_id", "conversation_id", "conv_id", "session_id", "thread_id", "id")
ALLOWED = "messages, conversations or dialog (a list of turns), prompt and response, or a turn a row"
LICENCES = {"daily_dialog": "DailyDialog is CC BY-NC-SA 4.0: not for commercial use, share alike"}
EOU = "__eou__"  # between the utterances of daily_dialog's original files


@dataclass(frozen=True)
class DialogSet:
    """What was read. refused: a line for each row that is no dialogue; repeated: dialogues left out since they were
    there before; notes: what else there is to say, the licence among it."""

    dialogs: list[list[Message]]
    refused: list[str]
    repeated: int = 0
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> str:
        """What to tell the user: how many, and what was left out and why."""
        lines = [f"{len(self.dialogs):,} dialogues, {sum(map(len, self.dialogs)):,} turns"]
        if self.repeated:
            lines.append(f"{self.repeated:,} repeated ones are left out")
        if self.refused:
            n = len(self.refused)
            lines.append(f"{n:,} rows are no dialogues and are left out:" if n > 1 else "1 row is no dialogue:")
            lines += [f"  {line}" for line in self.refused[:5]]
            lines += [f"  … and {len(self.refused) - 5:,} more"] if len(self.refused) > 5 else []
        return "\n".join([*lines, *self.notes])


def read_dialogs(source: str | Path) -> DialogSet:
    """Every dialogue of a file, a folder or a hub id. Raises TextError, one line, where there is none."""
    notes = [line for name, line in LICENCES.items() if name in str(source)]
    dialogs: list[list[Message]] = []
    refused: list[str] = []
    seen: set[str] = set()
    repeated = 0
    for where, row in _turn_rows(_spread(read_records(source, notes.append))):
        try:
            found = as_messages(row)
        except TextError as error:
            text = str(error)
            refused.append(text if text.startswith(where) else f"{where}: {text}")
            continue
        key = json.dumps(found)
        repeated += key in seen
        if key not in seen:
            seen.add(key)
            dialogs.append(found)
    if not dialogs:
        why = f"; the first of {len(refused)} rows: {refused[0]}" if refused else ""
        raise TextError(f"{source}: holds no dialogue{why}")
    return DialogSet(dialogs, refused, repeated, tuple(notes))


def split_dialogs(
    dialogs: Sequence[list[Message]], share: float = 0.1, seed: int = 0
) -> tuple[list[list[Message]], list[list[Message]]]:
    """(to train on, held out), by each dialogue's own checksum: where the set grows, few change sides.

    Raises TextError where there are fewer than two, so that nothing could be held out.
    """
    if len(dialogs) < 2:
        raise TextError(f"{len(dialogs)} dialogue: at least 2 are needed, one of them to be held out")

    def draw(messages: list[Message]) -> float:  # a checksum alone is not random enough to be cut at a share
        return random.Random(zlib.crc32(f"{seed}/{json.dumps(messages)}".encode())).random()

    ordered = sorted(dialogs, key=draw)
    n = min(max(1, round(share * len(dialogs))), len(dialogs) - 1)
    held_out = {id(messages) for messages in ordered[:n]}
    return [d for d in dialogs if id(d) not in held_out], [d for d in dialogs if id(d) in held_out]


def as_messages(row: Any) -> list[Message]:
    """One row as messages; a role's turns in a row are joined. Raises TextError, one line, for what is no dialogue."""
    if isinstance(row, TextError):
        raise row
    row = _lower(row)
    turns = _turns_of(row)
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise TextError(f"must have {ALLOWED}; it is {_shown(row)}")
    if not any(isinstance(turn, Mapping) and any(name in _lower(turn) for name in WHO) for turn in turns):
        turns = [{"role": ("user", "assistant")[i % 2], "content": _text_of(turn)} for i, turn in enumerate(turns)]
    said = [_who_and_what(turn, i) for i, turn in enumerate(turns)]
    if isinstance(row, Mapping) and isinstance(row.get("system"), str) and row["system"].strip():
        said = [("system", row["system"]), *said]
    roles = _roles([who for who, _ in said])
    messages: list[Message] = []
    for role, (_, text) in zip(roles, said, strict=True):
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n{text.strip()}"
        else:
            messages.append({"role": role, "content": text.strip()})
    check_messages(messages)
    return messages


def check_messages(messages: Sequence[Mapping[str, Any]], where: str = "") -> None:
    """Raises TextError unless every message has a known role and a text, and the assistant answers something."""
    at = f"{where}, message" if where else "message"
    for i, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise TextError(f"{at} {i}: role = {role}: must be user, assistant or system")
        if not isinstance(content, str) or not content.strip():
            raise TextError(f"{at} {i}: content must be a text that is not empty")
    if not any(message["role"] == "assistant" for message in messages):
        raise TextError(f"{where + ': ' if where else ''}has no assistant turn, so there is nothing to learn to say")


def _turns_of(row: Any) -> Any:
    """The list of turns in a row of any of the shapes."""
    if isinstance(row, Sequence) and not isinstance(row, str):
        return row
    if not isinstance(row, Mapping):
        return None
    if isinstance(row.get("mapping"), Mapping) and "current_node" in row:
        return _exported(row)
    if "parent_id" in row and "role" in row:
        raise TextError("is a message of a tree (parent_id): choose one path and give its turns")
    for name in TURNS:
        turns = row.get(name)
        if isinstance(turns, str):
            turns = _written_list(turns)
        if isinstance(turns, Mapping):  # a table of columns: {"role": [...], "content": [...]}
            columns = [column for column in turns.values() if isinstance(column, Sequence)]
            turns = [dict(zip(turns, values, strict=False)) for values in zip(*columns, strict=False)]
        if isinstance(turns, Sequence) and not isinstance(turns, str):
            return turns
    for asked, answered in PAIRS:
        if isinstance(row.get(asked), str) and isinstance(row.get(answered), str):
            also = f"\n{row['input']}" if asked == "instruction" and row.get("input") else ""
            return [
                {"role": "user", "content": row[asked] + also},
                {"role": "assistant", "content": row[answered]},
            ]
        if isinstance(row.get(asked), list) and isinstance(row.get(answered), list):
            return [*row[asked], *row[answered]]
    return None


def _written_list(text: str) -> Any:
    """A list that somebody wrote into a cell: JSON, Python's, or numpy's, which has no commas."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if not text.strip().startswith("["):
        return None
    try:
        if "{" in text:
            return ast.literal_eval(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        return [ast.literal_eval(token.string) for token in tokens if token.type == tokenize.STRING]
    except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError):
        return None


def _exported(row: Mapping) -> list[dict]:
    """ChatGPT's own export: a tree of messages, of which the path to the current one is the dialogue."""
    nodes, name, path = row["mapping"], row["current_node"], []
    while name in nodes and len(path) <= len(nodes):
        path.append(nodes[name].get("message") or {})
        name = nodes[name].get("parent")
    turns = [{"role": (m.get("author") or {}).get("role"), "content": _text_of(m)} for m in reversed(path)]
    return [turn for turn in turns if turn["role"] in ("user", "assistant") and (turn["content"] or "").strip()]


def _text_of(turn: Any) -> Any:
    """The text of one turn, wherever it stands; None where there is none."""
    if not isinstance(turn, Mapping):
        return turn if isinstance(turn, str) else None
    what = next((turn[name] for name in WHAT if turn.get(name) is not None), None)
    if isinstance(what, Mapping):
        what = what.get("parts", what.get("text"))
    if isinstance(what, list):  # a message in parts, of which only texts are read
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in what]
        what = "\n".join(parts) if parts and all(isinstance(part, str) for part in parts) else None
    return what if isinstance(what, str) else None


def _who_and_what(turn: Any, i: int) -> tuple[str, str]:
    """(name as it stands there, text) of one turn."""
    if not isinstance(turn, Mapping):
        raise TextError(f"message {i}: must have a role and a text; it is {_shown(turn)}")
    turn = _lower(turn)
    who, what = next((turn[name] for name in WHO if isinstance(turn.get(name), str | int)), None), _text_of(turn)
    if what is None or not what.strip():
        raise TextError(f"message {i}: its text ({', '.join(WHAT[:3])}) is empty or no text")
    if who is None:
        raise TextError(f"message {i}: does not say who speaks ({', '.join(WHO[:3])}); it is {_shown(turn)}")
    return str(who).strip(), what


def _lower(row: Any) -> Any:
    """The same object with the names of its fields in small letters."""
    return {str(name).lower(): value for name, value in row.items()} if isinstance(row, Mapping) else row


def _roles(names: Sequence[str]) -> list[str]:
    """user, assistant or system for each turn's name."""
    known = [ROLES.get(name.lower()) for name in names]
    tool = next((name for name in names if name.lower() in TOOLS), None)
    if tool:
        raise TextError(f"has turns of a {tool}: only users, assistants and systems are read")
    if "system" in known[1:] and "assistant" not in known:  # task-oriented sets call the assistant so
        known = ["assistant" if role == "system" else role for role in known]
    if None not in known:
        return [str(role) for role in known]
    people = list(dict.fromkeys(names))
    if len(people) != 2 or any(known):
        odd = names[known.index(None)]
        raise TextError(f"role = {odd}: must be user or assistant (human, gpt, …), or two people by their names")
    return ["user" if name == people[0] else "assistant" for name in names]


def _spread(records: Iterable[Record]) -> Iterator[Record]:
    """A plain text with `__eou__` is a dialogue a line."""
    for where, row in records:
        if not isinstance(row, str):
            yield Record(where, row)
        elif EOU not in row:
            why = f"is plain text: must be a dialogue a line, with {EOU} between turns"
            yield Record(where, TextError(f"{where}: {why}"))
        else:
            for number, line in enumerate(row.split("\n"), 1):
                if line.strip():
                    turns = [turn.strip() for turn in line.split(EOU) if turn.strip()]
                    yield Record(f"{where}:{number}", turns)


def _turn_rows(records: Iterable[Record]) -> Iterator[Record]:
    """Rows that are one turn each, joined to dialogues by their id; without one they are one dialogue."""
    turns: list[Record] = []
    for record in records:
        if _is_one_turn(record.value):
            turns.append(record)
        else:
            yield record
    ids = {name: [t.value.get(name) for t in turns] for name in IDS if turns and turns[0].value.get(name) is not None}
    # an id that no two rows share is the turn's own
    name = next((name for name, values in ids.items() if len(set(map(str, values))) < len(values)), None)
    joined: dict[str, list[Record]] = {}
    for turn in turns:
        joined.setdefault(str(turn.value.get(name)) if name else "", []).append(turn)
    yield from (Record(group[0].where, [turn.value for turn in group]) for group in joined.values())


def _is_one_turn(row: Any) -> bool:
    if not isinstance(row, Mapping) or "parent_id" in row or any(name in row for name in TURNS):
        return False
    return any(name in row for name in WHO) and any(name in row for name in WHAT)


def _shown(value: Any) -> str:
    """A short look at what is there."""
    if isinstance(value, Mapping):
        return f"an object of {', '.join(map(str, list(value)[:6])) or 'nothing'}"
    return re.sub(r"\s+", " ", repr(value))[:60]

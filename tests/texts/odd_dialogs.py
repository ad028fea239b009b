"""Dialogue files in the shapes that people have; each with what should become of it."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HI, HELLO = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}
TWO = [HI, HELLO]
SHAREGPT = [
    {"from": "system", "value": "Be kind."},
    {"from": "human", "value": "Hi."},
    {"from": "gpt", "value": "Hello!"},
]
UNUSUAL = ["Привет.", "Здравствуйте! \u2028 Чем помочь?"]


def _lines(*rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _parquet(path: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _arrow_folder(path: Path) -> None:
    path.mkdir()
    table = pa.Table.from_pylist([{"dialog": ["Hi.", "Hello!"]}])
    with pa.OSFile(str(path / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    (path / "dataset_info.json").write_text("{}")
    (path / "state.json").write_text("{}")


def _split_folder(path: Path) -> None:
    (path / "data").mkdir(parents=True)
    _parquet(path / "data/train-00000-of-00001.parquet", [{"dialog": ["Hi.", "Hello!"], "act": [1, 1]}])
    _parquet(path / "data/test-00000-of-00001.parquet", [{"dialog": ["Seen?", "Never."], "act": [1, 1]}])


TREE = {
    "title": "t",
    "current_node": "c",
    "mapping": {
        "a": {"message": None, "parent": None},
        "b": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi."]}}, "parent": "a"},
        "x": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Another way."]}}, "parent": "b"},
        "c": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Hello!"]}}, "parent": "b"},
    },
}

#: name → (how it is written, how many dialogues, what is said about the rest)
FILES: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "roles_in_any_order.jsonl": (
        lambda p: p.write_text(_lines({"messages": [HELLO, HI, HI, HELLO]}, {"messages": [HELLO, HI]})),
        2,
        "",
    ),
    "system_turns.jsonl": (
        lambda p: p.write_text(_lines({"messages": [{"role": "system", "content": "Be kind."}, *TWO]})),
        1,
        "",
    ),
    "sharegpt.json": (lambda p: p.write_text(json.dumps([{"id": "a", "conversations": SHAREGPT}])), 1, ""),
    "daily_dialog.parquet": (lambda p: _parquet(p, [{"dialog": ["Hi.", "Hello!"], "emotion": [0, 4]}]), 1, "CC BY-NC"),
    "messages.parquet": (lambda p: _parquet(p, [{"messages": TWO}]), 1, ""),
    "written_by_numpy.csv": (lambda p: p.write_text("dialog,act\n\"['Hi.' \n 'Hello!']\",[1 1]\n"), 1, ""),
    "a_turn_a_row.csv": (
        lambda p: p.write_text("dialog_id;role;text\n1;user;Hi.\n2;user;Well?\n1;bot;Hello!\n2;bot;Well.\n"),
        2,
        "",
    ),
    "prompt_and_answer.tsv": (lambda p: p.write_text("Prompt\tResponse\nHi.\tHello!\n"), 1, ""),
    "utf16_with_cyrillic.jsonl": (lambda p: p.write_text(_lines({"dialog": UNUSUAL}), encoding="utf-16"), 1, ""),
    "packed.jsonl.xz": (lambda p: p.write_bytes(lzma.compress(_lines({"messages": TWO}).encode())), 1, ""),
    "lines_called_json.json": (lambda p: p.write_text(_lines({"messages": TWO}, {"dialog": ["a", "b"]})), 2, ""),
    "chatgpt_export.json": (lambda p: p.write_text(json.dumps([TREE])), 1, ""),
    "two_people.json": (
        lambda p: p.write_text(
            json.dumps(
                {"d1": {"turns": [{"speaker": "Ann", "text": "Hi."}, {"speaker": "Bob", "text": "Hello!"}]}, "d2": []}
            )
        ),
        1,
        "row 'd2'",
    ),
    "dialogues_text.txt": (lambda p: p.write_text("Hi. __eou__ Hello! __eou__\nSo? __eou__ So. __eou__\n"), 2, ""),
    "a_saved_data_set": (_arrow_folder, 1, ""),
    "a_hub_folder": (_split_folder, 1, "only its training files are read, not data/test-00000-of-00001.parquet"),
    "one_bad_row_in_five.jsonl": (
        lambda p: p.write_text(
            _lines({"messages": TWO}, {"messages": []}, {"messages": [HI]}, {"text": "x"})
            + "{broken\n"
            + _lines(SHAREGPT)
        ),
        2,
        "one_bad_row_in_five.jsonl:2: has no assistant turn",
    ),
    "packed.json.gz": (
        lambda p: p.write_bytes(gzip.compress(json.dumps({"data": [{"messages": TWO}]}).encode())),
        1,
        "",
    ),
}

#: name → (how it is written, the one line)
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.jsonl": (lambda p: p.write_text(" \n"), "is empty"),
    "binary.jsonl": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n\xff\x00"), "is no utf-8 text (byte 0)"),
    "nulls.json": (lambda p: p.write_bytes(b'{"a": "\0"}'), "is a binary file"),
    "half.parquet": (lambda p: p.write_bytes(b"PAR1" + b"x" * 40), "is not a whole parquet file"),
    "half.jsonl.xz": (lambda p: p.write_bytes(lzma.compress(b"{}" * 999)[:40]), "cannot be read"),
    "tools.jsonl": (
        lambda p: p.write_text(_lines({"messages": [*TWO, {"role": "tool", "content": "4"}]})),
        "tools.jsonl:1: has turns of a tool",
    ),
    "tree.jsonl": (
        lambda p: p.write_text(_lines({"message_id": "1", "parent_id": None, "role": "prompter", "text": "Hi."})),
        "is a message of a tree (parent_id)",
    ),
    "three.jsonl": (
        lambda p: p.write_text(_lines({"turns": [{"speaker": s, "text": "x"} for s in "abc"]})),
        "role = a: must be user or assistant",
    ),
    "prose.txt": (lambda p: p.write_text("Once upon a time."), "a dialogue a line, with __eou__"),
    "deep.json": (lambda p: p.write_text("[" * 100_000), "is nested too deeply"),
    "picture.png": (lambda p: p.write_bytes(b"x"), "must end in .jsonl"),
}

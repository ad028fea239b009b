"""Users' dialogues: every shape is read or explained, nothing is lost in silence, and no dialogue is on both sides."""

import json
from itertools import pairwise

import pytest
from odd_dialogs import FILES, HELLO, HI, REFUSED, TWO, UNUSUAL

from arc_helpers.texts import TextError, as_messages, read_dialogs, split_dialogs


@pytest.mark.parametrize("name", FILES)
def test_odd_files_are_read(name, tmp_path):
    write, count, said = FILES[name]
    write(tmp_path / name)
    found = read_dialogs(str(tmp_path / name))
    assert len(found.dialogs) == count, found.report
    for messages in found.dialogs:
        assert {m["role"] for m in messages} >= {"assistant"} and all(m["content"].strip() for m in messages)
        assert all(a["role"] != b["role"] for a, b in pairwise(messages))
    assert said in found.report and (said or not found.refused), found.report


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_dialogue_is_explained_in_one_line(name, tmp_path):
    write, why = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(TextError) as error:
        read_dialogs(str(tmp_path / name))
    assert why in str(error.value) and "\n" not in str(error.value) and name in str(error.value)


def test_turns_keep_their_words_and_roles(tmp_path):
    assert as_messages({"messages": [HELLO, HI, HI, HELLO]}) == [
        HELLO,
        {"role": "user", "content": "Hi.\nHi."},
        HELLO,
    ]
    assert as_messages(UNUSUAL)[1] == {"role": "assistant", "content": UNUSUAL[1]}
    assert as_messages({"system": "Be kind.", "instruction": "Add.", "input": "1 1", "output": "2"}) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Add.\n1 1"},
        {"role": "assistant", "content": "2"},
    ]
    asked = {"speaker": "USER", "utterance": "A table?"}, {"speaker": "SYSTEM", "utterance": "Where?"}
    assert [m["role"] for m in as_messages({"turns": asked})] == ["user", "assistant"], "a task's system is no prompt"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert as_messages([{"role": "user", "content": parts}, HELLO])[0]["content"] == "a\nb"
    with pytest.raises(TextError, match="message 0: its text"):
        as_messages([{"role": "user", "content": [{"type": "image_url"}]}, HELLO])


def test_bad_and_repeated_rows_are_counted_and_shown(tmp_path):
    path = tmp_path / "d.jsonl"
    rows = [{"messages": TWO}, {"messages": TWO}, *({"messages": [HI]} for _ in range(7))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_dialogs(path)
    assert (len(found.dialogs), found.repeated, len(found.refused)) == (1, 1, 7)
    assert "7 rows are no dialogues" in found.report and "d.jsonl:3: has no assistant turn" in found.report
    assert "… and 2 more" in found.report and "1 repeated" in found.report
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder/a.jsonl")
    (tmp_path / "folder/b.jsonl").write_bytes(b"\xff\xfd")
    found = read_dialogs(tmp_path / "folder")
    assert len(found.dialogs) == 1 and any("b.jsonl: is no utf-8 text" in line for line in found.refused)


def test_a_split_holds_whole_dialogues_out_and_is_stable():
    dialogs = [[{"role": "user", "content": f"{i}?"}, HELLO] for i in range(200)]
    train, held_out = split_dialogs(dialogs, 0.1, seed=3)
    assert len(held_out) == 20 and len(train) == 180 and not [d for d in held_out if d in train]
    more = [*dialogs, *([{"role": "user", "content": f"new {i}?"}, HELLO] for i in range(20))]
    kept = [d for d in held_out if d in split_dialogs(more, 0.1, seed=3)[1]]
    assert len(kept) >= 15, "where a set grows, few dialogues change sides"
    assert split_dialogs(dialogs, 0.1, seed=4)[1] != held_out
    with pytest.raises(TextError, match="at least 2 are needed"):
        split_dialogs(dialogs[:1])


def test_without_a_network_a_hub_id_is_one_line(monkeypatch, network_attempts):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(TextError, match=r"^OpenRL/daily_dialog: cannot be fetched from the hub \(.*a file$"):
        read_dialogs("OpenRL/daily_dialog")
    assert len(network_attempts()) <= 2, "one connection, not six"
    with pytest.raises(TextError, match="no such file or folder"):
        read_dialogs("not/here/at/all.jsonl")

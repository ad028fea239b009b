"""A run owns its folder: what becomes of one that is there, who may write, and that nothing is deleted."""

import json
import os
import subprocess
import sys

import pytest

from arc_helpers.runs import FolderError, RunFolder, built_folder, replacing_folder, seal_json, usable
from arc_helpers.runs.folder import MARKER, Marker, read_marker, set_aside, write_marker
from arc_helpers.runs.seal import LEDGER, is_whole

ASKED, FOUND = {"k": 4, "lr": 0.1}, {"code": "c1", "what model_dir names": "m1"}


@pytest.fixture
def room(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def begin(room):
    """Opens the folder as another process would: what it opened before is let go of."""
    opened = []

    def begin(asked=ASKED, found=FOUND, made_by="02", fresh=False, **options):
        for folder in opened:
            folder.release()
        opened.append(RunFolder(room, made_by, asked, found, **options))
        opened[-1].open(fresh)
        return opened[-1]

    yield begin
    for folder in opened:
        folder.release()


def leave(folder, name="result", text="computed"):
    (folder.path / name).write_text(text)


def test_a_stopped_run_is_gone_on_with(begin):
    first = begin()
    assert first.verdict.verb == "new"
    leave(first)
    again = begin()
    assert again.verdict.verb == "resume" and (again.path / "result").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"asked": {**ASKED, "k": 8}}, "k was 4 and is 8 now"),
        ({"made_by": "03"}, "02 wrote here"),
        ({"fresh": True}, "fresh"),
    ],
)
def test_another_run_is_set_aside_not_deleted_and_starts_at_once(begin, room, change, why):
    leave(begin())
    now = begin(**change)
    assert now.verdict.verb == "set aside" and now.verdict.why == f"{why}: the earlier run is in {room}.1"
    assert not (room / "result").exists() and (room.parent / "run.1/result").read_text() == "computed"
    assert read_marker(room.parent / "run.1").asked == ASKED
    leave(now)
    assert begin(fresh=True).verdict.why.endswith(f"{room}.2")


@pytest.mark.parametrize("what", FOUND)
def test_what_the_user_did_not_ask_for_is_refused_with_what_to_do(begin, room, what):
    leave(begin())
    with pytest.raises(FolderError) as error:
        begin(found={**FOUND, what: "other"})
    assert str(error.value) == (
        f"{room}: an unfinished run is here, and {what} was {FOUND[what]} and is other now; fresh=true sets it aside "
        "and starts anew, or bring back what has changed"
    )
    assert (room / "result").exists()
    assert begin(found={**FOUND, what: "other"}, fresh=True).verdict.verb == "set aside"


def test_a_run_that_had_ended(begin, room):
    ended = begin()
    leave(ended)
    ended.finish()
    assert begin(goes_on=True).verdict.verb == "resume"
    begin(goes_on=True).finish()
    assert begin().verdict.why.startswith("it had ended")
    assert (room.parent / "run.1/result").exists()


def test_a_folder_of_the_user_is_refused(begin, room):
    room.mkdir()
    (room / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"run: holds notes.txt, which no run of this version made; .*--adopt"):
        begin()
    with pytest.raises(FolderError, match=r"run: holds notes.txt, which was not made as report; give an empty"):
        built_folder(room, "report")
    with pytest.raises(FolderError, match="was not made as a model"), replacing_folder(room):
        raise AssertionError("must not begin")
    assert {p.name for p in room.iterdir()} == {"notes.txt"}
    assert begin(ours=True).verdict.verb == "new", "on Kaggle the whole folder is the run's"
    assert (room / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way(begin, room):
    room.write_text("")
    with pytest.raises(FolderError, match="is a file, a folder is needed"):
        begin()


def test_papermills_notebook_alone_is_no_obstacle(begin, room):
    room.mkdir()
    (room / "02.ipynb").write_text("{}")
    assert begin().verdict.verb == "new"


def test_half_a_marker_of_a_start_that_was_killed_is_no_obstacle(begin, room):
    room.mkdir()
    (room / f".{MARKER}.4711.tmp").write_text("{")
    assert begin().verdict.verb == "new"


def test_a_second_process_gets_one_line(begin, room):
    begin()
    code = (
        "import sys; from arc_helpers.runs import RunFolder\n"
        "try: RunFolder(sys.argv[1], '02', {'k': 4, 'lr': 0.1}, {}).open()\n"
        "except ValueError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code, room], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{room}: another run writes here (process {os.getpid()} on ") and said.count("\n") == 1


def test_a_lock_whose_process_is_gone_is_no_obstacle(begin, room):
    code = "import os, sys; from arc_helpers.runs import RunFolder\nRunFolder(sys.argv[1], '02').open(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, room]).returncode == 9
    assert begin(asked={}, found={}).verdict.verb == "resume"


def test_the_same_kernel_may_start_again(room):
    one, other = RunFolder(room, "02", ASKED), RunFolder(room, "02", ASKED)
    one.open()
    assert other.open().verb == "resume"
    other.release()


def test_other_runs_inside_are_not_moved(begin, room):
    leave(begin())
    inner = RunFolder(room / "other", "03")
    inner.open()
    with pytest.raises(FolderError, match=r"holds other runs \(other\); choose another out_dir"):
        begin(fresh=True)
    inner.release()


def test_prepared_for_another_process(begin, room):
    leave(begin())
    begin().release()
    assert RunFolder(room, "02", {**ASKED, "k": 8}, FOUND).prepare().verb == "set aside"
    assert begin(asked={**ASKED, "k": 8}, fresh=True).verdict.verb == "new", "what was set aside is so once"
    begin().release()
    assert RunFolder(room, "02", {**ASKED, "k": 8}).prepare().verb == "set aside"


def test_setting_aside_goes_on_where_it_was_killed(begin, room, monkeypatch):
    folder = begin()
    for name in "abc":
        leave(folder, name)
    moved = []

    def killed(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(os.rename(source, target))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.move", killed)
        set_aside(room)
    assert begin(asked={**ASKED, "k": 1}).verdict.verb == "set aside"
    aside = room.parent / "run.1"
    assert {p.name for p in aside.iterdir()} == {"a", "b", "c", MARKER} and read_marker(aside).asked == ASKED
    assert not (room.parent / "run.2").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"sha256": "x", "odd": 1}', "\xff"])
def test_a_damaged_marker_sets_the_run_aside(begin, room, text):
    leave(begin())
    (room / MARKER).write_bytes(text.encode("latin-1"))
    assert begin().verdict.why == f"its marker is damaged: the earlier run is in {room}.1"
    assert (room.parent / "run.1/result").exists()


def test_one_changed_digit_of_a_marker_is_noticed(room):
    room.mkdir()
    write_marker(room, Marker("02", "running", ASKED, FOUND))
    (room / MARKER).write_text((room / MARKER).read_text().replace('"k": 4', '"k": 5'))
    assert read_marker(room).state == "damaged"


def test_a_disk_that_cannot_be_written_is_one_line(begin, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FolderError, match=r"cannot be written \(No space left on device\)$"):
        begin()


# what is built anew


def test_a_built_folder_replaces_its_own_and_nothing_else(tmp_path):
    out = built_folder(tmp_path / "site", "report")
    (out / "old.html").write_text("")
    (out / "deep").mkdir()
    assert {p.name for p in built_folder(out, "report").iterdir()} == {MARKER}
    (out / "page").write_text("")
    with pytest.raises(FolderError, match="not made as kaggle bundle"):
        built_folder(out, "kaggle bundle")
    run = RunFolder(tmp_path / "run", "02")
    run.open()
    leave(run)
    run.finish()
    with pytest.raises(FolderError, match="not made as report"):
        built_folder(run.path, "report")


def test_a_model_folder_is_whole_or_the_older_one(tmp_path):
    model = tmp_path / "model"
    with replacing_folder(model) as draft:
        (draft / "weights").write_text("1")
    with pytest.raises(RuntimeError), replacing_folder(model) as draft:
        (draft / "weights").write_text("2")
        raise RuntimeError
    assert (model / "weights").read_text() == "1" and [p.name for p in tmp_path.iterdir()] == ["model"]
    with replacing_folder(model) as draft:
        (draft / "weights").write_text("3")
    assert (tmp_path / "model.1/weights").read_text() == "1", "an earlier model is not deleted"
    run = RunFolder(tmp_path / "run", "00")
    run.open()
    for text in "12":
        with replacing_folder(run.path / "model") as draft:
            (draft / "weights").write_text(text)
    assert (run.path / "model/weights").read_text() == "2" and not (run.path / "model.1").exists()
    run.release()


# state files


def test_a_state_file_is_what_was_written_or_put_aside(tmp_path, capsys):
    file = tmp_path / "state.json"
    assert not usable(file)
    seal_json(file, {"step": 1})
    first = file.read_bytes()
    seal_json(file, {"step": 2})
    assert usable(file)
    file.write_bytes(first)
    assert usable(file), "an older version is whole as well: a kill may leave it"
    for damage in (b"", first[:-3], first.replace(b"1", b"7")):
        file.write_bytes(damage)
        assert not usable(file) and not file.exists()
        assert capsys.readouterr().out.startswith(f"{file}: is not what was written")
        assert (tmp_path / "state.json.damaged").read_bytes() == damage
    seal_json(file, {"step": 3})
    assert is_whole(file) and subprocess.run(["sha256sum", "--ignore-missing", "-c", LEDGER], cwd=tmp_path).returncode


def test_a_damaged_ledger_vouches_for_nothing(tmp_path):
    file = tmp_path / "state.json"
    for text in (b"", b"\xff\xfe\n\n", b"0" * 64 + b"  state.json\n"):
        seal_json(file, {"step": 1})
        (tmp_path / LEDGER).write_bytes(text)
        assert not is_whole(file)
    (tmp_path / LEDGER).write_bytes(b"torn")
    seal_json(file, {"step": 2})
    assert is_whole(file) and json.loads(file.read_text()) == {"step": 2}

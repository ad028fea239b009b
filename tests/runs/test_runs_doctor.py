"""The doctor says what is in a run's folder, and mends it without deleting anything that was computed."""

import pytest

from arc_helpers.runs import FolderError, RunFolder, append_record, read_jsonl, seal_json
from arc_helpers.runs.doctor import examine
from arc_helpers.runs.folder import MARKER


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", "02", {"k": 4})
    folder.open()
    for name in ("results/a.json", "results/b.json", "groups.json"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        seal_json(folder.path / name, {"name": name})
    for step in range(3):
        append_record(folder.path / "metrics.jsonl", {"step": step})
    folder.release()
    return folder


def test_a_sound_run(folder):
    assert list(examine(folder.path)) == [
        "made by 02, stopped before its end: the same command goes on with it",
        "3 files that a run goes on from are whole",
    ]


def test_what_is_damaged_is_kept_aside_and_the_rest_goes_on(folder):
    path = folder.path
    (path / "results/a.json").write_text('{"name": "results/A.json"}\n')
    (path / "metrics.jsonl").write_bytes(b'{"step": 0}\n\x00\xff\n{"step": 2}\n{"st')
    (path / ".groups.json.77.tmp").write_text("half")
    (path / ".model.77.old").mkdir()
    said = "\n".join(examine(path))
    assert "a.json: is not what was written" in said and "2 files that a run goes on from are whole" in said
    assert "metrics.jsonl: 2 of 4 lines are no JSON" in said and "groups.json.77.tmp: half a file" in said
    assert read_jsonl(path / "metrics.jsonl") == [{"step": 0}, {"step": 2}]
    assert (path / "results/a.json.damaged").exists() and (path / "metrics.jsonl.damaged").exists()
    assert not list(path.glob(".*77*"))
    assert list(examine(path))[1:] == ["2 files that a run goes on from are whole"], "mended"
    assert RunFolder(path, "02", {"k": 4}).judge().verb == "resume"


def test_damaged_marker_and_no_run(folder, tmp_path):
    (folder.path / MARKER).write_text("{")
    assert next(examine(folder.path)).endswith("its marker is damaged: the next run in it sets it aside")
    with pytest.raises(FolderError, match="no such folder"):
        list(examine(tmp_path / "nowhere"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    with pytest.raises(FolderError, match=r"no run has made it .*--adopt"):
        list(examine(tmp_path / "mine"))
    assert list(examine(tmp_path / "mine", adopt=True)) == ["adopted: a run in it sets its 1 files and folders aside"]
    assert RunFolder(tmp_path / "mine", "02").open().why.endswith("the earlier run is in " + str(tmp_path / "mine.1"))
    assert (tmp_path / "mine.1/notes.txt").read_text() == "x"


def test_a_run_at_work_is_left_alone(folder):
    import subprocess
    import sys

    folder.open()
    command = [sys.executable, "-m", "arc_helpers", "doctor", str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "another run writes here" in done.stderr and done.stderr.count("\n") == 1
    folder.release()

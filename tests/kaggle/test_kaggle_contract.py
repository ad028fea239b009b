"""The competition's mount as it may be: whatever is odd in it, the submission has the ids and counts wanted."""

import json
from pathlib import Path

import pytest

from arc_helpers.kaggle import bootstrap, submission_mode

COMPETITION = "arc-prize-2026-arc-agi-2"
PAIR = {"input": [[1, 2]], "output": [[2, 1]]}
WANTED = {"one": 1, "two": 2, "ten": 1}
TASKS = {i: {"train": [PAIR], "test": [{"input": [[3]]}] * n} for i, n in WANTED.items()}
OTHERS = {"far": {"train": [PAIR], "test": [{"input": [[3]]}]}}
ANSWER = {"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]}
SAMPLE = {i: [ANSWER] * n for i, n in WANTED.items()}
NAME, TEST = "sample_submission.json", "arc-agi_test_challenges.json"
SOLUTIONS = {i: [[[1]]] * n for i, n in WANTED.items()}
KNOWN = {"train1": TASKS["one"], "train2": TASKS["two"]}
#: {what is odd: (files of the mount, the one that is to be found, ids and counts of the submission, what is said)}
MOUNTS = {
    "as it is": ({NAME: SAMPLE, TEST: TASKS, "arc-agi_training_challenges.json": KNOWN}, TEST, WANTED, ""),
    "test.json": ({NAME: SAMPLE, "test.json": TASKS, "train.json": KNOWN}, "test.json", WANTED, ""),
    "one folder deeper": ({f"data/{NAME}": SAMPLE, f"data/v2/{TEST}": TASKS}, f"data/v2/{TEST}", WANTED, ""),
    "a list of tasks": (
        {NAME: SAMPLE, "test.json": [{"id": i, **task} for i, task in TASKS.items()]},
        "test.json",
        WANTED,
        "",
    ),
    "another name": ({NAME: SAMPLE, "hidden.json": TASKS, "evaluation.json": KNOWN}, "hidden.json", WANTED, ""),
    "no test file": ({NAME: SAMPLE, "arc-agi_training_challenges.json": KNOWN}, None, WANTED, "NO TEST FILE MATCHES"),
    "nested too deeply": ({NAME: SAMPLE, TEST: "[" * 100_000}, None, WANTED, "RecursionError"),
    "cut off": ({NAME: SAMPLE, TEST: json.dumps(TASKS)[:-9]}, None, WANTED, "NO TEST FILE MATCHES"),
    "no sample": ({TEST: TASKS, "arc-agi_training_challenges.json": KNOWN}, TEST, WANTED, "no sample submission"),
    "a broken sample": ({NAME: "{", TEST: TASKS}, TEST, WANTED, "sample_submission.json is left out"),
    "two that match": ({NAME: SAMPLE, "a_evaluation.json": TASKS, "b_test.json": TASKS}, "b_test.json", WANTED, "both"),
    "a task less": ({NAME: SAMPLE, TEST: {i: TASKS[i] for i in ("one", "two")}}, TEST, WANTED, "2 of 3 tasks are as"),
    "another count": (
        {NAME: SAMPLE, TEST: TASKS | {"two": TASKS["one"]}},
        TEST,
        WANTED,
        "2 of 3 tasks are as the sample",
    ),
    "malformed tasks": ({NAME: SAMPLE, TEST: TASKS | {"one": 7, "ten": {}}}, TEST, WANTED, ""),
    "solutions beside": ({NAME: SAMPLE, "arc-agi_test_solutions.json": SOLUTIONS, TEST: TASKS}, TEST, WANTED, ""),
    "what a zip leaves": ({NAME: SAMPLE, TEST: TASKS, f"__MACOSX/._{TEST}": "\0", f".{TEST}": "{"}, TEST, WANTED, ""),
}


def lay(folder: Path, files: dict) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture(params=["competitions", ""], ids=["new", "old"])
def mount(request, kaggle_root) -> Path:
    """The competition's mount, beside another's that has everything it should not be taken from."""
    lay(kaggle_root / "input" / request.param / "arc-prize-2025", {NAME: {"far": [ANSWER]}, TEST: OTHERS})
    return kaggle_root / "input" / request.param / COMPETITION


def submission(root: Path) -> dict:
    return json.loads((root / "working/submission.json").read_text())


@pytest.mark.parametrize("odd", MOUNTS)
def test_an_odd_mount(odd, mount, kaggle_root, capsys):
    files, test_file, wanted, said = MOUNTS[odd]
    lay(mount, files)
    assert "NO SUBMISSION" not in bootstrap.write_fallback(COMPETITION)
    found = bootstrap.find_challenges(COMPETITION)
    assert found == (mount / test_file if test_file else None)
    assert {i: len(answers) for i, answers in submission(kaggle_root).items()} == wanted
    assert said in capsys.readouterr().out
    if found:  # and the run works on the same ids and counts
        asked = bootstrap.questions_asked(json.loads(submission_mode.as_wanted(found, COMPETITION).read_text()))
        assert asked == wanted


def test_the_fallback_is_there_before_the_test_file_is_looked_at(mount, kaggle_root, monkeypatch):
    lay(mount, {NAME: SAMPLE, TEST: TASKS})
    monkeypatch.setattr(bootstrap, "choose_challenges", lambda *_: 1 / 0)
    assert bootstrap.survive(bootstrap.write_fallback, COMPETITION, otherwise="said") == "said"
    assert set(submission(kaggle_root)) == set(WANTED)


def test_another_competitions_tasks_are_never_taken(mount, kaggle_root):
    assert "arc-prize-2026-arc-agi-2 is not attached" in bootstrap.write_fallback(COMPETITION)
    assert bootstrap.find_challenges(COMPETITION) is None
    assert not (kaggle_root / "working/submission.json").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        *["", "{", "[]", "[" * 100_000, "7", '{"bundle": "arc-helpers bundle"}'],
        *['{"bundle": "arc-helpers bundle", "files": []}', '{"bundle": "arc-helpers bundle", "files": {"a": 1}}'],
        '{"bundle": "arc-helpers bundle", "files": {"../x.whl": "0"}, "wheels": {"ray": {"file": "../x.whl"}}}',
        '{"bundle": "arc-helpers bundle", "files": {"a": "0"}, "wheels": {"ray": 3, "peft": {"version": 1}}}',
    ],
)
def test_an_odd_manifest_costs_itself(manifest, kaggle_root, mount):
    lay(mount, {NAME: SAMPLE, TEST: TASKS})
    lay(kaggle_root / "input/some-dataset", {"manifest.json": manifest})
    bootstrap.start(wheel="arc_helpers-0.1.0.whl", sha256="0", needs=["ray", "peft"], competition=COMPETITION)
    assert set(submission(kaggle_root)) == set(WANTED)
    report = json.loads((kaggle_root / "working/report/bootstrap.json").read_text())
    assert report["installed"] == [] and report["fallback"].startswith("fallback: submission.json is valid for 3 tasks")


@pytest.mark.parametrize("place", ["wheels", "datasets/me/wheels", "datasets/me/wheels/dataset", "wheels/a/b/dataset"])
def test_the_dataset_is_found_flat_or_nested(place, kaggle_root):
    lay(kaggle_root / "input" / place, {"manifest.json": {"bundle": bootstrap.MARK, "files": {}}})
    assert bootstrap.find_bundle("0") == kaggle_root / "input" / place

import json
import lzma

import pytest
from arc_strategies import QUICK, tasks
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import Pair, TaskError, concept_arc, re_arc

PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
GOOD = {"train": [PAIR], "test": [PAIR]}
EXAMPLES = {"b": [PAIR, PAIR, PAIR], "a": [PAIR]}


def write_lines(path, records) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())


@pytest.fixture(params=["folder", "folder/tasks", "x.jsonl", "x.jsonl.xz"])
def re_arc_path(request, tmp_path):
    path = tmp_path / request.param
    if path.suffix:
        write_lines(path, [{"id": name, "examples": examples} for name, examples in EXAMPLES.items()])
        return path
    path.mkdir(parents=True)
    for name, examples in EXAMPLES.items():
        (path / f"{name}.json").write_text(json.dumps(examples))
    return tmp_path / "folder"


def test_re_arc_reads_every_layout(re_arc_path):
    assert re_arc(re_arc_path) == {"b": [Pair(**PAIR)] * 3, "a": [Pair(**PAIR)]}


def test_re_arc_can_take_a_few_of_each(re_arc_path):
    assert {name: len(pairs) for name, pairs in re_arc(re_arc_path, limit_per_task=2).items()} == {"b": 2, "a": 1}


@QUICK
@given(st.lists(tasks(), min_size=1, max_size=3, unique_by=lambda task: task.id.lower()))
def test_concept_arc_reads_every_layout(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("concept")
    for i, task in enumerate(written):
        (folder / f"Concept{i}").mkdir()
        (folder / f"Concept{i}" / f"{task.id}.json").write_text(json.dumps(task.to_dict()))
    assert concept_arc(folder) == written
    for name in ("x.jsonl", "x.jsonl.xz"):
        write_lines(folder / name, [{"id": task.id, **task.to_dict()} for task in written])
        assert concept_arc(folder / name) == written


@pytest.mark.parametrize(
    "lines, message",
    [
        (["{"], "{path}: line 1: not valid JSON: Expecting property name"),
        (['{"examples": []}'], "{path}: line 1: expected a mapping with an 'id', got {'examples': []}"),
        (['{"id": "a"}'], "task a: examples: expected a list of pairs, got None"),
        (['{"id": "a", "examples": [{"input": [[1]]}]}'], "task a: examples[0].output: is missing"),
        (
            ['{"id": "a", "examples": [{"input": [[1]], "output": [[10]]}]}'],
            "task a: examples[0].output: row 0, column 0: value 10; allowed are the integers 0 to 9",
        ),
        (['{"id": "a", "examples": []}'] * 2, "task a: appears twice; ids must be unique"),
    ],
)
def test_bad_re_arc_lines(tmp_path, lines, message):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(TaskError) as error:
        re_arc(path)
    assert str(error.value).startswith(message.replace("{path}", str(path)))


@pytest.mark.parametrize("read", [re_arc, concept_arc])
def test_unusable_paths(read, tmp_path):
    with pytest.raises(TaskError, match=r"the folder holds no \*.json"):
        read(tmp_path)
    with pytest.raises(TaskError, match=r"allowed are an? .*folder"):
        read(tmp_path / "missing.jsonl")
    (tmp_path / "cut.jsonl.xz").write_bytes(lzma.compress(b'{"id": "a", "train": [], "test": []}' * 1000)[:-20])
    with pytest.raises(TaskError, match=r"^.*cut.jsonl.xz: "):
        read(tmp_path / "cut.jsonl.xz")


def test_concepts_that_share_an_id_are_called_by_their_folders(tmp_path):
    for concept in ("A", "B"):
        (tmp_path / concept).mkdir()
        (tmp_path / concept / "x.json").write_text(json.dumps(GOOD))
    assert [task.id for task in concept_arc(tmp_path)] == ["A/x", "B/x"]

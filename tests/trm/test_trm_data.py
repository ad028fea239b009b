"""No answer of a scored task gets into a data set, and every augmentation can be undone."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trm_models import EVALUATION, TRAINING

from arc_helpers.arc import Pair, SplitError, Task, Transform, load_tasks
from arc_helpers.trm.augment import MOST_AUGMENTATIONS, distinct_transforms
from arc_helpers.trm.data import DatasetError, DatasetOptions, Query, build_arc_dataset, load_arc_dataset


def test_what_is_trained_on(dataset):
    assert dataset.task_ids == ["train1", "train2", "asked1", "asked2"] and dataset.scored_ids == ["asked1", "asked2"]
    assert len(dataset.pairs["train1"]) == 3, "of a training task the test pair, too"
    assert list(dataset.pairs["asked1"]) == list(EVALUATION[0].train), "of a scored task the demonstrations alone"
    assert "twin: left out, it overlaps with the scored task asked1" in dataset.notes


def test_a_query_cannot_hold_an_answer(dataset):
    assert {field.name for field in dataclasses.fields(Query)} == {"task_id", "index", "input"}
    first = dataset.queries[0]
    assert (first.task_id, first.index, first.input.tolist()) == ("asked1", 0, [[7, 8, 9]])


def test_answers_are_nowhere_in_the_folder(folder, tmp_path):
    """The same files, byte by byte, whatever the answers of the scored tasks are."""
    contents = []
    for number, poison in enumerate(([[9, 8, 7]], [[0] * 29] * 29)):
        for file in (folder / "evaluation").glob("*.json"):
            task = json.loads(file.read_text())
            task["test"][0]["output"] = poison
            file.write_text(json.dumps(task))
        build_arc_dataset(str(folder), tmp_path / f"d{number}", num_aug=3)
        contents.append({f.name: f.read_bytes() for f in (tmp_path / f"d{number}").iterdir()})
    assert contents[0] == contents[1] and len(contents[0]) == 4


def test_the_guard_stands_at_scoring_too(dataset):
    dataset.check_guard(EVALUATION)
    with pytest.raises(SplitError, match="1 by id"):  # scored with a set that it was trained on
        dataset.check_guard(TRAINING[:1])
    twin = Task("renamed", TRAINING[0].train, TRAINING[0].test)
    with pytest.raises(SplitError, match="train1 = renamed"):
        dataset.check_guard([twin])
    leaking = dataclasses.replace(
        dataset, pairs={**dataset.pairs, "asked1": [*dataset.pairs["asked1"], EVALUATION[0].test[0]]}
    )
    with pytest.raises(SplitError, match="asked1: trained on 1 pairs that are not among its demonstrations"):
        leaking.check_guard(EVALUATION)


def test_the_real_overlap_is_left_out(tmp_path):
    """ARC-AGI-1's training task 40853293 repeats three pairs of the evaluation task 070dd51e."""
    dataset = build_arc_dataset("arcagi1", tmp_path, num_aug=0, max_side=10)
    assert "40853293" not in dataset.pairs and "070dd51e" not in dataset.pairs and len(dataset.scored_ids) == 78
    assert "40853293: left out, it overlaps with the scored task 070dd51e" in dataset.notes
    dataset.check_guard(load_tasks("arcagi1/evaluation"))
    listed = [note for note in dataset.notes if "more than max_side = 10" in note]
    assert len(listed) + len(dataset.pairs) == 799, "what is too large is listed, not cropped"


def test_read_back(dataset, tmp_path):
    again = load_arc_dataset(tmp_path / "dataset")
    assert again.options == dataset.options and again.fingerprint() == dataset.fingerprint()
    assert again.identifiers == dataset.identifiers and list(again.notes) == list(dataset.notes)
    assert again.pairs.keys() == dataset.pairs.keys()
    head = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    assert head["vocabulary"] == {"size": 12, "pad": 0, "ignored_label": 0, "eos": 1, "first_color": 2}
    assert (head["tasks"], head["queries"], head["identifiers"]) == (4, 2, 16)


def test_identifiers_carry_their_inverse(dataset):
    for identifier in dataset.identifiers:
        task_id, name = identifier.split("|||")
        transform = Transform.from_name(name)
        for pair in dataset.pairs[task_id]:
            assert transform.inverse.pair(transform.pair(pair)) == pair
    assert dataset.transforms["asked1"][0] == "r0f0-c0123456789", "a task itself comes first"


cells = st.lists(st.integers(0, 9), min_size=4, max_size=4)


@given(st.lists(cells, min_size=1, max_size=3), st.integers(0, 12), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_augmentations_are_different_tasks(rows, n, seed):
    pairs = [Pair([row[:2]], [row[2:]]) for row in rows]
    found = distinct_transforms(pairs, n, np.random.default_rng(seed))
    looks = {tuple(transform.pair(pair) for pair in pairs) for transform in found}
    assert len(looks) == len(found) <= n + 1 and found[0] == Transform()
    assert all(transform.colors[0] == 0 for transform in found)


def test_all_augmentations_of_a_symmetric_task_are_found_and_no_more(folder, tmp_path):
    """A dot: no symmetry changes it, nine colours do."""
    assert len(distinct_transforms([Pair([[1]], [[1]])], 1000, np.random.default_rng(0))) == 9
    # a row of two colours: 4 of the 8 symmetries differ, and 9 · 8 colours
    assert len(distinct_transforms([Pair([[1, 2, 2]], [[1]])], 1000, np.random.default_rng(0))) == 4 * 72
    dot = {"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}
    (folder / "evaluation" / "dot.json").write_text(json.dumps(dot))
    notes = build_arc_dataset(str(folder), tmp_path / "d", num_aug=20).notes
    assert "dot: has 8 different augmentations, not num_aug = 20" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_aug": MOST_AUGMENTATIONS + 1}, "num_aug = 2903040: must be 0 to 2,903,039"),
        ({"num_aug": -1}, "num_aug = -1: must be 0 to"),
        ({"max_side": 31}, "max_side = 31: must be 1 to 30"),
        ({"test_set_name": "exam"}, "test_set_name = exam: must be one of training, evaluation"),
        ({"max_side": 1}, "no task fits max_side = 1"),
    ],
)
def test_bad_options(folder, tmp_path, options, message):
    with pytest.raises(DatasetError, match=message):
        build_arc_dataset(str(folder), tmp_path / "d", **options)
    assert 8 * math.factorial(9) - 1 == MOST_AUGMENTATIONS


def test_other_options_are_named():
    built = DatasetOptions("arcagi1", ("training", "evaluation"), "evaluation", 100, 0)
    other = dataclasses.replace(built, num_aug=300)
    built.check_same(built, "x")
    with pytest.raises(DatasetError, match="num_aug = 100: the data set was built with it, but x with 300"):
        built.check_same(other, "x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "queries.json").unlink(), "queries.json is missing; build_arc_dataset writes it"),
        (lambda d: (d / "pairs.json").write_text("{"), "not a whole data set"),
        (lambda d: (d / "pairs.json").write_text('{"a": [{"input": [[10]]}]}'), "value 10"),
        (lambda d: (d / "queries.json").write_text("{}"), "do not belong together"),
    ],
)
def test_a_damaged_folder(dataset, tmp_path, damage, message):
    damage(tmp_path / "dataset")
    with pytest.raises(DatasetError, match=message) as error:
        load_arc_dataset(tmp_path / "dataset")
    assert "\n" not in str(error.value)

"""Published checkpoints and data folders: read as written by another, evaluated as a plain program does; refused."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
import yaml
from official_files import augmented, official_weights, plain_votes, write_folder
from trm_models import EVALUATION, TRAINING, small_model
from typer.testing import CliRunner

from arc_helpers.arc import Pair, Transform
from arc_helpers.cli import app
from arc_helpers.trm import (
    ArcSource,
    DatasetError,
    SavedModelError,
    TrainConfig,
    Trainer,
    evaluate_checkpoint,
    load_predictions,
    open_dataset,
    open_trm,
    save_trm,
    vote,
)
from arc_helpers.trm.evaluation import too_large
from arc_helpers.trm.official import check_rows, official_name, read_name

ARCH = {"H_cycles": 2, "L_cycles": 1, "halt_max_steps": 2, "num_heads": 2, "puzzle_emb_len": 3}
PLAIN = {**ARCH, "blocks": 2}


@pytest.fixture
def published(tmp_path):
    """(data folder, folder of checkpoints): two scored tasks with three augmentations each."""
    data, run = tmp_path / "data", tmp_path / "run"
    scored = {task.id: task.to_dict() for task in EVALUATION}
    names = write_folder(data, {t.id: t.to_dict() for t in TRAINING[:2]}, scored, num_aug=3)
    run.mkdir()
    config = {"arch": {**ARCH, "expansion": 4, "pos_encodings": "rope", "mlp_t": False, "loss": {"name": "x"}}}
    (run / "all_config.yaml").write_text(yaml.safe_dump(config))
    torch.save(official_weights(len(names)), run / "step_20")
    torch.save(official_weights(len(names), prefix="model.", seed=1), run / "step_3")
    return data, run


def test_names_mean_what_the_published_ones_mean():
    grid = np.array([[0, 1, 2], [3, 4, 5]])
    for turn in range(8):
        name = f"a|||t{turn}|||0213456798"
        task_id, transform = read_name(name)
        assert task_id == "a" and np.array_equal(transform.grid(grid), augmented(name, grid))
        assert official_name("a", transform) == name
    assert read_name("a") == ("a", Transform()) and official_name("a", Transform()) == "a"
    for bad in ("a|||t8|||0123456789", "a|||t1|||0012345678", "a|||t1", "a|||x|||0123456789"):
        with pytest.raises(DatasetError, match="is no name of an augmented task"):
            read_name(bad)


def test_a_folder_written_by_another_is_read(published):
    data, _ = published
    dataset = open_dataset(data)
    names = json.loads((data / "identifiers.json").read_text())
    for task_id, rows in dataset.rows.items():
        shown = [official_name(task_id, Transform.from_name(name)) for name in dataset.transforms[task_id]]
        assert shown == [names[row] for row in rows]
    # training pairs lie at random places of their canvas there, and come back as they were
    assert [list(dataset.pairs[t.id]) for t in TRAINING[:2]] == [[*t.train, *t.test] for t in TRAINING[:2]]
    assert [list(dataset.pairs[t.id]) for t in EVALUATION] == [list(t.train) for t in EVALUATION]
    assert check_rows(data, dataset) == 8
    batch = ArcSource(dataset, "official", "listed").draw(900, 40, torch.Generator().manual_seed(0))
    assert set(batch.identifier.tolist()) <= set(range(1, len(names)))
    for row, symmetry in zip(batch.identifier.tolist(), batch.symmetry.tolist(), strict=True):
        seen = read_name(names[row])[1]
        assert Transform(seen.k, seen.flip) == (Transform(symmetry % 4, symmetry >= 4))


def test_a_training_task_that_shares_a_pair_with_a_scored_one_is_left_out(tmp_path):
    training, scored = ({t.id: t.to_dict() for t in tasks} for tasks in (TRAINING, EVALUATION))
    write_folder(tmp_path / "data", training, scored, num_aug=0)
    dataset = open_dataset(tmp_path / "data")
    assert "twin" in training and "twin" not in dataset.pairs and dataset.identifier_rows == 6
    assert dataset.notes == ["twin: left out, it overlaps with the scored task asked1"]
    dataset.check_guard(EVALUATION)


def test_votes_are_those_of_a_plain_program(published, tmp_path):
    (data, run), name, said = published, "step_3", []  # saved from a compiled model: its names have a prefix
    evaluate_checkpoint(run / name, data, tmp_path / "out", say=said.append)
    predictions = [p for file in sorted((tmp_path / "out/predictions").iterdir()) for p in load_predictions(file)]
    expected, _ = plain_votes(data, torch.load(run / name, weights_only=True), PLAIN)
    found = {}
    for (task_id, index), answers in vote(predictions).items():
        asked = next(t for t in EVALUATION if t.id == task_id).test[index].input.tolist()
        found[task_id, str(asked)] = [(str(v.grid.tolist()), v.votes) for v in answers]
    assert found == {key: [a for a in answers if a[0] != "[]"] for key, answers in expected.items()}
    assert sum(v for answers in found.values() for _, v in answers) > 0
    assert any(line.startswith("pass@100") for line in said)
    assert set(json.loads((tmp_path / "out/submission.json").read_text())) == {t.id for t in EVALUATION}


def test_the_command_goes_on_and_says_what_it_takes(published, tmp_path):
    data, run = published
    words = ["trm", "eval", str(run), str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]
    first = CliRunner().invoke(app, [*words, "--segments", "1", "--h-cycles", "1"])
    assert first.exit_code == 0, first.output
    assert "H_cycles = 1 as asked; the checkpoint has 2" in first.output
    assert "segments = 1: the model was trained with halt_max_steps = 2" in first.output
    assert "1 of 2 tasks: asked1" in first.output and "pass@2" in first.output
    file = tmp_path / "out/predictions/asked1.jsonl"
    before = file.stat().st_mtime_ns
    (tmp_path / "out/predictions/asked2.jsonl").unlink()
    again = CliRunner().invoke(app, [*words, "--segments", "1", "--h-cycles", "1"])
    assert "2 of 2 tasks: asked2" in again.output and "asked1" not in again.output
    assert file.stat().st_mtime_ns == before


def test_build_data_writes_both_layouts_and_ours_evaluates(folder, tmp_path):
    out = tmp_path / "built"
    words = ["trm", "build-data", "--input-file-prefix", str(folder), "--output-dir", str(out), "--num-aug", "2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    own, official = open_dataset(out / "own"), open_dataset(out / "official")
    assert {i: list(p) for i, p in own.pairs.items()} == {i: list(p) for i, p in official.pairs.items()}
    assert own.transforms == official.transforms and own.identifier_rows == official.identifier_rows
    assert all(list(own.rows_of(i)) == list(official.rows_of(i)) for i in own.pairs)
    assert json.loads((out / "official/test_puzzles.json").read_text())["asked1"]["test"][0]["output"]
    truth = json.dumps(EVALUATION[0].to_dict()["test"][0]["output"])
    assert all(truth not in file.read_text() for file in (out / "own").glob("*.json"))
    model = small_model(conditioning="identifier", conditioned_rows=own.identifier_rows, rope="1d")
    trainer = Trainer(model, ArcSource(own, "official", "listed"), TrainConfig(steps=2), tmp_path / "checkpoint.pt")
    trainer.run()
    for checkpoint in (tmp_path / "checkpoint.pt", save_trm(trainer.averaged, tmp_path / "model", own)):
        scores = evaluate_checkpoint(checkpoint, out / "own", tmp_path / "eval", say=str)
        assert [at.n_tasks for at in scores] == [2] * 4


def test_challenges_files_by_their_prefix(tmp_path):
    for subset, tasks in (("training", TRAINING), ("evaluation", EVALUATION)):
        entries = {t.id: t.to_dict() for t in tasks}
        (tmp_path / f"arc_{subset}_solutions.json").write_text(
            json.dumps({i: [pair.pop("output") for pair in entry["test"]] for i, entry in entries.items()})
        )
        (tmp_path / f"arc_{subset}_challenges.json").write_text(json.dumps(entries))
    words = ["trm", "build-data", "--input-file-prefix", str(tmp_path / "arc"), "--output-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--num-aug", "1", "--layout", "official"])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out/own").exists() and len(open_dataset(tmp_path / "out/official").queries) == 2
    refused = CliRunner().invoke(app, [*words, "--layout", "theirs"])
    assert refused.exit_code == 2 and "layout = theirs: must be one of both, own, official" in refused.output


class Malice:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "step_20").write_bytes(pickle.dumps(Malice())), "not a file of tensors by name"),
        (lambda run: (run / "step_20").write_bytes(b"PK"), "not a file of tensors by name"),
        (lambda run: torch.save({"a": torch.zeros(1)}, run / "step_20"), "a: a TRM has no such tensor"),
        (lambda run: torch.save([1], run / "step_20"), "not a file of tensors by name"),
        (lambda run: torch.save(official_weights(5, width=24), run / "step_20"), "size mismatch|conditioned_rows = 5"),
        (lambda run: (run / "all_config.yaml").write_text("x: 1"), "all_config.yaml: holds no arch"),
        (lambda run: [file.unlink() for file in run.glob("step_*")], "no TRM there; wanted config.json"),
    ],
)
def test_a_bad_checkpoint_is_one_line(published, spoil, message, tmp_path, capsys):
    data, run = published
    spoil(run)
    with pytest.raises((SavedModelError, DatasetError), match=message) as error:
        evaluate_checkpoint(run, data, tmp_path / "out", say=str)
    assert "\n" not in str(error.value) and "unpickled" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_without_its_config_the_published_recipe_is_assumed_and_said(published):
    _, run = published
    (run / "all_config.yaml").unlink()
    opened = open_trm(run)
    assert (opened.model.config.H_cycles, opened.model.config.L_cycles, opened.model.config.prefix_len) == (3, 4, 16)
    assert "no all_config.yaml beside it: H_cycles = 3" in opened.notes[0] and "num_heads = 1" in opened.notes[1]
    assert opened.name == "step_20", "the latest, by number"


def edit_json(path, change):
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: edit_json(d / "identifiers.json", lambda n: n[:1] + n[2:]), "is no test input of what row"),
        (lambda d: edit_json(d / "identifiers.json", lambda n: n[:3]), "has no row for asked2"),
        (lambda d: (d / "identifiers.json").write_text("{}"), "must hold a JSON list"),
        (lambda d: (d / "test_puzzles.json").unlink(), "test_puzzles.json: is missing"),
        (lambda d: (d / "test/all__inputs.npy").unlink(), "all__inputs.npy is missing"),
        (lambda d: np.save(d / "test/all__inputs.npy", np.zeros((3, 900))), "do not belong together"),
        (lambda d: edit_json(d / "test/dataset.json", lambda h: {**h, "seq_len": 81}), "an ARC folder has 900"),
    ],
)
def test_a_folder_of_two_builds_is_one_line(published, spoil, message):
    data, _ = published
    spoil(data)
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(data)
    assert "\n" not in str(error.value)


def test_answers_that_fit_no_canvas_and_missing_answers_are_said(published, tmp_path):
    grown = dataclasses.replace(EVALUATION[0], test=(Pair([[1, 2, 3]], [[1] * 9] * 9),))
    assert (
        too_large([grown], "official") == [] and "9 × 9 cannot fit its tight canvas" in too_large([grown], "tight")[0]
    )
    data, run = published
    edit_json(
        data / "test_puzzles.json",
        lambda p: {i: {**t, "test": [{**pair, "output": [[0]]} for pair in t["test"]]} for i, t in p.items()},
    )
    said = []
    assert evaluate_checkpoint(run, data, tmp_path / "out", say=said.append) == []
    assert "not scored: the data hold no answers" in said

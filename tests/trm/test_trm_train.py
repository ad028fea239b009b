"""Training learns, wastes no example, and a run that was killed ends with the same bits as one that was not."""

import dataclasses
import math

import pytest
import torch
from trm_models import small_config, small_model

from arc_helpers.runs import sealing
from arc_helpers.trm.batch import Batch
from arc_helpers.trm.checkpoint import open_trm
from arc_helpers.trm.loop import RESUMABLE, CheckpointError, check_gradients
from arc_helpers.trm.model import TRM, Carry, decide_halts
from arc_helpers.trm.source import ArcSource
from arc_helpers.trm.train import TrainConfig, Trainer

SIX = TrainConfig(steps=6, batch_tokens=60, warmup_steps=2, log_every=1, evaluate_every=100, checkpoint_every=3)


def model_for(dataset, **fields) -> TRM:
    return small_model(conditioned_rows=1 + len(dataset.task_ids), **fields)


SIGNS = {"optimizer": "adam_atan2", "tables_by": "signsgd", "micro_tokens": 20, "max_grad_norm": 0.0}


class Killed(Exception):
    pass


def kill_at(step: int):
    def on_metrics(metrics: dict) -> None:
        if metrics["step"] == step:
            raise Killed

    return on_metrics


def same(one, other) -> bool:
    """Equal to the last bit, through dicts and lists of tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("fields", [{"optimizer": "muon"}, {"optimizer": "adamw"}, {"optimizer": "adam_atan2"}, SIGNS])
def test_killed_and_resumed_equals_never_killed(dataset, tmp_path, fields):
    config = dataclasses.replace(SIX, **fields)
    source = ArcSource(dataset, "tight", "colors", translate=0.5)
    straight = Trainer(model_for(dataset), source, config, tmp_path / "straight.pt")
    straight.run()

    path = tmp_path / "killed.pt"
    with pytest.raises(Killed):  # behind the checkpoint of step 3, before that of step 6
        Trainer(model_for(dataset), source, config, path, on_metrics=kill_at(5)).run()
    torch.manual_seed(9)
    other_weights = TRM(small_config(conditioned_rows=5))
    resumed = Trainer(other_weights, source, config, path)
    assert resumed.step == 3 and any(carry.steps.any() for _, carry in resumed.slots.values())
    result = resumed.run()

    assert result["step"] == 6 and result["examples"] == straight.examples
    one, other = (torch.load(p, weights_only=True) for p in (tmp_path / "straight.pt", path))
    for state in (one, other):
        del state["seconds"]
        for metrics in state["history"]:
            del metrics["seconds"], metrics["segments_per_second"]
    assert same(one, other)
    assert not same(one["model"], model_for(dataset).state_dict())
    averaged = {name.removeprefix("module."): tensor for name, tensor in one["ema"].items() if name != "n_averaged"}
    assert averaged.keys() == one["model"].keys(), "all weights are averaged, tables and buffers included"
    tables = (weights["conditioner.task.weight"] for weights in (averaged, one["model"]))
    assert same(*tables) == (fields is SIGNS), "as published, tables of SignSGD are evaluated as they are"


class Counting:
    """Hands out numbered examples, so that each one can be followed: its first cell is its number."""

    def __init__(self):
        self.shares, self.options, self.given = {4: 1.0}, {}, 0

    def draw(self, cells: int, n: int, generator: torch.Generator) -> Batch:
        numbers = torch.arange(self.given, self.given + n)
        self.given += n
        cells = torch.full((n, 4), 3)
        return Batch.of(cells, 2, labels=cells, task=torch.ones(n, dtype=torch.int64), identifier=numbers)


def test_no_example_is_thrown_away():
    """Every row stays until it halts, and one that halts is followed by a new one; as published, 3 of 4 were lost."""
    source = Counting()
    config = TrainConfig(steps=30, batch_tokens=8 * 7, lr=1e-2, log_every=1)
    trainer = Trainer(small_model(canvas_cells=4, halt_exploration=0.5), source, config)
    held: dict[int, int] = {}  # number of the example: segments it has been given
    for _ in range(30):
        trainer._one_step()
        batch, carry = trainer.slots[4]
        for number, steps in zip(batch.identifier.tolist(), carry.steps.tolist(), strict=True):
            held[number] = held.get(number, 0) + 1
            assert held[number] == steps <= 3
    assert sorted(held) == list(range(source.given)), "all that was drawn was worked on"
    assert trainer.examples == source.given


def test_in_pieces_it_learns_what_it_learns_at_once(dataset):
    """Rows that go through the model one after another add up to the same gradient."""
    weights = []
    for micro in (0, 20, 45):
        config = dataclasses.replace(SIX, optimizer="adamw", micro_tokens=micro, steps=3)
        trainer = Trainer(model_for(dataset).double(), ArcSource(dataset), config)
        trainer.run()
        weights.append(torch.cat([p.flatten() for p in trainer.model.parameters()]))
        assert (len(trainer._pieces(next(iter(trainer.slots.values()))[0])) > 1) == bool(micro)
    assert all(torch.allclose(weights[0], other, atol=1e-9) for other in weights[1:])


def test_halting_is_explored_as_published():
    """With a probability a row must do 2 to the limit of segments, each number as likely."""
    config = small_config(halt_max_steps=4, halt_exploration=0.9)
    n, generator = 60_000, torch.Generator().manual_seed(0)
    for done, share in ((1, 0.1), (2, 0.1 + 0.9 / 3), (3, 0.1 + 0.9 * 2 / 3), (4, 1.0)):
        carry = Carry(torch.zeros(n, 1), torch.zeros(n, 1), torch.full((n,), done), torch.zeros(n, dtype=torch.bool))
        halted = decide_halts(carry, torch.ones(n), config, generator).halted.double().mean().item()
        assert halted == pytest.approx(share, abs=0.01)
    alone = decide_halts(carry.rows(slice(2)), torch.ones(2), small_config(halt_max_steps=1), generator)
    assert alone.halted.all()


def test_it_learns_and_reports(dataset):
    seen, evaluated = [], []
    config = dataclasses.replace(SIX, steps=60, batch_tokens=300, log_every=20, evaluate_every=40, lr=1e-2)
    trainer = Trainer(
        model_for(dataset),
        ArcSource(dataset),
        config,
        on_metrics=seen.append,
        evaluate=lambda model: evaluated.append(model) or {"watched": 1.0},
    )
    result = trainer.run()
    assert [m["step"] for m in seen] == [20, 40, 60] and evaluated == [trainer.averaged] * 2
    assert seen[-1]["cell_loss"] < 0.7 * seen[0]["cell_loss"] and result["watched"] == 1.0
    assert all(0 <= m["exact"] <= 1 and 1 <= m["segments"] <= 3 and m["segments_per_second"] > 0 for m in seen)


def test_every_parameter_learns_from_the_first_step(dataset):
    for fields in ({}, {"mixer": "mlp", "rope": "none"}, {"H_cycles": 3, "L_cycles": 2, "rope": "1d"}):
        trainer = Trainer(model_for(dataset, canvas_cells=9, **fields), ArcSource(dataset), SIX)
        trainer._one_step()  # checks it, or raises
    half = dataclasses.replace(SIX, autocast=True)  # weights cast where no gradient is kept must not be used again
    Trainer(model_for(dataset, H_cycles=3, L_cycles=2, rope="1d"), ArcSource(dataset), half)._one_step()
    model = small_model()
    with pytest.raises(RuntimeError, match=r"embed\.weight is none, .*halt_head\.bias is none"):
        check_gradients(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    check_gradients(model)
    model.head.weight.grad[0, 0] = math.nan
    model.embed.weight.grad.zero_()
    with pytest.raises(RuntimeError, match=r"embed\.weight is zero, head\.weight is not finite"):
        check_gradients(model)


def test_the_rate_warms_up_and_is_a_cosine():
    config = TrainConfig(steps=104, warmup_steps=4, min_lr_ratio=0.1)
    assert [config.rate(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    after = lambda step: config.rate(step, warmed=4 / 104)  # noqa: E731
    assert after(4) == pytest.approx(1.0), "the cosine begins behind the warm-up"
    assert after(54) == pytest.approx(0.55) and after(104) == pytest.approx(0.1) == after(120)
    assert after(29) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5)))
    timed = TrainConfig(steps=None, seconds=10.0, warmup_steps=0)
    assert timed.rate(7, 5.0) == pytest.approx(0.5) and timed.rate(7, 12.0) == 0
    assert dataclasses.replace(config, min_lr_ratio=1.0).rate(99) == 1.0  # the published one


def test_checkpoints_are_kept_by_their_step(dataset, tmp_path):
    source = ArcSource(dataset)
    Trainer(model_for(dataset), source, dataclasses.replace(SIX, keep_every=2), tmp_path / "checkpoint.pt").run()
    kept = {f"checkpoint_step_{n}.pt" for n in (2, 4, 6)}
    assert {path.name for path in tmp_path.glob("checkpoint*")} == {"checkpoint.pt", *kept}
    opened = open_trm(tmp_path / "checkpoint_step_4.pt", dataset)
    assert (opened.name, opened.layout) == ("checkpoint_step_4", "tight")
    again = Trainer(model_for(dataset), source, SIX, tmp_path / "checkpoint_step_2.pt")  # one can be gone on from
    assert again.step == 2


def test_epochs_are_positions_of_all_pairs(dataset):
    source = ArcSource(dataset)
    positions = source.tokens + 3 * source.pairs
    assert source.steps_of(10, prefix_len=3, batch_tokens=positions) == 10
    assert source.steps_of(0.1, prefix_len=3, batch_tokens=10**6) == 1


def test_a_run_in_seconds_stops_and_counts_its_earlier_parts(dataset, tmp_path):
    config = dataclasses.replace(SIX, steps=None, seconds=0.3)
    path = tmp_path / "c.pt"
    result = Trainer(model_for(dataset), ArcSource(dataset), config, path).run()
    assert result["step"] > 0 and result["seconds"] >= 0.3
    again = Trainer(model_for(dataset), ArcSource(dataset), config, path).run()  # its time is over
    assert again == result and "cell_loss" in again


@pytest.mark.parametrize(
    ("train", "fields", "message"),
    [
        ({"lr_matrices": 0.5}, {}, "was made with lr_matrices = 0.02, this run has 0.5"),
        ({"seed": 3}, {}, "was made with seed = 0, this run has 3"),
        ({}, {"L_cycles": 5}, "was made with L_cycles = 2, this run has 5"),
    ],
)
def test_a_changed_setting_is_refused_by_name(dataset, tmp_path, train, fields, message):
    one = dataclasses.replace(SIX, steps=1)
    Trainer(model_for(dataset), ArcSource(dataset), one, tmp_path / "c.pt").run()
    with pytest.raises(CheckpointError, match=message):
        Trainer(model_for(dataset, **fields), ArcSource(dataset), dataclasses.replace(one, **train), tmp_path / "c.pt")
    assert not RESUMABLE & train.keys()
    other = dataclasses.replace(dataset, options=dataclasses.replace(dataset.options, num_aug=9))
    with pytest.raises(CheckpointError, match="was made with num_aug = 3, this run has 9"):
        Trainer(model_for(dataset), ArcSource(other), one, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="was made with layout = tight, this run has buckets"):
        Trainer(model_for(dataset), ArcSource(dataset, "buckets"), one, tmp_path / "c.pt")
    longer = Trainer(model_for(dataset), ArcSource(dataset), dataclasses.replace(one, steps=2), tmp_path / "c.pt")
    assert longer.step == 1 and longer.run()["step"] == 2


def test_a_checkpoint_that_is_none_is_one_line(dataset, tmp_path, capsys):
    path = tmp_path / "c.pt"
    Trainer(model_for(dataset), ArcSource(dataset), dataclasses.replace(SIX, steps=1), path).run()
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        assert Trainer(model_for(dataset), ArcSource(dataset), SIX, path).step == 0
        assert "kept as c.pt.damaged" in capsys.readouterr().out
    with sealing(path) as draft:
        draft.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"c\.pt: not a whole checkpoint .*; delete it to start anew") as error:
        Trainer(model_for(dataset), ArcSource(dataset), SIX, path)
    assert "\n" not in str(error.value)
    with sealing(path) as draft:
        torch.save({"model": {}}, draft)
    with pytest.raises(
        CheckpointError, match="it lacks config, ema, model_config, optimizers, options, ranks, scaler, step"
    ):
        Trainer(model_for(dataset), ArcSource(dataset), SIX, path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": None}, "steps and seconds are both None"),
        ({"steps": 0}, "steps = 0: must be > 0"),
        ({"seconds": -1.0}, "seconds = -1.0: must be > 0"),
        ({"batch_tokens": 0}, "batch_tokens = 0: must be > 0"),
        ({"optimizer": "sgd"}, "optimizer = 'sgd': must be one of muon, adamw, adam_atan2"),
    ],
)
def test_a_run_needs_a_length_and_a_known_optimizer(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)

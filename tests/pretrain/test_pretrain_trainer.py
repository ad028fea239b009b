"""Pretraining: it learns, and a run that was killed ends with the same bits as one that was not."""

import dataclasses
import os
import socket

import pytest
import torch

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.pretrain.held_out import held_out_score
from arc_helpers.pretrain.mixture import Mixture, task_sampler
from arc_helpers.pretrain.processes import Processes
from arc_helpers.pretrain.settings import RESUMABLE, PretrainConfig
from arc_helpers.pretrain.trainer import Pretrainer, build_optimizers

SIX = PretrainConfig(
    steps=6, decay_fraction=0.5, warmup_steps=2, batch_tokens=256, log_every=1, evaluate_every=100, checkpoint_every=3
)


@pytest.fixture
def mixture(prompt_form) -> Mixture:
    rows = [[[i, (i + 3) % 10]] for i in range(10)]
    pairs = [Pair(row, [[row[0][1], row[0][0]]]) for row in rows]
    return Mixture({"swap": (1.0, task_sampler({"a": pairs[:5], "b": pairs[5:]}))}, prompt_form, max_len=64)


def tiny_model() -> GridLMForCausalLM:
    torch.manual_seed(0)
    return GridLMForCausalLM(GridLMConfig.preset("tiny"))


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
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_killed_and_resumed_equals_never_killed(mixture, tmp_path, optimizer):
    config = dataclasses.replace(SIX, optimizer=optimizer)
    straight = Pretrainer(tiny_model(), mixture, config, tmp_path / "straight.pt")
    straight.run()

    path = tmp_path / "killed.pt"
    with pytest.raises(Killed):  # behind the checkpoint of step 3, before that of step 6
        Pretrainer(tiny_model(), mixture, config, path, on_metrics=kill_at(5)).run()
    other_weights = GridLMForCausalLM(GridLMConfig.preset("tiny"))
    resumed = Pretrainer(other_weights, mixture, config, path)
    assert resumed.step == 3
    result = resumed.run()

    assert result["step"] == 6 and result["tokens"] == straight.tokens
    one, other = (torch.load(p, weights_only=True) for p in (tmp_path / "straight.pt", path))
    for state in (one, other):
        del state["counters"][2]  # seconds
        state["history"] = [(m["step"], m["tokens"], m["loss"], m["lr_factor"]) for m in state["history"]]
    assert same(one, other)
    assert not same(one["model"], tiny_model().state_dict())
    assert not same(one["ema"], one["model"])


def test_a_longer_run_may_continue_a_shorter_one(mixture, tmp_path):
    Pretrainer(tiny_model(), mixture, SIX, tmp_path / "c.pt").run()
    longer = Pretrainer(tiny_model(), mixture, dataclasses.replace(SIX, steps=8, log_every=2), tmp_path / "c.pt")
    assert longer.step == 6
    assert longer.run()["step"] == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr_muon", 0.5), ("batch_tokens", 512), ("ema_decay", 0.5), ("optimizer", "adamw"), ("seed", 3)],
)
def test_a_changed_setting_is_refused_by_name(mixture, tmp_path, name, value):
    one_step = dataclasses.replace(SIX, steps=1)
    Pretrainer(tiny_model(), mixture, one_step, tmp_path / "c.pt").run()
    assert name not in RESUMABLE
    with pytest.raises(ValueError, match=f"was made with {name} = .*, this run has {value}"):
        Pretrainer(tiny_model(), mixture, dataclasses.replace(one_step, **{name: value}), tmp_path / "c.pt")


def test_it_learns(mixture):
    config = dataclasses.replace(SIX, batch_tokens=1024, steps=40, warmup_steps=5)
    losses = []
    trainer = Pretrainer(tiny_model(), mixture, config, on_metrics=lambda m: losses.append(m["loss"]))
    trainer.run()
    assert losses[0] == pytest.approx(torch.tensor(16.0).log().item(), abs=0.2)  # knows nothing: log of the vocabulary
    assert losses[-1] < 0.5 * losses[0]


def test_the_rate_warms_up_stays_and_decays():
    config = PretrainConfig(warmup_steps=4, steps=20, decay_fraction=0.25)
    factors = [config.rate(step) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(factors[3:16]) == {1.0}
    assert factors[16:] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert config.rate(20) == 0.0 == config.rate(25)
    assert dataclasses.replace(config, decay_fraction=0.0).rate(19) == 1.0


def test_the_rate_of_a_run_in_seconds():
    config = PretrainConfig(steps=None, seconds=10.0, warmup_steps=0, decay_fraction=0.5)
    assert [config.rate(7, seconds) for seconds in (0.0, 5.0, 7.5, 10.0, 11.0)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    both = dataclasses.replace(config, steps=100)  # whichever comes first
    assert both.progress(90, 1.0) == 0.9 and both.progress(1, 9.0) == 0.9


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"steps": None}, "steps and seconds are both None"),
        ({"steps": 0}, "steps = 0: must be"),
        ({"seconds": 0.0}, "seconds = 0.0: must be"),
        ({"micro_tokens": 0}, "micro_tokens = 0: must be"),
        ({"optimizer": "sgd"}, "optimizer = 'sgd': must be one of muon, normuon, adamw"),
    ],
)
def test_a_run_needs_a_length_and_a_known_optimizer(knobs, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**knobs)


def test_the_rate_reaches_every_optimizer(mixture):
    trainer = Pretrainer(tiny_model(), mixture, dataclasses.replace(SIX, steps=4, warmup_steps=0))
    trainer.run()
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    assert rates == [0.5 * SIX.lr_muon, 0.5 * SIX.lr_adamw]


def test_every_parameter_has_one_optimizer():
    model = tiny_model()
    muon, adamw = build_optimizers(model, SIX)
    muon_ids, adamw_ids = ({id(p) for g in o.param_groups for p in g["params"]} for o in (muon, adamw))
    assert not muon_ids & adamw_ids
    assert muon_ids | adamw_ids == {id(p) for p in model.parameters()}
    assert id(model.lm_head.weight) in adamw_ids and id(model.model.embed_tokens.weight) in adamw_ids


def test_a_run_in_seconds_stops_and_counts_its_earlier_parts(mixture, tmp_path):
    path = tmp_path / "c.pt"
    config = dataclasses.replace(SIX, steps=None, seconds=0.5)
    result = Pretrainer(tiny_model(), mixture, config, path).run()
    assert result["step"] > 0 and result["seconds"] >= 0.5
    resumed = Pretrainer(tiny_model(), mixture, config, path)
    assert resumed.seconds == result["seconds"]
    assert resumed.run()["step"] == result["step"]  # its time is over


def test_metrics_and_evaluation_come_when_they_should(mixture):
    seen, evaluated = [], []
    config = dataclasses.replace(SIX, steps=5, log_every=2, evaluate_every=4)
    trainer = Pretrainer(
        tiny_model(),
        mixture,
        config,
        on_metrics=seen.append,
        evaluate=lambda model: evaluated.append(model) or {"held_out_loss": 1.0},
    )
    trainer.run()
    assert [m["step"] for m in seen] == [2, 4, 5]
    assert evaluated == [trainer.averaged] * 2  # at step 4 and at the end, with the averaged weights
    assert "held_out_loss" not in seen[0] and seen[1]["held_out_loss"] == 1.0
    assert all(m["tokens"] > 0 and m["loss"] > 0 and 0 <= m["lr_factor"] <= 1 for m in seen)


def test_held_out_score_counts_exact_answers(prompt_form):
    """A model that always says "8, row end, end" is right where that is the answer."""
    model = tiny_model().eval()
    follows = {
        prompt_form.ids["O"]: 8,
        8: prompt_form.row_end,
        7: prompt_form.row_end,
        prompt_form.row_end: prompt_form.end,
    }

    class Always(torch.nn.Module):
        """Stands in for the decoder: a one-hot of the next token by the last."""

        def forward(self, ids, *others):
            one_hot = torch.zeros(*ids.shape, 64)
            for token, following in follows.items():
                one_hot[..., following] += (ids == token).float()
            return type("Out", (), {"last_hidden_state": one_hot, "past_key_values": None})

    model.model = Always()
    with torch.no_grad():
        model.lm_head.weight.copy_(20 * torch.eye(16, 64))
    demo = (Pair([[1]], [[2]]),)
    right, wrong = (Task(name, demo, (Pair([[3]], [[c]]),)) for name, c in (("right", 8), ("wrong", 7)))
    too_long = Task("long", demo, (Pair([[3] * 30] * 30, [[8]]),))
    score = held_out_score(model.train(), [right, wrong, too_long], prompt_form, max_len=40)
    assert (score["held_out_exact"], score["held_out_tasks"]) == (1, 2)
    assert score["held_out_loss"] == pytest.approx(20 / 3 / 2, rel=0.01)  # one token of the wrong answer costs 20 nats
    assert model.training
    with pytest.raises(ValueError, match="none of 1 tasks fits 40 tokens"):
        held_out_score(model, [too_long], prompt_form, max_len=40)


def test_held_out_score_wants_answers(prompt_form):
    unlabelled = Task("t", (Pair([[1]], [[2]]),), (Pair([[3]]),))
    with pytest.raises(ValueError, match="scoring needs every test output"):
        held_out_score(tiny_model(), [unlabelled], prompt_form, max_len=40)


# ------------------------------------------------------------------------------ parts of a step, processes, compiling


def trained(mixture, config, **options) -> Pretrainer:
    trainer = Pretrainer(tiny_model(), mixture, config, **options)
    trainer.run()
    return trainer


def moved_apart(one: Pretrainer, other: Pretrainer) -> float:
    """How far two runs ended from each other, as a share of how far they went."""
    ends = [torch.cat([p.detach().flatten() for p in t.model.parameters()]) for t in (one, other)]
    start = torch.cat([p.detach().flatten() for p in tiny_model().parameters()])
    return ((ends[0] - ends[1]).norm() / (ends[0] - start).norm()).item()


# AdamW: Muon orthogonalises in bfloat16, which makes 1 % of what is rounding here
ADAMW = dataclasses.replace(SIX, optimizer="adamw", batch_tokens=512)


@pytest.mark.parametrize("pack", [False, True])
def test_parts_of_a_step_add_up_to_the_step(mixture, pack):
    whole = trained(mixture, dataclasses.replace(ADAMW, pack=pack))
    for micro_tokens in (1, 200):  # a row at a time, and some rows
        parts = trained(mixture, dataclasses.replace(ADAMW, pack=pack, micro_tokens=micro_tokens))
        assert moved_apart(whole, parts) < 1e-3
        assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-5)
        assert parts.tokens == whole.tokens


def test_one_part_more_would_be_noticed(mixture):
    """The control of the test above: another batch moves the weights elsewhere."""
    other = dataclasses.replace(mixture, seed=1)
    assert moved_apart(trained(mixture, ADAMW), trained(other, ADAMW)) > 0.1


def train_as_one_of_two(rank: int, mixture, config, folder) -> None:
    """What torchrun starts: the group is found through the environment."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    torch.set_num_threads(1)
    processes = Processes.from_environment()
    seen = []
    trainer = trained(mixture, config, checkpoint=folder / "c.pt", on_metrics=seen.append, processes=processes)
    torch.save([trainer.model.state_dict(), trainer.ema.state_dict(), len(seen)], folder / f"{rank}.pt")
    processes.close()


@pytest.mark.parametrize("pack", [False, True])
def test_two_processes_equal_one_with_the_whole_batch(mixture, tmp_path, pack):
    config = dataclasses.replace(ADAMW, steps=4, pack=pack, seconds=1000.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    context = torch.multiprocessing.get_context("fork")  # the mixture's samplers are closures
    started = [context.Process(target=train_as_one_of_two, args=(r, mixture, config, tmp_path)) for r in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same(first[:2], second[:2])
    assert (first[2], second[2]) == (4, 0)  # one of them reports
    alone, together = trained(mixture, config), Pretrainer(tiny_model(), mixture, config, tmp_path / "c.pt")
    assert together.step == 4 and together.tokens == alone.tokens
    assert moved_apart(alone, together) < 1e-3


def test_processes_are_those_of_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes.from_environment()
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    loss = torch.ones(())
    alone.sum_([loss])
    assert loss == 1 and alone.from_first(2.5, torch.device("cpu")) == 2.5


def test_what_cannot_be_compiled_runs_all_the_same(mixture, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler found\nand a page of more")

    monkeypatch.setattr(torch, "compile", lambda module, **_: broken)
    trainer = trained(mixture, dataclasses.replace(SIX, compile=True))
    assert trainer.notes == ["not compiled: no compiler found"]
    plain = trained(mixture, SIX)
    assert same(trainer.model.state_dict(), plain.model.state_dict())


def test_a_compiled_decoder_is_the_one_that_trains(mixture, monkeypatch):
    """With a back end that runs what dynamo traced as it is: the real one takes half a minute."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **o: compile_(module, backend="eager", **o))
    packed = dataclasses.replace(ADAMW, pack=True)
    trainer = trained(mixture, dataclasses.replace(packed, compile=True))
    assert "compiled" in trainer.notes
    assert moved_apart(trainer, trained(mixture, packed)) < 1e-3


def test_packing_says_which_kernel_keeps_documents_apart(mixture):
    trainer = Pretrainer(tiny_model(), mixture, dataclasses.replace(SIX, pack=True))
    assert trainer.kernel == "mask" and trainer.notes[0].startswith("packed: mask attention; varlen: ")


# ------------------------------------------------------------------------------------------ checkpoints of other runs


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("curriculum", {"max_len": 128}),
        ("enlarge_share", {"enlarge_share": 0.5}),
        ("pair_share", {"pair_share": 0.5}),
        ("seed", {"seed": 1}),
    ],
)
def test_a_checkpoint_of_another_mixture_is_refused_by_name(mixture, tmp_path, name, changes):
    Pretrainer(tiny_model(), mixture, dataclasses.replace(SIX, steps=1), tmp_path / "c.pt").run()
    with pytest.raises(ValueError, match=f"was made with {name} = .*, this run has .*another folder") as error:
        Pretrainer(tiny_model(), dataclasses.replace(mixture, **changes), SIX, tmp_path / "c.pt")
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_other_shares_is_refused_by_source(mixture, tmp_path):
    two = dataclasses.replace(mixture, sources={**mixture.sources, "more": mixture.sources["swap"]})
    Pretrainer(tiny_model(), two, dataclasses.replace(SIX, steps=1), tmp_path / "c.pt").run()
    other = dataclasses.replace(two, sources={**two.sources, "more": (3.0, two.sources["more"][1])})
    with pytest.raises(ValueError, match=r"was made with share of more = 1\.0, this run has 3\.0"):
        Pretrainer(tiny_model(), other, SIX, tmp_path / "c.pt")


def test_a_damaged_checkpoint_is_kept_aside_and_training_starts_anew(mixture, tmp_path, capsys):
    path = tmp_path / "c.pt"
    with pytest.raises(Killed):
        Pretrainer(tiny_model(), mixture, SIX, path, on_metrics=kill_at(4)).run()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit of a weight: torch would load it
    path.write_bytes(content)
    trainer = Pretrainer(tiny_model(), mixture, SIX, path)
    assert trainer.step == 0 and (tmp_path / "c.pt.damaged").read_bytes() == content
    assert "its checksum differs" in capsys.readouterr().out
    trainer.run()
    assert same(trainer.model.state_dict(), trained(mixture, SIX).model.state_dict())


def test_the_curve_of_a_resumed_run_is_whole(mixture, tmp_path):
    seen = []
    Pretrainer(tiny_model(), mixture, dataclasses.replace(SIX, steps=3), tmp_path / "c.pt").run()
    trainer = Pretrainer(tiny_model(), mixture, SIX, tmp_path / "c.pt", on_metrics=seen.append)
    trainer.run()
    assert [m["step"] for m in trainer.history] == [1, 2, 3, 4, 5, 6]
    assert [m["step"] for m in seen] == [4, 5, 6]


def test_a_call_may_stop_before_the_run_is_over(mixture, tmp_path):
    """A machine lent for minutes: the schedule is that of the whole run."""
    config = dataclasses.replace(SIX, steps=200, log_every=1000, checkpoint_every=1000)
    first = Pretrainer(tiny_model(), mixture, config, tmp_path / "c.pt")
    stopped = first.run(stop_after=0.1)
    assert 0 < stopped["step"] < 200 and not first.over
    second = Pretrainer(tiny_model(), mixture, config, tmp_path / "c.pt")
    assert second.step == stopped["step"]
    assert second.config.rate(second.step) == config.rate(stopped["step"])


def test_tokens_are_counted_without_padding(prompt_form):
    pools = {str(n): [Pair([[i] * n], [[i]]) for i in range(6)] for n in (1, 9)}
    mixture = Mixture({"uneven": (1.0, task_sampler(pools))}, prompt_form, max_len=200)
    trainer = trained(mixture, dataclasses.replace(SIX, steps=1, batch_tokens=4096))
    batch = next(mixture.batches(4096))
    assert trainer.tokens == sum(batch.lengths) == (batch.input_ids != prompt_form.pad).sum() < batch.input_ids.size
    assert trainer.flops > 6 * trainer.matrices * trainer.tokens


def test_the_engine_refuses_packed_rows():
    with pytest.raises(ValueError, match="engine: it has no mask for packed documents"):
        PretrainConfig(engine=True, pack=True)


def test_setting_up_is_time_that_the_training_has_not(mixture, monkeypatch):
    """Compiling and the like take seconds of the same budget; what lies between setting up and training does not."""
    now = [0.0]

    def taking(seconds, function):
        return lambda *given: now.__setitem__(0, now[0] + seconds) or function(*given)

    monkeypatch.setattr("arc_helpers.pretrain.trainer.build_optimizers", taking(6, build_optimizers))
    monkeypatch.setattr(Pretrainer, "_one_step", taking(1, Pretrainer._one_step))
    config = dataclasses.replace(SIX, steps=None, seconds=10.0, warmup_steps=0)
    trainer = Pretrainer(tiny_model(), mixture, config, clock=lambda: now[0])
    now[0] += 1000  # somebody reads what the notebook says
    found = trainer.run()
    assert found["step"] == 4 and found["seconds"] == 10

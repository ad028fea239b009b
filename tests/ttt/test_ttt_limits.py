"""The ladder: what a group does where its memory is not enough, one rung after another."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from simulated_cuda import simulated_cuda
from torch import nn

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.memory import is_out_of_memory
from arc_helpers.ttt import answer, group, limits, trainer
from arc_helpers.ttt.group import shallower, solve_group
from arc_helpers.ttt.limits import Limits, fitting, footprint_of, way_to_train
from arc_helpers.ttt.meter import LiveMemory
from arc_helpers.ttt.settings import TTTSettings

SETTINGS = TTTSettings(
    k=4, steps=3, num_pseudo=2, r=8, alpha=8.0, lr=1e-2, views=2, mode="full", activation_checkpointing="auto"
)
MB = 1e6


def square(name: str, side: int) -> Task:
    """Grids of a side, turned upside down."""
    rng = np.random.default_rng(side)
    grids = [rng.integers(1, 9, (side, side)).tolist() for _ in range(4)]
    return Task(name, tuple(Pair(g, g[::-1]) for g in grids[:3]), (Pair(grids[3]),))


FOUR = [square(f"task{side}", side) for side in (3, 4, 5, 6)]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Hooks, and no turns for the sake of a CPU's caches."""
    like_a_gpu(monkeypatch)


def like_a_gpu(patch: pytest.MonkeyPatch) -> None:
    for module in (limits, trainer):
        patch.setattr(module, "CPU_TOKENS", 10**6)
    patch.setattr(group, "engine_for", lambda model, tokens: None)


def solve(lm, budget: float, monkeypatch, known: bool, settings=SETTINGS, learned: Limits | None = None):
    """Results of the four tasks in `budget` bytes, steps of each task, and the peak. known: what is free is told
    before; else it has to be found out."""
    live, steps = LiveMemory(budget), {task.id: 0 for task in FOUR}
    monkeypatch.setattr(limits, "free_bytes", lambda device: budget - live.now if known else 10**15)

    def count(losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            steps[name] += bool(np.isfinite(loss))

    with live:
        results = solve_group(lm, FOUR, settings, count, learned)
    return results, steps, live.peak


def answers(result) -> list:
    return [grid.tolist() for attempts in result.attempts for grid in attempts]


LESS_TO_READ = ("sequences of at most", "is asked in", "adapters in the last", "untrained base")

#: the budget at which a rung is needed, and what is said then
RUNGS = [
    (14, "activation checkpointing"),
    (8, "at most 524 tokens at once"),
    (8, "prompt tokens are read at once"),
    (4.4, "2 adapters are trained side by side"),
    (1.9, "one adapter is trained at a time"),
    (1.9, "trained on sequences of at most 131 tokens from step 0 on"),
    (1.1, "is asked in at most"),
    (1.1, "adapters in the last 1 of 3 layers"),
    (1.1, "untrained base"),
]


@pytest.fixture(scope="module")
def roomy(lms):
    with pytest.MonkeyPatch.context() as patch:
        like_a_gpu(patch)
        return solve(lms["gridlm"], float("inf"), patch, known=False)


@pytest.mark.parametrize("budget", sorted({budget for budget, _ in RUNGS}, reverse=True))
def test_each_rung_is_taken_where_it_is_needed(gridlm, roomy, monkeypatch, as_on_a_gpu, budget):
    expected, _, peak = roomy
    assert budget * MB < peak
    results, steps, _ = solve(gridlm, budget * MB, monkeypatch, known=False)
    said = "\n".join(note for result in results for note in result.notes)
    for at, rung in RUNGS:
        assert rung in said or at != budget, f"{rung}: not at {budget} MB:\n{said}"
        assert rung not in said or at >= budget, f"{rung}: already at {budget} MB"
    for one, other in zip(results, expected, strict=True):
        assert not one.error and len(one.attempts) == 1
        mine = " ".join(one.notes)
        if not any(word in mine for word in LESS_TO_READ):
            assert answers(one) == answers(other)
            np.testing.assert_allclose(one.losses, other.losses, atol=1e-4)
        if "untrained base" not in mine:
            assert steps[one.task_id] == SETTINGS.steps, "a step was taken twice, or not at all"


@pytest.mark.parametrize("budget", [20, 6])
def test_what_is_known_before_costs_no_try(gridlm, roomy, monkeypatch, as_on_a_gpu, budget):
    """The forecast chooses a way that fits: nothing runs out."""
    results, steps, peak = solve(gridlm, budget * MB, monkeypatch, known=True)
    assert peak <= budget * MB and not any("out of memory" in note for r in results for note in r.notes)
    assert [answers(r) for r in results] == [answers(r) for r in roomy[0]]
    assert set(steps.values()) == {SETTINGS.steps}


def test_on_a_simulated_card(gridlm, monkeypatch):
    """Device storages counted by the simulated GPU: known before, nothing runs out; found out, it is mended."""
    quick = replace(SETTINGS, steps=1, views=1)
    with simulated_cuda((7, 5)) as machine:
        model = type(gridlm.model)(gridlm.model.config).eval().requires_grad_(False)
        model.load_state_dict(gridlm.model.state_dict())
        lm = replace(gridlm, model=model.to("cuda"), device=torch.device("cuda:0"))
        card, found = machine.cards[0], {}
        for name, room, known in (("all", 1000, True), ("forecast", 8, True), ("found out", 6, False)):
            gc.collect()
            card.total = card.allocated + room * MB
            with monkeypatch.context() as patch:
                if not known:
                    patch.setattr(limits, "free_bytes", lambda device: 10**15)
                before = card.ooms
                found[name] = solve_group(lm, FOUR, quick), card.ooms - before
    everything = [answers(result) for result in found["all"][0]]
    for name, (results, ooms) in found.items():
        assert [answers(result) for result in results] == everything, name
        assert bool(ooms) == (name == "found out")
    assert any("out of memory: " in note for result in found["found out"][0] for note in result.notes)


def test_what_ran_out_is_remembered(gridlm, monkeypatch, as_on_a_gpu):
    learned, quick = Limits(), replace(SETTINGS, steps=1, views=1, select="votes")
    first, _, _ = solve(gridlm, 4.4 * MB, monkeypatch, known=False, settings=quick, learned=learned)
    assert (learned.activation_checkpointing, learned.slots, learned.tokens_at_once) == ("on", 2, 262)
    again, _, _ = solve(gridlm, 4.4 * MB, monkeypatch, known=False, settings=quick, learned=learned)
    assert any("side by side" in note for r in first for note in r.notes)
    assert not any("side by side" in note for r in again for note in r.notes), "tried again"
    assert [answers(r) for r in first] == [answers(r) for r in again]


def test_checkpointing_by_hand(gridlm, tasks, monkeypatch):
    for asked, expected in (("on", {True}), ("off", {False})):
        seen = set()

        class Spy(group.MultiLoraTrainer):
            def _step(self, running):
                seen.add(self.model.activation_checkpointing)  # noqa: B023
                return super()._step(running)

        monkeypatch.setattr(group, "MultiLoraTrainer", Spy)
        solve_group(gridlm, tasks, replace(SETTINGS, steps=1, activation_checkpointing=asked))
        assert seen == expected


@pytest.mark.parametrize(("mode", "budget"), [("head", 0.8), ("top_m", 1.2)])
def test_states_that_do_not_fit_are_those_of_shorter_sequences(gridlm, monkeypatch, mode, budget):
    """Computing what the frozen layers give runs out of memory before any training does."""
    live, losses = LiveMemory(budget * MB), []
    monkeypatch.setattr(limits, "free_bytes", lambda device: 10**15)
    with live:
        (result,) = solve_group(gridlm, FOUR[-1:], replace(SETTINGS, mode=mode, views=1, select="votes"), losses.append)
    assert result.attempts and not result.error and len(losses) == SETTINGS.steps
    assert any(note.startswith("out of memory: trained on sequences of at most ") for note in result.notes)


def test_a_trained_adapter_answers_after_the_first_try_failed(gridlm, tasks, monkeypatch):
    """Running out while answering costs rows, not the training."""
    calls = []

    def failing(strategy, model, prompts, *args, **options):
        calls.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(strategy, model, prompts, *args, **options)

    decode, trained = answer.answers_with_lora, []
    plain = solve_group(gridlm, tasks, SETTINGS)
    monkeypatch.setattr(answer, "answers_with_lora", failing)
    split = solve_group(gridlm, tasks, SETTINGS, trained.append)
    assert len(trained) == SETTINGS.steps and calls[:3] == [8, 4, 2]
    assert [answers(r) for r in split] == [answers(r) for r in plain]


def test_where_a_search_does_not_fit_the_greedy_answer_does(gridlm, tasks, monkeypatch):
    def failing(strategy, *args, **options):
        if strategy != "greedy":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(strategy, *args, **options)

    decode, untrained = answer.answers_with_lora, replace(SETTINGS, steps=0, select="votes")
    plain = solve_group(gridlm, tasks, untrained)
    monkeypatch.setattr(answer, "answers_with_lora", failing)
    found = solve_group(gridlm, tasks, replace(untrained, strategy="dfs"))
    assert [answers(r) for r in found] == [answers(r) for r in plain]
    assert all("out of memory: the greedy answer alone, where a search did not fit" in r.notes for r in found)


def test_one_training_after_another_goes_down_to_the_base(gridlm):
    settings, seen = replace(SETTINGS, mode="full"), []
    while settings.steps:
        seen.append((settings.mode, settings.top_m))
        settings, _ = shallower(gridlm, settings)
    assert seen == [("full", None), ("top_m", 1)] and settings.mode == "head" and settings.steps == 0


def test_other_errors_are_not_taken_for_it():
    assert fitting(lambda: 3) == 3
    assert fitting(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))) is None
    with pytest.raises(RuntimeError, match="shapes"):
        fitting(lambda: (_ for _ in ()).throw(RuntimeError("shapes do not match")))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))


def test_a_base_that_tells_no_widths_is_tried_as_asked(gridlm, monkeypatch):
    monkeypatch.setattr(limits.Base, "of", lambda config, name: {}["hidden_size"])
    assert footprint_of(gridlm, SETTINGS) is None
    assert way_to_train(gridlm, SETTINGS, 4, 100, Limits()) == (4, False)
    assert way_to_train(gridlm, SETTINGS, 4, 100, Limits("on")) == (4, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_at_once": 0}, "tokens_at_once = 0: must be >= 1"),
        ({"activation_checkpointing": "maybe"}, "activation_checkpointing = 'maybe': must be one of auto, on, off"),
    ],
)
def test_bad_limits_are_one_line(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Limits(**options)


def test_live_memory_counts_what_lives():
    with LiveMemory(1000) as live:
        a = torch.zeros(100)
        b = a.view(10, 10)
        assert live.now == 400
        del a
        assert live.now == 400, "a view holds its storage"
        del b
        assert live.now == 0 and live.peak == 400
        layer = nn.Linear(4, 4, device="meta")
        assert live.now == 80 and bool(torch.zeros(1, device="meta").all()) and layer.in_features == 4
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            torch.zeros(1000)
        assert live.now == 80

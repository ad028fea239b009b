"""The command line of pretraining: the files it leaves, going on, and what it refuses."""

import json

import pytest
from test_pretrain_trainer import SIX, tiny_model

from arc_helpers.arc import Pair, load_tasks
from arc_helpers.lm import load_causal_lm
from arc_helpers.pretrain import base_run, corpus
from arc_helpers.pretrain.base_run import card_of, main, settings_from
from arc_helpers.pretrain.export import LICENCES, model_card
from arc_helpers.pretrain.mixture import Mixture, task_sampler
from arc_helpers.pretrain.trainer import Pretrainer
from arc_helpers.runs import PROFILES, ConfigError, load_profile, read_jsonl


@pytest.fixture
def quick(monkeypatch):
    """Few tasks, and no comparison of all tasks with all: both have tests of their own."""
    tasks = [t for t in load_tasks("arcagi1/training") if max(max(p.input.shape + p.output.shape) for p in t.train) < 6]
    monkeypatch.setattr(corpus, "load_tasks", lambda name: tasks)
    monkeypatch.setattr(corpus, "allowed_for_pretraining", lambda given: (given[:20], ["40853293 left out: why"]))
    monkeypatch.setattr(base_run, "held_out_tasks", lambda side: tasks[20:24])


def words(folder, **changes) -> list[str]:
    knobs = {"max_steps": 12, "deadline_seconds": 0, "batch_tokens": 1024, "max_side": 5, "curriculum": ""}
    knobs |= {"profile": "tiny", "out_dir": folder, "out_model": folder / "model", **changes}
    return [f"{name}={value}" for name, value in knobs.items()]


def test_a_run_leaves_its_files_and_goes_on(quick, tmp_path, capsys):
    main(words(tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["over"], summary["mfu"], summary["held_out_tasks"]) == (12, True, None, 4)
    assert [m["step"] for m in read_jsonl(tmp_path / "metrics.jsonl")] == [10, 12]
    assert "40853293 left out" in capsys.readouterr().out
    assert load_causal_lm(tmp_path / "model").prompt_form.start == 14
    main(words(tmp_path, max_steps=14))
    assert "starts at step 12" in capsys.readouterr().out
    assert [m["step"] for m in read_jsonl(tmp_path / "metrics.jsonl")] == [10, 12, 14]
    main(words(tmp_path, lr_adamw=1e-3, max_steps=3))  # other settings just work: the earlier run is set aside
    assert "lr_adamw was 0.003 and is 0.001 now: the earlier run is in" in capsys.readouterr().out
    aside = tmp_path.with_name(f"{tmp_path.name}.1")
    assert json.loads((aside / "summary.json").read_text())["steps"] == 14 and (aside / "model/config.json").is_file()
    main(words(tmp_path, lr_adamw=1e-3, max_steps=3, fresh="true"))
    assert "starts at step 0" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 3


def test_a_call_that_stops_early_says_so(quick, tmp_path, capsys):
    main(words(tmp_path, max_steps=10_000, stop_after=0.5))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["over"] is False and 0 < summary["steps"] < 10_000
    assert "stopped; the same command goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr_moun", 3, "base_model.lr_moun = 3: unknown; did you mean lr_muon"),
        ("pair_share", 2, "base_model.pair_share = 2: must be <= 1"),
        ("pack", "maybe", "base_model.pack = maybe: must be true or false"),
        ("profile", "huge", "profile = huge: must be "),
    ],
)
def test_a_wrong_knob_is_one_line(tmp_path, name, value, message):
    with pytest.raises(ConfigError, match=message) as error:
        main(words(tmp_path, **{name: value}))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_makes_settings(profile):
    knobs = load_profile(profile).base_model
    settings = settings_from(knobs, seed=5, seconds=7)
    assert (settings.seed, settings.pack, settings.seconds) == (5, knobs.pack, 7)
    assert (settings.workers, settings.evaluate_every) == (0, 100)  # there is no GPU in the tests
    assert not settings.pack or settings.batch_tokens >= knobs.max_len


def test_the_card_says_what_went_in_and_what_came_out():
    card = model_card(
        "arc-x", {"re_arc": 0.25, "procedural": 0.75}, ["a left out: b"], {"minutes": 3}, {"set": (5, 20)}
    )
    assert f"- 25% {LICENCES['re_arc']}" in card and "MIT" in LICENCES["re_arc"]
    assert "- set: 5 of 20 (95 % interval 0.112 to 0.469)" in card  # Wilson's, by hand
    assert "a left out: b." in card and "- minutes: 3" in card and card.startswith("---\nlicense: mit-0")


def test_the_card_of_a_run_has_its_device_flops_and_interval(prompt_form):
    pairs = [Pair([[i]], [[i, i]]) for i in range(6)]
    mixture = Mixture({"procedural": (1.0, task_sampler({"t": pairs}))}, prompt_form, max_len=64, max_side=7)
    trainer = Pretrainer(tiny_model(), mixture, SIX)
    result = trainer.run() | {"mfu": 0.2}
    score = {"held_out_loss": 1.5, "held_out_exact": 0, "held_out_tasks": 47}
    card = card_of("GridLM tiny", trainer, result | score, ["x left out: y"])
    assert LICENCES["procedural"] in card and "x left out: y" in card
    for line in ("- training steps: 6", "- grids up to: 7 × 7", "20.0% of the device's peak", "1 × CPU", "- minutes: "):
        assert line in card
    assert f"- FLOPs: {trainer.flops:.2e} in all" in card
    assert "0 of 47 (95 % interval 0.000 to 0.076)" in card
    assert "peak not known" in card_of("t", trainer, trainer.run() | score, [])

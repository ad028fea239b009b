"""Memory tests: what differs between the conditions, what is counted, what is refused; the grid and the model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from arc_helpers.memory.corpus import by_position, long_windows, prose_texts, text_losses
from arc_helpers.memory.figures import plot_bars, plot_heat_maps
from arc_helpers.memory.grid import Cell, bootstrap, numbers, run_cell, run_grid, table
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.model import SIZES, TTTConfig, TTTForCausalLM, load_model
from arc_helpers.memory.persona import PersonaDialogs, Style, chance
from arc_helpers.memory.probes import (
    CONDITIONS,
    answer_scores,
    check_reach,
    perturbation,
    probe_texts,
)
from arc_helpers.memory.recipe import Recipe, train_memory
from arc_helpers.memory.tokens import DialogTokens

TOKENS = DialogTokens()
DIALOGS = PersonaDialogs(TOKENS, Style(facts=3, words="known"), seed=1)


@pytest.fixture(scope="module")
def talker() -> TTTForCausalLM:
    torch.manual_seed(0)
    return TTTForCausalLM(TTTConfig.preset("tiny", len(TOKENS))).eval()


def test_conditions_differ_in_the_memory_alone():
    texts = {condition: probe_texts(DIALOGS, 3, condition) for condition in CONDITIONS}
    for i in range(3):
        true = texts["true"][i]
        for condition in CONDITIONS:
            other = texts[condition][i]
            assert other.questions == true.questions and other.filler == true.filler
            assert (other.memory == true.memory) == (condition in ("true", "off")), condition
        assert sorted(texts["shuffled"][i].memory.ids) == sorted(true.memory.ids)
        answers = {j for j, a in zip(true.questions.ids, true.questions.answer, strict=True) if a}
        assert answers <= set(true.memory.ids) and not answers <= set(texts["swapped"][i].memory.ids)
        names = {f.name for f in DIALOGS.draw(i).facts}
        irrelevant = TOKENS.text(texts["irrelevant"][i].memory.ids).split()
        assert not names & set(irrelevant)
    with pytest.raises(ValueError, match="condition = half: must be one of true, off, swapped"):
        probe_texts(DIALOGS, 1, "half")


def test_a_gap_within_reach_is_refused(talker):
    assert check_reach(talker, probe_texts(DIALOGS, 2)) > talker.config.reach
    near = PersonaDialogs(TOKENS, Style(facts=3, words="known", gap=1), seed=1)
    with pytest.raises(ValueError, match=r"gap = \d+ tokens: must be more than the reach of attention, 60"):
        check_reach(talker, probe_texts(near, 4))


def test_a_fact_out_of_reach_changes_nothing_with_learning_off(talker):
    text = probe_texts(DIALOGS, 1)[0].encoded
    query = text.first.index(True)
    told = text.ids.index(text.ids[query])
    ids = torch.tensor([text.ids])
    assert perturbation(talker, ids, told, query) == 0.0
    assert perturbation(talker, ids, query - 3, query) > 0.0


def test_scores_are_those_of_the_answers(talker):
    texts = probe_texts(DIALOGS, 3)
    scores = answer_scores(talker, texts, rows=2)
    assert scores.answers.tolist() == [3, 3, 3] and scores.cut == scores.skipped == 0
    for i, text in enumerate(texts):
        nll = read(talker, torch.tensor([text.encoded.ids])).nll[0].numpy()
        answer = np.array(text.encoded.answer[1:])
        assert scores.answer[i] == pytest.approx(nll[answer].mean(), abs=1e-4)
        assert scores.everything[i] == pytest.approx(nll.mean(), abs=1e-4)
    off = answer_scores(talker, texts, learn=False)
    assert not np.allclose(off.answer, scores.answer, atol=1e-3)
    assert np.allclose(off.answer, answer_scores(talker, texts, lr_scale=0.0).answer, atol=1e-5)


def test_a_text_that_was_cut_is_counted(talker):
    texts = probe_texts(DIALOGS, 2)
    longest = max(len(text.questions) for text in texts) + 30
    assert answer_scores(talker, texts, max_len=longest).cut == 2


def test_a_needle_is_in_prose():
    prose = TOKENS.ids(prose_texts()[0][:5000])
    assert len(prose) > 500 and TOKENS.text(prose).startswith('the " assert " statement')
    style = Style(facts=1, words="known", gap=100)
    (text,) = probe_texts(PersonaDialogs(TOKENS, style, 1), 1, prose=prose)
    assert text.gap >= 100 and len(text.filler) == 102 and not any(text.filler.answer)
    with pytest.raises(ValueError, match="prose of 100 tokens: must be longer than the gap of 100"):
        probe_texts(PersonaDialogs(TOKENS, style, 1), 1, prose=prose[:100])


def test_losses_by_position_are_parts_of_the_mean(talker):
    ids = long_windows(TOKENS, [prose_texts()[0][:5000]], 161, 2)
    curve = by_position(text_losses(talker, ids, learn=False, rows=1))
    assert curve.shape == (16,)
    assert curve.mean() == pytest.approx(read(talker, ids, learn=False).nll.mean().item(), abs=1e-4)


def test_a_cell_has_every_control(talker):
    cell = Cell(facts=2, gap=70)
    row = run_cell(cell, {"base": talker, "other": talker}, TOKENS, 3, untrained="other", ceiling="other")
    assert row["delta"] == pytest.approx(row["pre"] - row["post"], abs=1e-5)
    assert row["delta_low"] <= row["delta"] <= row["delta_high"] and row["shortest_gap"] > 60
    assert row["untrained"] == pytest.approx(row["post"], abs=1e-5) and row["ceiling"] == pytest.approx(row["pre"])
    assert np.isnan(row["recovered"])  # that "ceiling" knows nothing
    assert {"swapped", "irrelevant", "shuffled", "memory_score", "recall_low"} <= set(row)
    assert all(isinstance(v, int | float | str) for v in row.values())
    rows = run_grid({"base": talker}, TOKENS, 2, {"facts": [1, 2], "lr": [0.5, 1.0]})
    assert [(r["facts"], r["lr"]) for r in rows] == [(1, 0.5), (1, 1.0), (2, 0.5), (2, 1.0)]
    found = table(rows, ["facts", "lr", "post"])
    assert found._repr_markdown_() == found, "a notebook draws it"
    text = found.splitlines()
    assert text[0] == "| facts | lr | post |" and len(text) == 6


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_bootstrap_holds_the_mean(values):
    low, high = bootstrap(np.array(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9 or len(set(values)) < 4 or len(values) < 8


def test_numbers():
    assert numbers("2,5, 8") == [2, 5, 8] and numbers("0.5", float) == [0.5]
    with pytest.raises(ValueError, match="2;5: must be numbers separated by commas"):
        numbers("2;5")


def test_chance_is_what_a_guesser_pays():
    assert chance(Style(words="known")) == pytest.approx(math.log(24))
    assert 3.0 < chance(Style(words="new")) < math.log(105)


def test_pictures():
    bars = plot_bars(
        {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 0.5, "y": 1.5}}, "nats", levels={"a": 1.2, "b": 1.0}, level_name="guess"
    )
    assert len(bars.axes[0].patches) == 4
    maps = plot_heat_maps({"recall": [[1.0, 0.5]], "loss": [[0.1, 2.0]]}, [3], [60, 600], "facts", "gap")
    assert len(maps.axes) == 2 and maps.to_png().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"recall: shape \(1, 2\), must be \(2, 2\)"):
        plot_heat_maps({"recall": [[1.0, 0.5]]}, [3, 4], [60, 600], "facts", "gap")


def test_the_config():
    config = TTTConfig.preset("nano", 100)
    assert config.layer_types == ["sliding_attention"] * 4 and config.ttt_layers == 1 and config.reach == 60
    full = TTTConfig.preset("nano", 100, full_attention=True)
    assert full.layer_types == ["full_attention"] * 4 and full.reach is None
    for changes, error in (
        ({"sliding_window": 8}, "sliding_window = 8: must be >= ttt_batch = 16"),
        ({"ttt_layers": 5}, "ttt_layers = 5: must be 1 to 4"),
        ({"ttt_batch": 0}, "ttt_batch = 0: must be >= 1"),
        ({"inner_lr": 0.0}, r"inner_lr = 0\.0: must be > 0"),
    ):
        with pytest.raises(ValueError, match=error):
            TTTConfig.preset("nano", 100, **changes)
    with pytest.raises(ValueError, match="model_size = big: must be one of tiny, nano, small, 125m"):
        TTTConfig.preset("big", 100)


@pytest.mark.parametrize("size", SIZES)
def test_parameters_match_the_plain_model(size):
    config = TTTConfig.preset(size, 1000)
    with torch.device("meta"):
        ours = sum(p.numel() for p in TTTForCausalLM(config).parameters())
        shape = {name: getattr(config, name) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
        shape |= {"head_dim": config.head_dim, "num_key_value_heads": config.num_key_value_heads}
        plain = Qwen3Config(
            vocab_size=1000, intermediate_size=SIZES[size]["plain_mlp"], tie_word_embeddings=True, **shape
        )
        theirs = sum(p.numel() for p in Qwen3ForCausalLM(plain).parameters())
    assert abs(ours - theirs) < 0.03 * theirs
    assert size != "nano" or ours < 1e6


def test_a_saved_model_is_a_hugging_face_folder(talker, tmp_path):
    talker.save_pretrained(tmp_path)
    ids = torch.randint(len(TOKENS), (1, 40))
    for loaded in (AutoModelForCausalLM.from_pretrained(tmp_path), load_model(tmp_path)):
        assert isinstance(loaded, TTTForCausalLM)
        assert torch.equal(read(loaded, ids).nll, read(talker, ids).nll)
    with pytest.raises(ValueError, match="is no model folder"):
        load_model(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="is a llama model: must be ttt_e2e"):
        load_model(tmp_path)


def test_the_recipe_trains_and_goes_on(tmp_path):
    recipe = Recipe(model_size="tiny", rows=2, steps=3, style=Style(length=65))
    model, result = train_memory(TOKENS, 0, recipe)
    assert result["step"] == 3 and math.isfinite(result["loss"]) and not model.training
    twin, _ = train_memory(TOKENS, 0, recipe)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True)), "seeded"
    plain, _ = train_memory(TOKENS, 0, recipe, order=0)
    assert torch.equal(plain.model.ttt_layers[0].mlp_ttt.log_lr, train_start(recipe).model.ttt_layers[0].mlp_ttt.log_lr)


def train_start(recipe):
    from arc_helpers.memory.recipe import new_model

    return new_model(TOKENS, 0, recipe)

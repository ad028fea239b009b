"""The knobs of notebook 02 and the settings they become: the same names and choices, and one line where one is bad."""

from typing import get_args

import pytest

from arc_helpers.runs.config import ConfigError, resolve
from arc_helpers.runs.knobs import MultiloraTttKnobs
from arc_helpers.ttt.grouping import STRATEGIES as GROUPINGS
from arc_helpers.ttt.multilora import MODES
from arc_helpers.ttt.search import STRATEGIES
from arc_helpers.ttt.settings import TTTSettings, settings_from


@pytest.mark.parametrize("profile", ["tiny", "laptop", "gpu", "kaggle"])
def test_a_profile_becomes_settings(profile):
    config = resolve("multilora_ttt", profile, {"top_m": 0, "patience": 7, "strategy": "dfs", "grouping": "family"})
    settings = settings_from(config, seed=3)
    assert (settings.top_m, settings.patience, settings.strategy) == (None, 7, "dfs")
    assert settings.grouping == "family" and settings.seed == 3
    shared = set(TTTSettings.__dataclass_fields__) & set(MultiloraTttKnobs.model_fields)
    assert len(shared) > 15 and all(getattr(settings, name) == getattr(config, name) for name in shared)


@pytest.mark.parametrize("knob, choices", [("strategy", STRATEGIES), ("grouping", GROUPINGS), ("mode", MODES)])
def test_the_choices_are_those_of_the_engine(knob, choices):
    assert set(get_args(MultiloraTttKnobs.model_fields[knob].annotation)) == set(choices)


@pytest.mark.parametrize(
    "knob, value, line",
    [
        ("min_prob", 0, "multilora_ttt.min_prob = 0: must be > 0"),
        ("min_prob", 1.0, "multilora_ttt.min_prob = 1.0: must be < 1"),
        ("min_prob", -0.1, "multilora_ttt.min_prob = -0.1: must be > 0"),
        ("workers", 0, "multilora_ttt.workers = 0: must be >= 1"),
        ("top_m", -1, "multilora_ttt.top_m = -1: must be >= 0"),
        ("cache_gib", -1, "multilora_ttt.cache_gib = -1: must be >= 0"),
        ("strategy", "dsf", "multilora_ttt.strategy = dsf: must be 'greedy', 'beam' or 'dfs'"),
        (
            "grouping",
            "colour",
            "multilora_ttt.grouping = colour: must be 'length', 'size', 'palette', 'family' or 'random'",
        ),
    ],
)
def test_a_wrong_value_is_one_line_before_anything_is_loaded(knob, value, line):
    with pytest.raises(ConfigError) as caught:
        resolve("multilora_ttt", "tiny", {knob: value})
    assert str(caught.value) == line

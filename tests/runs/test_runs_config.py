from pathlib import Path

import pytest
import yaml

from arc_helpers.runs import NOTEBOOKS, PROFILES, ConfigError, Profile, env, load_profile, resolve

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", PROFILES)
def test_profile_files_hold_every_knob(name):
    """The file itself, not the loaded model: nothing is filled in."""
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert set(values) == set(Profile.model_fields)
    for notebook in NOTEBOOKS:
        assert list(values[notebook]) == list(Profile.model_fields[notebook].annotation.model_fields)
    assert load_profile(name).name == name


def test_there_is_no_other_profile_file():
    assert sorted(path.stem for path in CONFIGS.glob("*")) == sorted(PROFILES)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_knob_is_described_and_none_has_a_default(notebook):
    for name, field in Profile.model_fields[notebook].annotation.model_fields.items():
        assert field.description, name
        assert field.is_required(), name


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"k": 0}, "multilora_ttt.k = 0: must be >= 1"),
        ({"k": "0"}, "multilora_ttt.k = 0: must be >= 1"),
        ({"steps": -1}, "multilora_ttt.steps = -1: must be >= 0"),
        ({"k": "two"}, "multilora_ttt.k = two: must be an integer"),
        ({"k": 1.5}, "multilora_ttt.k = 1.5: must be an integer"),
        ({"k": [1]}, "multilora_ttt.k = [1]: must be an integer"),
        ({"k": True}, "multilora_ttt.k = True: must be a number, not true or false"),
        ({"max_tasks": False}, "multilora_ttt.max_tasks = False: must be a number, not true or false"),
        ({"lr": 0}, "multilora_ttt.lr = 0: must be > 0"),
        ({"lr": "fast"}, "multilora_ttt.lr = fast: must be a number"),
        ({"lr": float("nan")}, "multilora_ttt.lr = nan: must be a number"),
        ({"lr": "inf"}, "multilora_ttt.lr = inf: must be a number"),
        ({"views": 17}, "multilora_ttt.views = 17: must be <= 16"),
        ({"max_side": -1}, "multilora_ttt.max_side = -1: must be >= 0"),
        ({"deadline_seconds": -0.5}, "multilora_ttt.deadline_seconds = -0.5: must be >= 0"),
        ({"quantization": "8bit"}, "multilora_ttt.quantization = 8bit: must be 'none', '4bit' or '4bit-fp4'"),
        ({"mode": "all"}, "multilora_ttt.mode = all: must be 'head', 'top_m' or 'full'"),
        ({"use_rslora": "maybe"}, "multilora_ttt.use_rslora = maybe: must be true or false"),
        ({"task_ids": 576224}, "multilora_ttt.task_ids = 576224: must be text"),
        ({"model_dir": ""}, "multilora_ttt.model_dir = '': must not be empty"),
        ({"max_len": 15}, "multilora_ttt.max_len = 15: must be >= 16"),
    ],
)
def test_bad_values(knobs, message):
    with pytest.raises(ConfigError) as error:
        resolve("02_multilora_ttt", "tiny", knobs)
    assert str(error.value) == message


@pytest.mark.parametrize("value", [None, 3])
def test_unknown_knob_names_the_nearest(value):
    """None included: a typo in a notebook would otherwise be silent until somebody sets it."""
    with pytest.raises(ConfigError) as error:
        resolve("tokenization_debug", "tiny", {"num_psuedo": value})
    allowed = ", ".join(Profile.model_fields["tokenization_debug"].annotation.model_fields)
    assert str(error.value) == (
        f"tokenization_debug.num_psuedo = {value}: unknown; did you mean num_pseudo? allowed: {allowed}"
    )


def test_unknown_notebook_and_profile():
    with pytest.raises(ConfigError, match=r"^notebook = 09_x: must be one of base_model, "):
        resolve("09_x", "tiny", {})
    with pytest.raises(ConfigError, match=r"^profile = huge: must be 'tiny', 'laptop', 'gpu' or 'kaggle'$"):
        resolve("multilora_ttt", "huge", {})


def test_none_means_the_profiles_value_and_zero_does_not():
    profile = load_profile("tiny").multilora_ttt
    assert resolve("multilora_ttt", "tiny", {"k": None, "steps": None}) == profile
    changed = resolve("multilora_ttt", "tiny", {"k": None, "steps": 0, "use_rslora": True})
    assert (changed.k, changed.steps, changed.use_rslora) == (profile.k, 0, True)


def test_zero_and_empty_text_lift_a_limit():
    assert load_profile("tiny").multilora_ttt.max_side is not None
    lifted = resolve("multilora_ttt", "tiny", {"max_side": 0, "deadline_seconds": 0, "task_ids": ""})
    assert (lifted.max_side, lifted.deadline_seconds, lifted.task_ids) == (None, None, None)


def test_numbers_in_text_and_paths_are_taken():
    """YAML and papermill read 1e-4 as a string."""
    config = resolve("multilora_ttt", "tiny", {"lr": "1e-4", "k": "3", "model_dir": Path("models/x")})
    assert (config.lr, config.k, config.model_dir) == (1e-4, 3, "models/x")
    assert resolve("multilora_ttt", "tiny", {"task_ids": "00576224"}).task_ids == "00576224"


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        resolve("multilora_ttt", "tiny", {}).k = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["multilora_ttt"].pop("k"), "multilora_ttt.k: is missing (a profile holds every knob)"),
        (lambda v: v["multilora_ttt"].update(k=0), "multilora_ttt.k = 0: must be >= 1"),
        (lambda v: v["multilora_ttt"].update(lr="1e-4"), None),
        (lambda v: v.update(trm={}), "trm = {}: unknown; allowed: name, description, base_model, "),
        (lambda v: v.pop("base_model"), "base_model: is missing (a profile holds every knob)"),
    ],
)
def test_bad_profile_files(tmp_path, monkeypatch, change, message):
    values = yaml.safe_load((CONFIGS / "tiny.yaml").read_text())
    change(values)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    if message is None:
        load_profile("tiny")
        return
    with pytest.raises(ConfigError) as error:
        load_profile("tiny")
    assert str(error.value).startswith(f"tiny.yaml: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", ""])
def test_a_profile_file_that_is_no_profile(tmp_path, monkeypatch, text):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(text)
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match=r"tiny\.yaml: (not YAML|must hold one section a notebook)"):
        load_profile("tiny")


def test_profiles_of_an_installed_wheel(tmp_path, monkeypatch):
    """Without a repository the profiles in the package are read; without them, the places are named."""
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    monkeypatch.setattr(env, "PACKAGE", tmp_path / "site/arc_helpers")
    monkeypatch.setattr(env, "PACKAGED", tmp_path / "site/arc_helpers/packaged")
    with pytest.raises(ConfigError, match=r"^profile = tiny: tiny\.yaml is in none of .*arc_helpers/packaged/configs$"):
        load_profile("tiny")
    (tmp_path / "site/arc_helpers/packaged/configs").mkdir(parents=True)
    (tmp_path / "site/arc_helpers/packaged/configs/tiny.yaml").write_text((CONFIGS / "tiny.yaml").read_text())
    assert load_profile("tiny").name == "tiny"


def test_the_published_recipe_is_a_preset_over_which_values_can_be_given():
    config = resolve("03_trm_pretrain", "laptop", {"preset": "published", "lr": 3e-4, "num_aug": None})
    assert (config.lr, config.num_aug, config.min_lr_ratio, config.tables_by) == (3e-4, 1000, 1.0, "signsgd")
    assert config.batch_tokens == 703_488 and config.deadline_seconds is None and config.epochs == 100_000
    assert resolve("03_trm_pretrain", "laptop", {}).tables_by == "adam"
    with pytest.raises(ConfigError, match="conditioning = identifier: must be shared where augment is not listed"):
        resolve("03_trm_pretrain", "laptop", {"conditioning": "identifier"})

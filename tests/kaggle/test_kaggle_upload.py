"""What is uploaded by hand, and that nothing tried by hand becomes a submission in silence."""

import json
import shutil
import subprocess
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from kaggle_wheels import USER, empty_wheels

from arc_helpers.kaggle import bundle, effective
from arc_helpers.kaggle.kernels import read_table
from arc_helpers.kaggle.upload import PAGE, ZIPPED, clicks, make_upload, plot_click
from arc_helpers.runs import ConfigError
from arc_helpers.runs.notebook import Notebook, find_notebook, read_parameters

SLUG = "arc-multi-lora-ttt-t4x2"


@pytest.fixture(scope="module")
def upload(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "fetch", empty_wheels)
        return make_upload(
            tmp_path_factory.mktemp("hand") / "upload",
            bundle_folder=tmp_path_factory.mktemp("hand") / "build",
            user=USER,
        )


def test_it_holds_a_zip_a_notebook_a_kernel_and_a_page(upload):
    folder, built = upload
    shown = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert shown == {ZIPPED, PAGE, *(f"{slug}.ipynb" for slug in built.kernels)}
    for slug, source in built.kernels.items():
        assert (folder / f"{slug}.ipynb").read_bytes() == (source / f"{slug}.ipynb").read_bytes()


def test_the_zip_is_flat_and_whole(upload):
    folder, _ = upload
    with zipfile.ZipFile(folder / ZIPPED) as archive:
        names = set(archive.namelist())
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.testzip() is None
    assert names == {*manifest["files"], "manifest.json"} and any(name.startswith("arc_helpers-") for name in names)


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.images, self.outside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.images += [attributes] if tag == "img" else []
        self.outside += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]


def test_the_page_has_six_pictures_with_their_text_and_needs_no_network(upload):
    folder, _ = upload
    page = Page((folder / PAGE).read_text())
    assert len(page.images) == 6 and page.outside == []
    assert all(image["src"].startswith("data:image/png;base64,") and "clicked" in image["alt"] for image in page.images)
    text = (folder / PAGE).read_text()
    for word in (ZIPPED, f"{SLUG}.ipynb", "arc-prize-2026-arc-agi-2", "GPU T4 x2", "Submit to Competition"):
        assert word in text


def test_a_click_is_drawn_within_its_frame():
    table = read_table()
    for number, click in enumerate(clicks(table, [SLUG]), 1):
        picture = plot_click(number, click)
        picture.draw_without_rendering()
        frame = picture.axes[0].patches[0].get_window_extent()
        for text in picture.axes[0].texts:
            if text.get_text():
                box = text.get_window_extent()
                assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()


# --- nothing of play


@pytest.fixture
def repository(tmp_path) -> Path:
    """Notebook 02 in a git repository of its own, committed."""
    shutil.copy(find_notebook("02").path, tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return tmp_path / "02_multilora_ttt.ipynb"


def edited(path: Path, old: str, new: str) -> Notebook:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return Notebook(path, read_parameters(path))


def test_a_committed_notebook_may_be_bundled(repository):
    effective.check_parameters_cell(Notebook(repository, read_parameters(repository)))
    effective.check_parameters_cell(edited(repository, "at most so many tasks", "a comment is no value"))


@pytest.mark.parametrize("committed", [True, False])
def test_a_value_left_in_the_parameters_cell_stops_the_bundle(repository, committed):
    notebook = edited(repository, "max_tasks: int = None", "max_tasks: int = 4")
    if not committed:
        shutil.rmtree(repository.parent / ".git")
    with pytest.raises(ConfigError) as error:
        effective.check_parameters_cell(notebook)
    assert str(error.value).startswith(
        "02_multilora_ttt.ipynb: its parameters cell holds max_tasks = 4 (None is committed): undo it"
    )


def test_the_bundle_asks(monkeypatch, tmp_path):
    def refuse(notebook):
        raise ConfigError("left in")

    monkeypatch.setattr(bundle, "check_parameters_cell", refuse)
    with pytest.raises(ConfigError, match=f"^kaggle/kernels.yaml: {SLUG}: left in$"):
        bundle.build(tmp_path / "build")


def test_every_parameter_is_shown_with_its_origin():
    kernel = read_table().kernel("arc-multi-lora-ttt-qwen2-l4x4")
    lines = list(effective.effective_lines(kernel))
    assert len(lines) == len(find_notebook("02").parameters)
    for line in ("k = 4 (kaggle/kernels.yaml)", "steps = 100 (profile kaggle)", "seed = 0 (the notebook)"):
        assert f"  {line}" in lines
    assert any(line.startswith("  deadline_seconds = ") and "the run on Kaggle decides" in line for line in lines)


@pytest.mark.parametrize(
    ("slug", "said"),
    [
        (
            "arc-multi-lora-ttt-qwen2-l4x4",
            " h of 11.5 h for 240 tasks like arcagi2/evaluation on 4 × L4, by data sheets",
        ),
        ("arc-trm-t4x2", "forecast: none, since"),
    ],
)
def test_a_forecast_or_why_there_is_none(slug, said):
    assert said in effective.forecast_line(read_table().kernel(slug))

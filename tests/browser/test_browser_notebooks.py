"""Every notebook as a reader meets it: JupyterLab in a real browser, all cells run, a slider moved."""

import json
import logging
import time
from pathlib import Path

import browser_lab as lab
import papermill
import pytest

PATHS = sorted((lab.ROOT / "notebooks").glob("0*.ipynb"))
START = lab.ROOT / "notebooks/START_HERE.ipynb"
SECONDS = 300  # a notebook at most
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason=lab.NO_CHROMIUM),
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Copies of the notebooks with the smallest profile, writing where no other test writes."""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it cannot read `int | None`
    folder = tmp_path_factory.mktemp("lab")
    for path in PATHS:
        out = folder / "out" / path.stem
        values = {"profile": "tiny", "out_dir": str(out)}
        if "out_model" in papermill.inspect_notebook(path):
            values["out_model"] = str(out / "model")
        papermill.execute_notebook(path, folder / path.name, parameters=values, prepare_only=True)
    papermill.execute_notebook(START, folder / START.name, parameters={"profile": "tiny"}, prepare_only=True)
    return folder


@pytest.fixture(scope="session")
def address(folder) -> str:
    with lab.jupyter_lab(folder) as address:
        yield address


@pytest.mark.parametrize("name", [path.name for path in PATHS])
def test_a_reader_runs_it_and_moves_a_slider(name, address, folder):
    with lab.open_page() as (page, outside), lab.open_notebook(page, address, name):
        state = lab.run_all(page, SECONDS)
        lab.photograph(page, Path(name).stem)
        assert state["errors"] == state["stderr"] == [] and state["run"] == state["code"]
        moved = lab.move_first_slider(page, Path(name).stem)
        assert moved, "no slider changed its picture"
        lab.save(page)
        assert outside == [], "the page asked for something outside this machine"
    widgets, beside = lab.saved_widgets(folder / name)
    print("\n" + json.dumps({"notebooks": 1, "cells": state["run"], "pictures": beside, "external": len(outside)}))
    assert widgets == beside > 0, "a saved notebook keeps a picture, with a text, of every widget"


def test_a_saved_notebook_shows_its_pictures_without_the_kernel(address, folder):
    """After the test above has run and saved it."""
    name = "01_tokenization_debug.ipynb"
    widgets, _ = lab.saved_widgets(folder / name)
    if not widgets:
        pytest.skip(f"{name} was not run before in this process")
    with lab.open_page() as (page, outside), lab.open_notebook(page, address, name):
        pictures = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .arc-beside img")
        page.wait_for_timeout(2000)  # a widget that is not found says so by then
        shown = pictures.evaluate_all("images => images.map(i => i.offsetHeight > 0 && i.naturalWidth > 0 && i.alt)")
        assert len(shown) == widgets and all(shown)
        assert not page.get_by_text("model not found").filter(visible=True).count()
        lab.photograph(page, "01-reopened")
        assert outside == []


def test_start_here_draws_at_once_and_follows_the_hand(address, folder):
    """The playground in JupyterLab: the kernel answers, a picture follows the hand."""
    with lab.open_page() as (page, outside), lab.open_notebook(page, address, START.name):
        began = time.monotonic()
        page.evaluate(f"() => {{ ({lab.RUN_ALL})(); }}")
        page.wait_for_selector(".arc-paper", timeout=60_000)
        first_picture_s = time.monotonic() - began
        state = lab.run_all(page, 120)
        assert state["errors"] == state["stderr"] == []
        page.get_by_role("button", name="Check", exact=True).click()
        page.wait_for_function("[...document.querySelectorAll('.arc-say')].some(e => e.textContent.startsWith('✗'))")
        page.locator(".arc-paper").scroll_into_view_if_needed()
        drag_ms = page.evaluate(lab.DRAG)
        page.locator(".arc-watch input[type=range]").focus()
        page.keyboard.press("Home")
        assert "step 0" in page.locator(".arc-watch .arc-say").inner_text()
        lab.photograph(page, "START_HERE")
        lab.save(page)
        assert outside == []
    widgets, beside = lab.saved_widgets(folder / START.name)
    times = {"first_picture_s": round(first_picture_s, 1), "drag_ms": round(drag_ms, 1)}
    counts = {"notebooks": 1, "cells": state["run"], "pictures": beside, "external": len(outside)}
    print("\n" + json.dumps(times | counts))
    assert widgets == beside == 2 and first_picture_s < 60 and drag_ms < 50

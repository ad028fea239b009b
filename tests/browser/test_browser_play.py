"""The playground in a real browser, its kernel's side behind it: drawn, painted, checked, made, saved."""

import json
from types import SimpleNamespace

import browser_lab as lab
import pytest

from arc_helpers import play
from arc_helpers.arc import load_tasks
from arc_helpers.play import Learning
from arc_helpers.play.script import script, style

pytestmark = [pytest.mark.browser, pytest.mark.skipif(lab.chromium() is None, reason=lab.NO_CHROMIUM)]
DRAG_MS, THUMBS_MS = 50, 1000
#: anywidget's model, as far as our scripts use it
PAGE = """<!doctype html><style>%s</style><div id=here></div><script type=module>%s
const state = %s, hears = {};
const model = {
    get: (name) => state[name], on: (name, f) => { hears[name] = f; }, off: () => {},
    send: async (asked) => {
        const [reply, now] = await window.kernel(asked);
        const changed = JSON.stringify(now.tasks) !== JSON.stringify(state.tasks);
        Object.assign(state, now);
        if (changed) hears["change:tasks"]();
        hears["msg:custom"](reply);
    },
};
const began = performance.now();
render({ model, el: document.getElementById("here") });
requestAnimationFrame(() => setTimeout(() => { window.thumbs_ms = performance.now() - began; }));
</script>"""


@pytest.fixture
def playground(monkeypatch, tmp_path):
    monkeypatch.setattr(play, "detect", lambda: SimpleNamespace(headless=False))
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    tasks = load_tasks("arcagi1/training")
    truth = tasks[0].answers()
    return play.open_playground(
        {"training": tasks, "other": tasks[5:7]}, {"adapter": {tasks[0].id: [(truth[0] * 0, truth[0])]}}
    )


@pytest.fixture
def page(playground):
    def state():
        return {name: playground.get_state()[name] for name in ("sets", "shown", "tasks")}

    with lab.open_page() as (page, outside):
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.expose_function("kernel", lambda asked: [json.loads(json.dumps(playground.reply(asked))), state()])
        page.set_content(PAGE % (style(), script("editor", "playground"), json.dumps(state())))
        page.wait_for_function("window.thumbs_ms")
        yield page
        assert errors == [] and outside == []


def said(page, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('.arc-say').textContent.includes(text)", arg=text, timeout=5000
    )


def test_a_set_is_shown_at_once_and_searched(page):
    assert page.locator(".arc-thumb").count() == 400 and page.evaluate("thumbs_ms") < THUMBS_MS
    page.get_by_label("search by id").fill("05f2")
    assert page.locator(".arc-thumb").count() == 1
    page.keyboard.press("Enter")
    assert page.locator(".arc-name").inner_text() == "05f2a901"
    page.get_by_label("search by id").fill("nowhere")
    said(page, "nowhere: no task of this set has such an id")
    page.get_by_label("search by id").fill("")
    page.get_by_label("largest side to").fill("3")
    page.keyboard.press("Enter")
    assert 0 < page.locator(".arc-thumb").count() < 30
    page.get_by_label("set of tasks").select_option("other")
    page.wait_for_function("document.querySelectorAll('.arc-thumb').length <= 2")


def test_the_picture_follows_the_hand(page):
    page.get_by_label("rows").fill("30")
    page.keyboard.press("Enter")
    page.get_by_label("columns").fill("30")
    page.keyboard.press("Enter")
    drag_ms = page.evaluate(lab.DRAG)
    print("\n" + json.dumps({"drag_ms": round(drag_ms, 1), "thumbs_ms": round(page.evaluate("thumbs_ms"))}))
    assert drag_ms < DRAG_MS
    page.get_by_label("rows").fill("31")
    page.keyboard.press("Enter")
    said(page, "31 × 30: a side has 1 to 30 cells")
    page.screenshot(path=lab.SCREENSHOTS / "play-painted.png")


def test_solve_by_keyboard_and_compare(page):
    truth = load_tasks("arcagi1/training")[0].answers()[0]
    page.get_by_label("rows").fill(str(len(truth)))
    page.keyboard.press("Enter")
    page.get_by_label("columns").fill(str(len(truth[0])))
    page.keyboard.press("Enter")
    assert page.locator(".arc-compare canvas").count() == 0
    paper = page.locator(".arc-paper")
    paper.focus()
    for row in truth.tolist():
        for value in row:
            page.keyboard.press(str(value))
            page.keyboard.press("Space")
            page.keyboard.press("ArrowRight")
        for _ in row:
            page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowDown")
    page.get_by_role("button", name="Check").click()
    said(page, "✓ solved")
    assert page.locator(".arc-compare canvas").count() == 0, "checking shows no answer"
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Show answers").click()
    page.wait_for_function("document.querySelectorAll('.arc-compare canvas').length === 4")
    told = page.locator(".arc-compare figcaption").all_inner_texts()
    assert [text.split(" ·")[0] for text in told] == ["you", "adapter, attempt 1", "adapter, attempt 2", "truth"]
    assert "✓ solved" in told[2] and "wrong" in told[1]
    page.locator(".arc-compare canvas").first.hover()
    said(page, "you ")
    page.get_by_text("digits").click()
    page.get_by_role("combobox", name="colours").select_option("arcprize")
    page.screenshot(path=lab.SCREENSHOTS / "play-compared.png", full_page=True)


def test_make_save_and_export(page, tmp_path):
    page.get_by_role("button", name="New task").click()
    paper = page.locator(".arc-paper")
    paper.click()
    page.get_by_role("button", name="+ demo").click()
    page.get_by_label("name of your task").fill("sun")
    page.get_by_role("button", name="Save", exact=True).click()
    said(page, 'data_dir = "work/tasks/sun.json"')
    (task,) = load_tasks(tmp_path / "work/tasks/sun.json")
    assert len(task.train) == 3 and task.train[0].input.sum() == 1
    for kind, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("JSON", b'{"train"')):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=kind, exact=True).click()
        assert waiting.value.path().read_bytes().startswith(start), kind
    page.screenshot(path=lab.SCREENSHOTS / "play-made.png", full_page=True)
    page.locator("input[type=file]").set_input_files(
        {"name": "bad.json", "mimeType": "application/json", "buffer": b'{"train": 3}'}
    )
    said(page, "task bad: train: expected a list of pairs, got 3")


def test_a_saved_page_follows_the_hand_without_any_kernel(tmp_path):
    (task,) = load_tasks("arcagi1/training")[:1]
    grids = [task.test[0].input, *(task.answers()[0] * i for i in (0, 1))]
    shots = [
        SimpleNamespace(step=i, loss=1 / (i + 1), grid=grid, sure=grid * 0 + 0.5, votes=i, views=8)
        for i, grid in enumerate(grids)
    ]
    page_file, _ = Learning(task, shots, task.answers()[0], [1.0, 0.5]).save(tmp_path)
    with lab.open_page() as (page, outside):
        page.goto(page_file.as_uri())
        caption = page.locator(".arc-work figcaption").nth(1)
        assert "✗ wrong size" in caption.inner_text()
        page.get_by_role("slider").focus()
        page.keyboard.press("ArrowRight")
        assert "cells wrong" in caption.inner_text()
        page.keyboard.press("ArrowRight")
        assert "✓ solved" in caption.inner_text()
        assert "step 2: ✓ solved, given by 2 of 8 views, 50 % sure" in page.locator(".arc-say").inner_text()
        page.get_by_role("button", name="play").click()
        page.wait_for_function("document.querySelector('input[type=range]').value !== '2'")
        page.screenshot(path=lab.SCREENSHOTS / "watch.png")
        assert outside == []

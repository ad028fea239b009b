"""A JupyterLab on this machine and a chromium that looks at it; nothing leaves the loopback."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, TimeoutError, sync_playwright

NO_CHROMIUM = "there is no chromium (Debian: apt-get install chromium)"
ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "artifacts" / "browser"
VIEW = {"width": 1280, "height": 1500}
#: JupyterLab draws only the cells on screen, and asks whether it may fetch news; a test needs all cells and no question
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
#: paints a grid cell by cell in a playground; the longest time until a move is drawn, in milliseconds
DRAG = """async () => {
    const paper = document.querySelector(".arc-paper"), box = paper.getBoundingClientRect(), waits = [];
    const move = (name, i) => paper.dispatchEvent(new PointerEvent(name, {
        bubbles: true, pointerId: 1,
        clientX: box.left + 5 + ((i * 13) % (box.width - 9)), clientY: box.top + 5 + i * (box.height - 9) / 60 }));
    paper.setPointerCapture = () => {};
    move("pointerdown", 0);
    for (let i = 1; i < 60; i++) {
        await new Promise(requestAnimationFrame);
        const began = performance.now();
        move("pointermove", i);
        paper.getContext("2d").getImageData(0, 0, 1, 1); // all of it is drawn by now
        waits.push(performance.now() - began);
    }
    move("pointerup", 60);
    return Math.max(...waits);
}"""
#: runs in the page; JupyterLab is started with its application as window.jupyterapp
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
STATE = """() => {
    const panel = window.jupyterapp.shell.currentWidget, kernel = panel.sessionContext.session?.kernel;
    const cells = panel.content.model.sharedModel.cells;
    const code = cells.filter(cell => cell.cell_type === 'code' && cell.source.trim());
    const outputs = code.flatMap(cell => cell.outputs);
    return {
        status: kernel ? kernel.status : 'none',
        pending: panel.content.widgets.filter(w => w.model.type === 'code' && w.prompt === '*').length,
        run: code.filter(cell => cell.execution_count !== null).length,
        code: code.length,
        errors: outputs.filter(output => output.output_type === 'error').map(e => e.ename + ': ' + e.evalue),
        stderr: outputs.filter(output => output.name === 'stderr').map(output => output.text),
    };
}"""


def chromium() -> str | None:
    """Where Debian's browser is, or another build of the same."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def lab_options() -> list[str]:
    """What `make lab` tells JupyterLab about saving."""
    recipe = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return re.findall(r"--ContentsManager\S+", recipe)


@contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """A server on the notebooks of `folder`; gives its address. Its settings are its own, not the user's."""
    settings = folder / ".settings"
    for name, values in SETTINGS.items():
        file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--ServerApp.root_dir={folder}"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root"]
    command += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        f"--LabApp.user_settings_dir={settings}",
    ]
    command += [f"--LabApp.workspaces_dir={folder / '.workspaces'}", *lab_options()]
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("JPY_", "PYTEST_", "ARC_HEADLESS"))
    }
    env |= {"JUPYTER_CONFIG_DIR": str(folder / ".config"), "JUPYTER_RUNTIME_DIR": str(folder / ".runtime")}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, server, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


@contextmanager
def open_page() -> Iterator[tuple[Page, list[str]]]:
    """A page, and the addresses of all that it has asked for outside the loopback."""
    outside: list[str] = []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # names resolve to nothing: what asks for the internet fails, here as on a machine without one
        options = [
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        page = browser.new_page(viewport=VIEW)
        page.on("request", lambda request: None if _local(request.url) else outside.append(request.url))
        page.on("websocket", lambda ws: None if _local(ws.url) else outside.append(ws.url))
        yield page, outside
        browser.close()


def _local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about", "file") or parts.hostname == "127.0.0.1"


@contextmanager
def open_notebook(page: Page, address: str, name: str) -> Iterator[None]:
    """Open a notebook and wait for its kernel, which is shut down afterwards: it holds a model in memory."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=120_000)
    page.wait_for_function(f"({STATE})().status === 'idle'", timeout=120_000)
    yield
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def save(page: Page) -> None:
    """Save the notebook that is open, as Ctrl+S does, and wait until that is done."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")


def saved_widgets(notebook: Path) -> tuple[int, int]:
    """How many widgets a notebook's file holds, and before how many of them a picture with an alternative text."""
    widgets = beside = 0
    for cell in json.loads(notebook.read_text())["cells"]:
        bundles = [output.get("data", {}) for output in cell.get("outputs", [])]
        for before, bundle in zip([{}, *bundles], bundles, strict=False):
            if "application/vnd.jupyter.widget-view+json" in bundle:
                widgets += 1
                text = "".join(before.get("text/html", ""))
                beside += bool(re.search('<img alt="[^"]{10,}" src="data:image/png;base64,', text))
    return widgets, beside


def run_all(page: Page, seconds: float) -> dict:
    """Run all cells; returns the last state: cells run, and their errors."""
    page.evaluate(f"() => {{ ({RUN_ALL})(); }}")  # the promise is not waited for: cells are watched instead
    until, state = time.monotonic() + seconds, {}
    while time.monotonic() < until:
        page.wait_for_timeout(500)
        state = page.evaluate(STATE)
        if state["errors"] or (state["run"] == state["code"] and not state["pending"] and state["status"] == "idle"):
            return state
    raise AssertionError(f"still running after {seconds} s: {state}")


def photograph(page: Page, name: str) -> None:
    """The whole notebook as SCREENSHOTS/<name>-<page>.png."""
    for old in SCREENSHOTS.glob(f"{name}-*.png"):
        old.unlink()
    page.keyboard.press("Escape")
    outer = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")
    height, seen = outer.evaluate("e => [e.scrollHeight, e.clientHeight]")
    for i, top in enumerate(range(0, height, seen)):
        outer.evaluate("(e, top) => { e.scrollTop = top; }", top)
        page.wait_for_timeout(150)
        outer.screenshot(path=SCREENSHOTS / f"{name}-{i:02d}.png")


def move_first_slider(page: Page, name: str) -> bool:
    """Press an arrow key on the notebook's sliders until one has changed its picture; whether one has."""
    # a range with two handles may leave the first task in, and its picture as it was
    one_handle = ".noUi-target:not(:has(.noUi-origin ~ .noUi-origin)) .noUi-handle"
    for slider in page.locator(f".jp-NotebookPanel:not(.lm-mod-hidden) {one_handle}").all():
        slider.scroll_into_view_if_needed()
        picture = slider.locator("xpath=ancestor::*[.//img][1]//img").first
        before = picture.get_attribute("src")
        changed = "([picture, before]) => picture.src !== before"
        for key in ("ArrowRight", "ArrowLeft"):  # the second for a slider that stands at its end
            slider.focus()
            page.keyboard.press(key)
            try:
                page.wait_for_function(changed, arg=[picture.element_handle(), before], timeout=10_000)
            except TimeoutError:
                continue
            page.screenshot(path=SCREENSHOTS / f"{name}-moved.png")
            return True
    return False

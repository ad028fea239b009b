"""The offline report in a real browser: whole, and asking nobody for anything."""

import base64
import json

import browser_lab as lab
import nbformat
import pytest

from arc_helpers.arc import Pair, Task
from arc_helpers.plot import plot_task
from arc_helpers.report import find_runs, write_site

pytestmark = [pytest.mark.browser, pytest.mark.skipif(lab.chromium() is None, reason=lab.NO_CHROMIUM)]


def test_a_strangers_run_runs_nothing(tmp_path):
    """A script in every field: none runs, nothing is asked for, and no picture or link leads anywhere but here."""
    from test_report import make_evil_run

    make_evil_run(tmp_path / "run")
    index = write_site(find_runs(tmp_path), tmp_path / "site")
    with lab.open_page() as (page, outside):
        ran, blocked = [], []
        page.expose_function("bad", lambda: ran.append(page.url))
        page.on("dialog", lambda dialog: ran.append(dialog.message))
        page.on("console", lambda message: blocked.append(message.text))
        for html in sorted(index.parent.glob("*.html")):
            page.goto(html.as_uri())
            page.wait_for_load_state("networkidle")
            for link in page.locator("a").all():
                assert not (link.get_attribute("href") or "").startswith("javascript")
        assert ran == [] and outside == []
        # and were a script to slip through, the policy would stop it
        text = index.read_text().replace("</body>", "<script>bad()</script><img src=x onerror=bad()></body>")
        index.write_text(text)
        page.goto(index.as_uri())
        page.wait_for_load_state("networkidle")
        assert ran == [] and any("Content Security Policy" in line for line in blocked)


def test_the_report_needs_no_network(tmp_path):
    new = nbformat.v4
    picture = plot_task(Task("little", (Pair([[1]], [[2]]),), (Pair([[3]]),)))
    shown = new.new_output("display_data", data={"image/png": base64.b64encode(picture.to_png()).decode()})
    cells = [new.new_markdown_cell("# 09 · A story\n\n$$x^2$$"), new.new_code_cell("draw()", outputs=[shown])]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "09_story.ipynb")
    summary = {"notebook": "09_story", "profile": "tiny", "seed": 0, "seconds": 1, "device": "cpu", "git": "abc"}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"solved": 1}))
    index = write_site(find_runs(tmp_path), tmp_path / "site")
    with lab.open_page() as (page, outside):
        page.goto(index.as_uri())
        page.get_by_text("1", exact=True).first.click()  # the numbers unfold
        page.get_by_role("link", name="09_story").click()
        page.wait_for_load_state("networkidle")
        sizes = page.locator("img").evaluate_all("images => images.map(i => [i.complete, i.naturalWidth > 0])")
        assert sizes == [[True, True]] * 2 and outside == []
        page.screenshot(path=lab.SCREENSHOTS / "report.png")

"""An explorer where there is less than it would like: no kernel behind the saved file, no ipywidgets at all."""

import base64
import os
import re
import subprocess
import sys
from types import SimpleNamespace

from arc_helpers.plot import explore_augmentations, widgets


def test_a_live_explorer_leaves_a_picture_beside_the_widget(task, monkeypatch):
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=False))
    shown = []
    monkeypatch.setattr("arc_helpers.plot.beside.display", lambda data, raw: shown.append(data))
    explore_augmentations(task)._ipython_display_()
    picture, widget = shown
    encoded = re.search(r'<img alt="(.+?)" src="data:image/png;base64,(.+?)">', picture["text/html"])
    assert (
        encoded[1].startswith("A picture with controls (pair: 0, rotation: 1,") and encoded[1] == picture["text/plain"]
    )
    assert base64.b64decode(encoded[2]).startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in widget and "image/png" not in widget


def test_without_ipywidgets_an_explorer_is_its_picture():
    code = (
        "import sys; sys.modules['ipywidgets'] = None\n"
        "from arc_helpers import arc, plot\n"
        "tasks = arc.load_tasks('arcagi1/training')[:3]\n"
        "shown = [plot.explore_augmentations(tasks[0])]\n"
        "shown += [plot.explore_pictures({'x': lambda: plot.plot_task(tasks[1])})]\n"
        "import arc_helpers.memory.widget\n"
        "print(*[type(one).__name__ for one in shown], len(shown[1].axes) > 4)"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("ARC_HEADLESS", "PYTEST_VERSION")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "Picture Picture True\n", done.stderr

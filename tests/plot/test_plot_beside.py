"""An explorer where there is less than it would like: no kernel behind the saved file, no ipywidgets at all."""

import base64
import os
import subprocess
import sys
from types import SimpleNamespace

from arc_helpers.plot import explore_augmentations, widgets


def test_a_live_explorer_leaves_a_picture_beside_the_widget(task, monkeypatch):
    monkeypatch.setattr(widgets, "detect", lambda: SimpleNamespace(headless=False))
    bundle = explore_augmentations(task)._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"].startswith("A picture with controls (pair: 0, rotation: 1,")


def test_without_ipywidgets_an_explorer_is_its_picture():
    code = (
        "import sys; sys.modules['ipywidgets'] = None\n"
        "from arc_helpers import arc, plot\n"
        "tasks = arc.load_tasks('arcagi1/training')[:3]\n"
        "shown = [plot.explore_tasks({'a': tasks, 'b': tasks}), plot.explore_augmentations(tasks[0])]\n"
        "shown += [plot.explore_pictures({'x': lambda: plot.plot_task(tasks[1])})]\n"
        "import arc_helpers.memory.widget\n"
        "print(*[type(one).__name__ for one in shown], len(shown[0].axes) > 4)"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("ARC_HEADLESS", "PYTEST_VERSION")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "Picture Picture Picture True\n", done.stderr

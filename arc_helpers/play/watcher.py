"""The widget of `watch_learning`: all it shows is in the page, so it follows the hand without the kernel."""

import anywidget
import traitlets

from arc_helpers.play.learning import Learning
from arc_helpers.play.script import script, style
from arc_helpers.plot.beside import LIVE, show_beside


class Watcher(anywidget.AnyWidget):
    """A slider over the shots of a `Learning`."""

    _esm = script("watch")
    _css = style()
    story = traitlets.Dict().tag(sync=True)

    def __init__(self, learning: Learning) -> None:
        super().__init__(story=learning.story())
        self.add_class(LIVE)
        self._learning = learning

    def _ipython_display_(self) -> None:
        show_beside(self._repr_mimebundle_()[0], self._learning.picture().to_png(), self._learning.describe())

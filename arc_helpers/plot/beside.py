"""A widget in a notebook, and the picture of it that stays where no kernel, no JavaScript or no widgets are."""

import base64
import html
from typing import Any
from uuid import uuid4

from IPython.display import display

LIVE = "arc-live"  # the class of a widget that has a picture beside it
# While the widget lives its picture is hidden; where it does not, JupyterLab's "model not found" is.
STYLE = """<style>
.jp-OutputArea-child:has(.{name}):has(+ .jp-OutputArea-child .{live}) {{ display: none; }}
.jp-OutputArea-child:has(.{name}) + .jp-OutputArea-child:not(:has(.{live})) .jupyter-widgets {{ display: none; }}
</style>"""
AGAIN = "As it was when this notebook was saved: run the cell to play with it."


def show_beside(bundle: dict[str, Any], picture: bytes, alt: str) -> None:
    """Show a picture (PNG) with its alternative text, and below it the widget whose mime `bundle` this is.

    They are two outputs: JupyterLab takes the widget of a single one, and shows an error where its kernel is gone.
    """
    name = f"arc-beside-{uuid4().hex[:12]}"
    shown = (
        f'{STYLE.format(name=name, live=LIVE)}<div class="arc-beside {name}">'
        f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        f"<div><small>{AGAIN}</small></div></div>"
    )
    display({"text/html": shown, "text/plain": alt}, raw=True)
    display(bundle | {"text/plain": ""}, raw=True)

"""The scripts of the widgets: one file each for the browser, put together from those beside this module."""

import json
from pathlib import Path

from arc_helpers.arc import ARC_COLORS, ARCPRIZE_COLORS

FOLDER = Path(__file__).parent
PALETTES = {"suite": ARC_COLORS, "arcprize": ARCPRIZE_COLORS}


def script(*names: str) -> str:
    """The palettes, board.js and the named files, as one module."""
    parts = [f"const PALETTES = {json.dumps(PALETTES)};"]
    return "\n".join([*parts, *((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("board", *names))])


def style() -> str:
    """What the widgets look like."""
    return (FOLDER / "style.css").read_text(encoding="utf-8")

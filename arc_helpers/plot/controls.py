"""ipywidgets, or stand-ins that hold a value and show nothing: without it an explorer is its first picture."""

from typing import Any

try:
    from ipywidgets import (
        HTML,
        Checkbox,
        Dropdown,
        HBox,
        Image,
        IntSlider,
        Layout,
        SelectionSlider,
        Text,
        VBox,
        Widget,
    )

    HAS_WIDGETS = True
except ImportError:
    HAS_WIDGETS = False

    class Widget:  # type: ignore[no-redef]  # it takes the place of the real one
        """A control with the value that it would start from."""

        def __init__(self, *children: Any, **options: Any) -> None:
            self.value = options.pop("value", options.get("min", 0))
            self.__dict__.update(options)

        def __setattr__(self, name: str, value: Any) -> None:
            self.__dict__[name] = value
            if name == "options" and value:  # as a selection: the first of (label, value), or of values
                first = next(iter(value))
                self.__dict__["value"] = first[1] if isinstance(first, tuple) else first

        def observe(self, *args: Any, **options: Any) -> None:
            """Nothing ever turns it."""

    class _Selection(Widget):
        def __init__(self, options: Any = (), value: Any = None, **others: Any) -> None:
            super().__init__(**others)
            self.options = options
            if value is not None:
                self.value = value

    HTML = Checkbox = HBox = Image = IntSlider = Layout = Text = VBox = Widget  # type: ignore
    Dropdown = SelectionSlider = _Selection  # type: ignore

__all__ = [
    "HAS_WIDGETS",
    "HTML",
    "Checkbox",
    "Dropdown",
    "HBox",
    "Image",
    "IntSlider",
    "Layout",
    "SelectionSlider",
    "Text",
    "VBox",
    "Widget",
]

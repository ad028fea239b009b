"""Helpers behind the ARC test-time-training notebooks. Importing this loads neither torch nor matplotlib."""

import importlib
from collections.abc import Callable, Mapping

__version__ = "0.1.0"


def on_first_use(package: str, where: Mapping[str, str]) -> Callable:
    """A package's `__getattr__` that imports a name when it is asked for: {name: module of the package}."""

    def get(name: str):
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{where[name]}"), name)

    return get

"""Helpers behind the ARC test-time-training notebooks. Importing this loads neither torch nor matplotlib."""

__version__ = "0.1.0"

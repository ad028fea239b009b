"""Errors about what the user gave: one line on stderr and exit code 2, never a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer


@contextmanager
def one_line(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors about the user's input into one line and exit code 2."""
    try:
        yield
    except errors as error:
        fail(str(error))


def fail(message: str, code: int = 2) -> NoReturn:
    """Print the line and leave."""
    print(message, file=sys.stderr)
    raise typer.Exit(code)

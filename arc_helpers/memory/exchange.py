"""One turn of a chat."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """What was said and answered, and how far the fast weights had moved by then."""

    text: str
    reply: str
    moved: float

"""What the texts of a run are, before the work begins: (about, text, whether it is bad)."""

import re
from collections.abc import Iterator
from typing import Any

from arc_helpers.runs import resolve_path
from arc_helpers.texts.dialogs import read_dialogs, split_dialogs
from arc_helpers.texts.documents import INSTALLED, read_documents
from arc_helpers.texts.records import HUB_ID

Finding = tuple[str, str, bool]
FAR = "is not here: the hub is asked for it, by the network, or its cache"
OFFLINE = ("stdlib", "arc", "offline")  # what notebook 07 has besides


def own_texts(config: Any) -> Iterator[Finding]:
    """Notebooks 05 and 06: dialogues (`dataset`) and documents (`corpus`) of the user's."""
    dialogs, corpus = getattr(config, "dataset", None), getattr(config, "corpus", None)
    if dialogs and _is_far(dialogs):
        yield f"dataset = {dialogs}", FAR, False
    elif dialogs:
        read = read_dialogs(dialogs)
        split_dialogs(read.dialogs)
        yield f"dataset = {dialogs}", "; ".join(read.report.splitlines()), False
    longest = getattr(config, "prose_tokens", 2 * (config.max_len or 0))  # what is read at once
    yield from documents(config, "corpus", longest) if corpus else ()


def documents(config: Any, name: str = "dataset", longest: int = 0) -> Iterator[Finding]:
    """Notebook 07, too: documents to read, some of them `longest` tokens at once."""
    source = getattr(config, name)
    if source == INSTALLED or (name == "dataset" and source in OFFLINE):
        yield f"{name} = {source}", "of this installation", False
    elif _is_far(source):
        yield f"{name} = {source}", FAR, False
    else:
        found = read_documents(source)
        size = sum(len(text.encode("utf-8", "replace")) + 1 for text in found.test)  # a token is a byte at least
        text = f"its test part has {size:,} bytes: too small for one window of {longest:,} tokens"
        yield f"{name} = {source}", found.report.splitlines()[0] if size >= longest else text, size < longest


def _is_far(source: str) -> bool:
    """Whether the network, or the hub's cache, has to bring it: it is not read now."""
    path = resolve_path(source)
    return not path.exists() and bool(re.fullmatch(HUB_ID, source)) and not path.parent.is_dir()

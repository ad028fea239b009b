"""Texts of users: records of any file, dialogues out of them, documents to read. No models, no torch."""

from arc_helpers.texts.dialogs import DialogSet, as_messages, check_messages, read_dialogs, split_dialogs
from arc_helpers.texts.documents import (
    INSTALLED,
    Documents,
    cut_windows,
    python_docstrings,
    python_topics,
    read_documents,
)
from arc_helpers.texts.records import Record, TextError, read_records, read_text

__all__ = [
    "INSTALLED",
    "DialogSet",
    "Documents",
    "Record",
    "TextError",
    "as_messages",
    "check_messages",
    "cut_windows",
    "python_docstrings",
    "python_topics",
    "read_dialogs",
    "read_documents",
    "read_records",
    "read_text",
    "split_dialogs",
]

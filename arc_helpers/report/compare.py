"""Runs of one notebook beside each other: where their parameters differ, and what came of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from arc_helpers.report.untrusted import escape

#: what two runs never have in common, or says where and not how they ran
NO_PARAMETER = {"out_dir", "out_model", "fresh"}
LONGEST = 60  # characters of a value
MOST_RUNS = 8  # side by side; a table of more is none


def parameters(folder: Path) -> dict[str, Any]:
    """What a run was asked for, from its config.yaml; empty where that is missing or damaged."""
    try:
        values = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(values, dict):
        return {}
    flat = {name: value for name, value in values.items() if not isinstance(value, dict)}
    for value in values.values():
        flat |= value if isinstance(value, dict) else {}
    return {str(name): value for name, value in flat.items() if name not in NO_PARAMETER}


def differences(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Names whose values are not the same in all runs, each with the values; None where a run has no such name."""
    names = dict.fromkeys(name for run in runs for name in run)
    rows = [(name, [run.get(name) for run in runs]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values[1:])]


def comparison(names: Sequence[str], asked: Sequence[Mapping], found: Sequence[Mapping]) -> str:
    """An HTML table of the last `MOST_RUNS` runs of a notebook: parameters that differ, then results that do. Of runs
    that differ in nothing it says so; empty for one run."""
    if len(names) < 2:
        return ""
    names, asked, found = names[-MOST_RUNS:], asked[-MOST_RUNS:], found[-MOST_RUNS:]
    rows = [("parameter", *row) for row in differences(asked)] + [("result", *row) for row in differences(found)]
    if not rows:
        return "<p>All runs have the same parameters and the same results.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", "", *names))
    body = "".join(
        f"<tr><td>{kind}</td><td>{escape(name)}</td>{''.join(f'<td>{escape(shown(v))}</td>' for v in values)}</tr>"
        for kind, name, values in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def shown(value: Any) -> str:
    """A number or a text as a person reads it; a dash for nothing."""
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

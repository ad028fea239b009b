"""docs/numbers.md, and the table between two markers of the README: both made of records alone."""

import sys
import textwrap
from collections import Counter

from arc_helpers.runs import atomic_write_text
from benchmarks.claims.run import check_commits
from benchmarks.claims.schema import (
    PLACES,
    ROOT,
    Published,
    Record,
    RecordError,
    Status,
    Value,
    read_published,
    read_records,
)

BEGIN, END = "<!-- numbers: written by `make numbers` -->", "<!-- end of numbers -->"
VERDICTS: dict[Status, str] = {
    "met": "✓ met",
    "missed": "✗ **missed**",
    "measured": "no bound",
    "not measured": "– not measured",
}
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit
HEADINGS = {"all": "The suite as a whole", "kaggle": "Kaggle"}
WORDS = ("met", "missed", "measured without a bound", "not measured")
HEAD = """\
# Numbers

Every claim of this repository that is a measured number, one a row, and whether it holds. Written by `make numbers`
from the records in [benchmarks/results](../benchmarks/results); how one is measured and added is in
[benchmarks/README.md](../benchmarks/README.md). {counts}

In brackets: a 95 % interval. *Asked*: a bound written down before; *aim*: what was hoped for, and missing one is a
miss, too. *Beside it*: a control or a rival, measured in the same way. *By hand*: typed from an earlier measurement,
to be replaced when it is next measured. A command links to its record, which has all of it. On a CPU unless a GPU is
named.
"""
OTHERS = """\
## Published by others

None of these was measured here. They are for *all* tasks of a set, mostly with far more compute.

"""


def pages(records: dict[str, Record]) -> dict[str, str]:
    """The text of each file that is made of records, by its path in the repository."""
    return {"docs/numbers.md": numbers(records), "README.md": readme(records)}


def write_numbers() -> int:
    records = read_records()
    check_commits(records)
    for path, text in pages(records).items():
        atomic_write_text(ROOT / path, text)
    print(f"docs/numbers.md and the README's table are written, from {len(records)} records", file=sys.stderr)
    return 0


def numbers(records: dict[str, Record]) -> str:
    counted = Counter(record.status for record in records.values())
    counts = ", ".join(f"{counted[status]} {word}" for status, word in zip(VERDICTS, WORDS, strict=True))
    parts = [HEAD.format(counts=f"Of {len(records)} claims: {counts}.")]
    for place in PLACES:
        here = {name: record for name, record in records.items() if record.place == place}
        if here:
            parts.append(f"## {_heading(place)}\n\n{_table(here)}{_notes(here)}")
    return "\n".join([*parts, _published()])


def readme(records: dict[str, Record]) -> str:
    """The README with its table made anew. Raises RecordError where it lacks the markers, or rows share a place."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RecordError(f"README.md: must have one line {BEGIN} and after it one line {END}")
    chosen = sorted((r.readme, name) for name, r in records.items() if r.readme)
    places = [place for place, _ in chosen]
    if twice := [name for place, name in chosen if places.count(place) > 1]:
        raise RecordError(f"{twice[-1]}.json: readme: another record has the same place, {twice[0]}.json")
    rows = [_row(_first(records[name])) for _, name in chosen]
    table = "\n".join(["| claim | measured | beside it | verdict |", "|---|---|---|---|", *rows])
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _first(record: Record) -> Record:
    """The record with the first number measured and the first beside it: enough for a front page."""
    measured = [value for value in record.values if value.role == "measured"]
    beside = [value for value in record.values if value.role != "measured"]
    return record.model_copy(update={"values": measured[:1] + beside[:1]})


def _row(record: Record, *more: str) -> str:
    cells = [record.claim, _values(record, "measured"), _values(record, "control", "rival"), VERDICTS[record.status]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') or '–' for cell in (*cells, *more))} |"


def _heading(place: str) -> str:
    if place in HEADINGS:
        return HEADINGS[place]
    return f"[{place}](gallery/{place}.md)"


def _table(records: dict[str, Record]) -> str:
    lines = ["| claim | measured | beside it | verdict | when | command |", "|---|---|---|---|---|---|"]
    for name, record in records.items():
        lines.append(_row(record, _when(record), f"[`{_short(record.command)}`](../benchmarks/results/{name}.json)"))
    return "\n".join(lines) + "\n"


def _short(command: str) -> str:
    """A command, cut where a cell ends; the record has the whole."""
    return textwrap.shorten(command, 48, placeholder=" …", break_on_hyphens=False)


def _notes(records: dict[str, Record]) -> str:
    notes = [f"- *{record.claim}* {record.note}" for record in records.values() if record.note]
    return "\n" + "\n".join(notes) + "\n" if notes else ""


def _values(record: Record, *roles: str) -> str:
    if record.reason and all(value.value is None for value in record.values):
        return record.reason if "measured" in roles else ""
    return "<br>".join(_value(record, value) for value in record.values if value.role in roles)


def _value(record: Record, value: Value) -> str:
    text = f"**{shown(value.value, value.unit)}**" if value.role == "measured" else shown(value.value, value.unit)
    if value.low is not None:
        low, high = (shown(x, value.unit).removesuffix(f"{SPACE}{value.unit}") for x in (value.low, value.high))
        text += f" ({low} to {high})" if "−" in low else f" ({low}–{high})"
    text += f", n{SPACE}{value.n:,}" if value.n else ""
    for word, bound in (("asked", value.bound), ("aim", value.aim)):
        if bound:
            mark = {True: "✓", False: "✗", None: ""}[record.holds(value, bound)]
            text += f"; {word} {_bound(record, value, bound)}{SPACE}{mark}".rstrip()
    return f"{value.what}: {text}" if value.what else text


def shown(number: bool | int | float | None, unit: str = "") -> str:
    """A number with its unit as people write it: shares as per cent, three digits, a real minus."""
    if number is None or isinstance(number, bool):
        return {None: "not measured", True: "yes", False: "no"}[number]
    if unit == "%":
        text = f"{100 * number:.1f}"
    elif isinstance(number, int) or abs(number) >= 1000:
        text = f"{number:,.0f}"
    else:
        text = f"{number:.3g}"
    return _plain(text, unit)


def _plain(text: str, unit: str) -> str:
    return text.replace("e-0", "e-").replace("-", "−") + f"{SPACE}{unit}" * bool(unit)


def _bound(record: Record, value: Value, bound: str) -> str:
    sign, text = bound.split(" ")
    names = {other.field: other.what for other in record.values}
    if text in names:
        limit = names[text]
    elif text in ("true", "false"):
        return {"true": "yes", "false": "no"}[text]
    else:
        limit = _plain(f"{float(text) * (100 if value.unit == '%' else 1):,g}", value.unit)
    return f"{ {'>=': '≥', '<=': '≤', '==': '='}.get(sign, sign) }{SPACE}{limit}"


def _when(record: Record) -> str:
    if record.date is None:
        return "–"
    device = record.device if record.device.startswith("GPU ") else ""
    cores = f"{record.cores} core{'s' * (record.cores > 1)}"
    seeds = f"{len(record.seeds)} seed{'s' * (len(record.seeds) > 1)}" if record.seeds else ""
    parts = [record.date, record.n or "", seeds, device or cores, "by hand" * record.by_hand]
    return "<br>".join(filter(None, parts))


def _published() -> str:
    columns = list(Published.model_fields)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(row.model_dump().values())} |" for row in read_published()]
    return OTHERS + "\n".join(lines) + "\n"

"""Numbers: records are whole, the text is made of them, and nobody types one elsewhere."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.claims import run, text
from benchmarks.claims.schema import (
    RESULTS,
    ROOT,
    RecordError,
    parse_command,
    read_published,
    read_record,
    read_records,
    write_record,
)

RECORDS = read_records()
GOOD = {
    "claim": "Importing is quick.",
    "place": "all",
    "command": "make bench NAME=import_time",
    "values": [{"what": "seconds", "field": "seconds", "unit": "s", "bound": "<= 0.3", "value": 0.1}],
    "status": "met",
    "device": "a processor",
    "cores": 2,
    "date": "2026-11-28",
    "commit": "0123456789ab",
}
UNIT = r"(%|×|k?s|ms|min|minutes?|seconds?|hours?|h|[KMGT]i?B|[kM]|points?|nats|tokens?|cores?|core-minutes)"


def write(folder: Path, name: str = "good", **changes) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not None}))
    return path


# --- records and text agree


@pytest.mark.parametrize("path", ["docs/numbers.md", "README.md"])
def test_text_is_made_of_records(path):
    assert text.pages(RECORDS)[path] == (ROOT / path).read_text(encoding="utf-8"), "run `make numbers`"


def test_records_are_written_as_the_writer_writes_them(tmp_path):
    for name, record in RECORDS.items():
        write_record(tmp_path / "again.json", record)
        assert (tmp_path / "again.json").read_bytes() == (RESULTS / f"{name}.json").read_bytes(), name


def test_records_were_measured_at_known_commits():
    run.check_commits(RECORDS)


def test_the_readme_is_short_and_has_no_number_of_its_own():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    own = readme.split(text.BEGIN)[0] + readme.split(text.END)[1]
    assert re.findall(rf"\b\d[\d.,]*\s?{UNIT}(?!\w)", own) == []
    assert len(readme.split()) <= 900
    assert sum(record.readme is not None for record in RECORDS.values()) <= 9


def could_print(script: Path, field: str) -> bool:
    """Whether a script, or one that it runs, holds the field's name: whole, or as an f-string with a part of it."""
    source = script.read_text(encoding="utf-8")
    beside = [
        p for p in script.parent.glob("*.py") if re.search(rf"^(import|from) {p.stem}\b|\b{p.name}", source, re.M)
    ]
    nodes = [n for p in {script, *beside} for n in ast.walk(ast.parse(p.read_text(encoding="utf-8")))]
    whole = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    for node in (n for n in nodes if isinstance(n, ast.JoinedStr)):
        known = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        pattern = "".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in node.values)
        if re.fullmatch(pattern, field) and (re.search("[a-z]{2}", known) or whole & set(field.split("_"))):
            return True
    return field in whole


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_names_fields_that_its_script_prints(name):
    script, _ = parse_command(RECORDS[name].command)
    for value in RECORDS[name].values:
        for field in filter(None, (value.field, value.n_field, *(value.interval or ()))):
            assert script, "only benchmarks print fields"
            assert could_print(ROOT / f"benchmarks/{script}.py", field), f"{script}.py prints no {field}"


def test_a_field_that_no_script_prints_is_found():
    sudoku, hybrid = ROOT / "benchmarks/trm_sudoku.py", ROOT / "benchmarks/hybrid_ablation.py"
    assert could_print(sudoku, "exact_low") and could_print(hybrid, "random_llm_variants")
    assert not could_print(sudoku, "exactness") and not could_print(hybrid, "random_llm_solved")


# --- bad records: one line with the file's name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claim": None}, "bad.json: claim: Field required"),
        ({"claims": "x"}, "bad.json: claims: Extra inputs are not permitted"),
        ({"place": "09_nowhere"}, "bad.json: place: must be one of all, 00_base_model"),
        ({"command": "make bench NAME=nothing"}, "there is no script benchmarks/nothing.py"),
        ({"command": 'make bench NAME=score P="--sets x"'}, "score.py has no option --sets"),
        ({"command": 'make bench NAME=score P="--set x'}, "No closing quotation"),
        ({"command": "make bench NAME=score --set x"}, "must be make bench NAME=script"),
        ({"command": "make nothing"}, "must be make bench NAME=…, a make target"),
        ({"commit": None}, "measured, but commit is missing"),
        ({"commit": "yesterday"}, "bad.json: commit: String should match pattern"),
        ({"status": "missed"}, "status 'missed': by its values and bounds it is 'met'"),
        ({"status": "not measured"}, "status 'not measured' needs a reason"),
        ({"values": []}, "bad.json: values: List should have at least 1 item"),
        ({"values": [{"what": "x", "field": None, "value": 1}]}, "has no field, which only a record by hand may lack"),
        ({"values": [{"what": "x", "field": "x", "bound": "about 3"}]}, "bound: must be one of >=, <="),
        ({"values": [{"what": "x", "field": "x", "bound": "> y"}]}, "y is no number, and no field of this record"),
        ({"values": [{"what": "x", "field": "x", "value": float("nan")}]}, "finite number"),
        ({"readme": 10}, "bad.json: readme: Input should be less than or equal to 9"),
    ],
)
def test_a_bad_record_is_one_line(tmp_path, changes, message):
    with pytest.raises(RecordError) as error:
        read_record(write(tmp_path, "bad", **changes))
    assert str(error.value).startswith("bad.json: ") and message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"claim": "a", "claim": "b"}'])
def test_a_record_that_is_no_json_object_is_one_line(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"^bad\.json: [^\n]+$"):
        read_record(tmp_path / "bad.json")


def test_a_bad_table_of_others_is_one_line(tmp_path):
    path = tmp_path / "published.yaml"
    for content, message in (("- {system: A}", r"0\.set: Field required"), ("- {", "while parsing")):
        path.write_text(content)
        with pytest.raises(RecordError, match=rf"^published\.yaml: {message}[^\n]*$"):
            read_published(path)


def test_an_unknown_commit_is_one_line(tmp_path, monkeypatch):
    records = {name: read_record(write(tmp_path, name, commit=commit)) for name, commit in
               {"known": "aaaaaaaaaaaa", "rebased": "bbbbbbbbbbbb"}.items()}  # fmt: skip
    history = {"rev-list": "a" * 40, "rev-parse": "false"}
    monkeypatch.setattr(run, "_git", lambda verb, *_: history[verb])
    with pytest.raises(RecordError, match=r"^rebased\.json: was measured at an unknown commit, bbbbbbbbbbbb: .+$"):
        run.check_commits(records)
    records["rebased"].commit = "aaaaaaaaaaaa-dirty"
    with pytest.raises(RecordError, match="unknown commit, aaaaaaaaaaaa-dirty"):
        run.check_commits(records)
    history["rev-parse"] = "true"  # a shallow clone cannot tell
    run.check_commits(records)


def test_readme_places_are_not_shared(tmp_path):
    records = {name: read_record(write(tmp_path, name, readme=1)) for name in ("one", "two")}
    with pytest.raises(RecordError, match=r"^two\.json: readme: another record has the same place, one\.json$"):
        text.readme(records)


# --- verdicts and cells


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"bound": "<= 1", "value": 1}, "met"),
        ({"bound": "<= 1", "value": 1, "aim": "< 1"}, "missed"),
        ({"bound": "== true", "value": False}, "missed"),
        ({"bound": "within 0.2", "value": -0.1}, "met"),
        ({"bound": "within 0.2", "value": -0.3}, "missed"),
        ({"value": 1}, "measured"),
        ({"bound": "<= 1", "value": None}, "not measured"),
    ],
)
def test_a_verdict_follows_from_values_and_bounds(tmp_path, value, status):
    values = [{"what": "x", "field": "x", **value}]
    assert read_record(write(tmp_path, values=values, status=status, reason="none")).status == status


def test_a_bound_may_be_the_control(tmp_path):
    ours, control = {"what": "ours", "field": "a", "bound": "> b"}, {"what": "control", "field": "b", "value": 2}
    assert read_record(write(tmp_path, values=[{**ours, "value": 3}, control])).status == "met"
    assert read_record(write(tmp_path, values=[{**ours, "value": 2}, control], status="missed")).status == "missed"


@pytest.mark.parametrize(
    ("number", "unit", "shown"),
    [
        (0.983, "%", "98.3 %"),
        (1830, "×", "1,830 ×"),
        (1.2e-14, "", "1.2e−14"),
        (2.7e-6, "", "2.7e−6"),
        (-3e-6, "nats", "−3e−6 nats"),
        (True, "", "yes"),
        (None, "s", "not measured"),
    ],
)
def test_numbers_as_people_write_them(number, unit, shown):
    assert text.shown(number, unit).replace(text.SPACE, " ") == shown


def test_a_row_shows_bounds_misses_and_controls(tmp_path):
    values = [
        {
            "what": "ours",
            "field": "a",
            "unit": "%",
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "n": 1000,
            "bound": ">= 0.4",
        },
        {"what": "speed", "field": "c", "unit": "×", "value": -1.5, "aim": "> 2"},
        {"what": "rival", "field": "b", "unit": "%", "value": 0.3, "role": "rival"},
    ]
    record = read_record(write(tmp_path, values=values, status="missed", claim="A | B."))
    assert text._row(record).replace(text.SPACE, " ") == (
        "| A \\| B. | ours: **50.0 %** (40.0–60.0), n 1,000; asked ≥ 40 % ✓<br>speed: **−1.5 ×**; aim > 2 × ✗ "
        "| rival: 30.0 % | ✗ **missed** |"
    )


# --- the runner


def test_bench_writes_the_records_of_its_command_alone(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(run, "current_commit", lambda: "0123456789ab")
    values = [{"what": "seconds", "field": "seconds", "bound": "<= 0.3"}]
    write(tmp_path, values=values, status="not measured", reason="to be run", date=None, by_hand=True, readme=3)
    other = write(tmp_path, "other", command="make bench NAME=padding")
    lacking = write(
        tmp_path, "lacking", values=[{"what": "x", "field": "x"}], status="not measured", reason="to be run"
    )
    before = other.read_bytes(), lacking.read_bytes()
    assert run.bench("import_time", [], tmp_path) == 1
    record = read_record(tmp_path / "good.json")
    assert 0 < record.values[0].value < 0.3 and record.status == "met" and record.readme == 3
    assert not record.by_hand and record.reason is None and record.cpu_seconds > 0 and record.date > "2026-11-01"
    assert (other.read_bytes(), lacking.read_bytes()) == before
    out, err = capfd.readouterr()
    assert json.loads(out.splitlines()[-1])["passed"] is True
    assert "lacking.json: the command did not print x; it printed seconds, torch_loaded" in err


def test_what_was_measured_is_not_overwritten_by_nothing(tmp_path):
    measured = read_record(write(tmp_path))
    with pytest.raises(RecordError, match=r"^stays as it was: the command printed no number for seconds$"):
        run.filled(measured, {"seconds": "not measured"}, {})
    values = [{"what": "memory", "field": "gib"}]
    waiting = read_record(write(tmp_path, values=values, status="not measured", reason="no GPU was at hand"))
    assert run.filled(waiting, {"gib": None}, {}).reason == "no GPU was at hand"
    assert run.disagreements(measured, {"seconds": None}) == ["seconds: no number, and 0.1 in the record"]


def test_bench_says_what_is_wrong_in_one_line():
    command = [sys.executable, "-m", "benchmarks.claims", "run", "nothing"]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 1
    assert re.fullmatch(r"NAME=nothing: there is no such script; there are .*\n", failed.stderr)
    with pytest.raises(RecordError, match="its last line is no JSON object, so nothing was recorded: done"):
        run.last_line("demo", "done\n")


def test_a_new_run_is_held_against_the_records_interval(tmp_path):
    values = [
        {"what": "share", "field": "a", "value": 0.5, "low": 0.4, "high": 0.6},
        {"what": "error", "field": "b", "value": 1e-8, "bound": "<= 1e-6"},
        {"what": "same", "field": "c", "value": True},
    ]
    record = read_record(write(tmp_path, values=values))
    assert run.disagreements(record, {"a": 0.45, "b": 1e-7, "c": True}) == []
    assert run.disagreements(record, {"a": 0.7, "b": 1e-5, "c": False}) == [
        "a: 0.7 is outside 0.4 to 0.6",
        "b: 1e-05, and 1e-08 in the record: <= 1e-6",
        "c: False in place of True",
    ]


# --- by hand: make bench-check

SECONDS = 300
SHORT = sorted(
    {
        r.command
        for r in RECORDS.values()
        if not r.by_hand and r.seconds and max(r.seconds, r.cpu_seconds or 0) <= SECONDS
    }
)


@pytest.mark.bench
@pytest.mark.timeout(10 * SECONDS)
@pytest.mark.parametrize("command", SHORT)
def test_the_command_prints_the_recorded_numbers(command):
    name, options = parse_command(command)
    printed = run.last_line(name, run.run_script(name, options)[1])
    same = {key: record for key, record in RECORDS.items() if record.command == command}
    found = {key: run.disagreements(record, printed) for key, record in same.items()}
    assert not any(found.values()), found

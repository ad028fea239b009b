"""A record: one claim, the command that measures it, and what the command printed.

benchmarks/results/<name>.json. Written by hand are the claim, the command, and which printed fields are held against
which bounds; the numbers, and where, when and at which commit they were measured, by `make bench` (claims/run.py).
A record that was typed from elsewhere says `"by_hand": true`.
"""

import json
import math
import operator
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from arc_helpers.arc.json_file import parse_json
from arc_helpers.runs import atomic_write_text

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
PUBLISHED = ROOT / "benchmarks/published.yaml"
#: headings of docs/numbers.md, in order; `all`: the suite as a whole
PLACES = ("all", *(path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))), "kaggle")
Status = Literal["met", "missed", "measured", "not measured"]
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "within": lambda value, limit: abs(value) <= limit,
}


class RecordError(ValueError):
    """A record that cannot be used; one line with the file's name."""


def _bound(text: str) -> str:
    sign, _, limit = text.partition(" ")
    if sign not in OPERATORS or not re.fullmatch(r"\S+", limit):
        raise ValueError(
            f"must be one of {', '.join(OPERATORS)}, a blank, and a number, true, or another value's field"
        )
    return text


def _place(text: str) -> str:
    if text not in PLACES:
        raise ValueError(f"must be one of {', '.join(PLACES)}")
    return text


def _number(value: Any) -> bool | int | float:
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number, true or false")
    return value


Bound = Annotated[str, AfterValidator(_bound)]
Number = Annotated[Any, AfterValidator(_number)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Value(Model):
    """One number that a command prints as `field`, with its interval, its bound and what is hoped for.

    unit: shown behind the number; "%" shows a share of 1 as per cent. role: what is measured, or what stands beside
    it. low, high: 95 % interval; printed as `<field>_low` and `<field>_high`, or as the two fields of `interval`.
    n_field: where the command prints n. field: null only by hand, where no command prints the number.
    """

    what: str
    field: str | None
    role: Literal["measured", "control", "rival"] = "measured"
    unit: str = ""
    bound: Bound | None = None
    aim: Bound | None = None
    interval: tuple[str, str] | None = None
    n_field: str | None = None
    value: Number | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Record(Model):
    """See the module. Times are seconds; cpu_seconds is of all processes of the run together."""

    claim: str
    place: Annotated[str, AfterValidator(_place)]
    command: str
    values: list[Value] = Field(min_length=1)
    status: Status
    reason: str | None = None
    note: str | None = None
    readme: int | None = Field(None, ge=1, le=9)
    n: str | None = None
    seeds: list[int] = []
    device: str | None = None
    cores: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, ge=0)
    cpu_seconds: float | None = Field(None, ge=0)
    date: str | None = Field(None, pattern=r"^\d{4}-\d\d-\d\d$")
    commit: str | None = Field(None, pattern=r"^[0-9a-f]{7,40}(-dirty)?$")
    by_hand: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "Record":
        for value in self.values:
            for bound in filter(None, (value.bound, value.aim)):
                self.holds(value, bound)
            if value.field is None and not self.by_hand:
                raise ValueError(f"{value.what!r} has no field, which only a record by hand may lack")
        if self.status == "not measured":
            if not self.reason:
                raise ValueError("status 'not measured' needs a reason")
        elif missing := [name for name in ("device", "cores", "date", "commit") if getattr(self, name) is None]:
            raise ValueError(f"measured, but {', '.join(missing)} is missing")
        if self.status != self.judged():
            raise ValueError(f"status {self.status!r}: by its values and bounds it is {self.judged()!r}")
        parse_command(self.command)
        return self

    def holds(self, value: Value, bound: str) -> bool | None:
        """Whether a value keeps to a bound; None where one of the two has not been measured."""
        sign, text = bound.split(" ")
        others = {other.field: other.value for other in self.values}
        try:
            limit = others[text] if text in others else json.loads(text)
        except ValueError:
            raise ValueError(f"{bound!r}: {text} is no number, and no field of this record") from None
        return None if value.value is None or limit is None else bool(OPERATORS[sign](value.value, limit))

    def judged(self) -> Status:
        """The status that the values deserve. A missed aim is a miss, too; without any bound there is no verdict."""
        if any(value.value is None for value in self.values):
            return "not measured"
        verdicts = [self.holds(v, bound) for v in self.values for bound in (v.bound, v.aim) if bound]
        return "measured" if not verdicts else "met" if all(verdicts) else "missed"


class Published(Model):
    """A result of others; `source` is a Markdown link."""

    system: str
    set: str
    score: str
    size: str
    compute: str
    source: Annotated[str, Field(pattern=r"^\[.+\]\(https://.+\)$")]


def parse_command(command: str) -> tuple[str, list[str]]:
    """The script (`trm_sudoku`; empty for what is no benchmark) and its words. Raises ValueError.

    Known are `make bench NAME=… P="…"`, other targets of the Makefile, `pytest …` and `python -m arc_helpers …`.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"command {command!r}: {error}") from None
    while words and re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):  # environment
        words = words[1:]
    if words[:2] == ["make", "bench"]:
        given = dict(word.split("=", 1) for word in words[2:] if "=" in word)
        if set(given) - {"NAME", "P"} or "NAME" not in given or len(given) != len(words) - 2:
            raise ValueError(f'command {command!r}: must be make bench NAME=script, and P="its options"')
        script = ROOT / "benchmarks" / f"{given['NAME']}.py"
        if not script.is_file():
            raise ValueError(f"command {command!r}: there is no script benchmarks/{given['NAME']}.py")
        options = shlex.split(given.get("P", ""))
        for option in options:
            if option.startswith("--") and f'"{option.split("=")[0]}"' not in script.read_text(encoding="utf-8"):
                raise ValueError(f"command {command!r}: {script.name} has no option {option.split('=')[0]}")
        return given["NAME"], options
    if words[:1] == ["make"] and len(words) > 1:
        target = rf"^{re.escape(words[1])}:"
        if re.search(target, (ROOT / "Makefile").read_text(encoding="utf-8"), re.M):
            return "", words
    elif words[:1] == ["pytest"] or words[:3] == ["python", "-m", "arc_helpers"]:
        return "", words
    raise ValueError(f"command {command!r}: must be make bench NAME=…, a make target, pytest or python -m arc_helpers")


def one_line(error: ValidationError) -> str:
    """Where the first fault is, and what."""
    first = error.errors()[0]
    where = "".join(f"{part}." for part in first["loc"])[:-1]
    return f"{where}: " * bool(where) + first["msg"].removeprefix("Value error, ")


def read_record(path: Path) -> Record:
    """Raises RecordError: no JSON, a field that is missing, unknown or of the wrong kind, an unknown script."""
    try:
        return Record.model_validate(parse_json(path.read_bytes()))
    except OSError as error:
        raise RecordError(f"{path.name}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise RecordError(f"{path.name}: {one_line(error)}") from None
    except ValueError as error:
        raise RecordError(f"{path.name}: {error}") from None


def read_records(folder: Path = RESULTS) -> dict[str, Record]:
    """All records by name, in order of the names."""
    return {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}


def read_published(path: Path = PUBLISHED) -> list[Published]:
    """Raises RecordError, one line."""
    try:
        return TypeAdapter(list[Published]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise RecordError(f"{path.name}: {one_line(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name}: {' '.join(str(error).split())}") from None


def write_record(path: Path, record: Record) -> None:
    """Fields that are as they would be without being named are left out."""
    values = record.model_dump(exclude_defaults=True)
    atomic_write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

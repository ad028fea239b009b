"""How a task is spelled in tokens, and all that follows from it: lengths, what an answer may hold, how it is read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from arc_helpers.arc import MAX_SIDE, GridError, Pair, Task, string_to_grid
from arc_helpers.lm.vocabulary import TokenizerError, symbol_ids
from arc_helpers.runs.checkpoint import atomic_write_json

DIGITS, ROW_END = tuple("0123456789"), "\n"
START, END, PAD = "<start>", "<end>", "<pad>"  # whatever the tokenizer calls them
FILE = "prompt_form.json"  # in a model folder: the form that the model was trained in
REMEDY = "use a tokenizer with a token for each digit and for a newline (TinyLlama, Qwen2, Llama 3, models/arc-micro)"
MADE_FOR_ARC = 96  # tokens, added ones apart, up to which a tokenizer was made for grids and reads no other text
_SPELLING = ("name", "prefix", "before_input", "between", "after_output", "closes_last_row")  # what a file holds


@dataclass(frozen=True)
class PromptForm:
    """One spelling of tasks, as symbols, and the token id of each symbol.

        prefix  before_input ROWS between ROWS after_output  …  before_input ROWS between │ ROWS after_output

    Everything left of │ is the prompt; ROWS are a grid's cells, a symbol each, with a row end behind every row, or
    between rows only where `closes_last_row` is False. A prompt is built by joining ids, never by tokenising a text,
    so no merge can hide a cell.

    ids: {symbol: token id}; left out, symbols are numbered as they come, which is all that lengths need. Two symbols
    may share a token (`<pad>` and `<end>`).
    """

    name: str
    prefix: tuple[str, ...]  # opens a document
    before_input: tuple[str, ...]
    between: tuple[str, ...]  # an input and its output
    after_output: str = END  # closes every output; a model that writes it has answered
    closes_last_row: bool = True
    ids: Mapping[str, int] = field(default_factory=dict)
    why: str = field(default="as given", compare=False)  # how it was chosen

    def __post_init__(self):
        if not self.ids:
            object.__setattr__(self, "ids", {symbol: i for i, symbol in enumerate(self.symbols)})

    @classmethod
    def from_tokenizer(cls, tokenizer, name: str = "tokenizer", form: "str | PromptForm" = "suite") -> "PromptForm":
        """A form, one of `FORMS` or of your own, with the ids of a tokenizer. `<start>` is left out where that has no
        such token, and it pads with the end where it has no token for that.

        TokenizerError, one line with all that is missing, where the tokenizer cannot spell it."""
        form, missing = _fitted(known_form(form) if isinstance(form, str) else form, tokenizer)
        if missing == [END]:
            raise TokenizerError(f"{name}: no end-of-text token: set tokenizer.eos_token")
        if missing:
            what = ", ".join(map(repr, missing if len(missing) < 16 else [*missing[:12], "…"]))
            others = [other.name for other in _spelled(tokenizer)]
            remedy = f"it can spell the form {' or '.join(others)}" if others else REMEDY
            raise TokenizerError(
                f"{name}: it has no token of its own for {what}; the prompt form {form.name!r} needs one: {remedy}"
            )
        return form

    @classmethod
    def choose(
        cls, tokenizer, name: str = "tokenizer", *, asked: str = "auto", folders: Iterable[Path] = ()
    ) -> "PromptForm":
        """The form of a model: the one that is `asked` for; with "auto" what the first `prompt_form.json` in its
        folders says;
        else, where the tokenizer was made for ARC, the form that uses most of its tokens; else the suite's."""
        if asked != "auto":
            return replace(cls.from_tokenizer(tokenizer, name, asked), why="as asked")
        for folder in folders:
            if (folder / FILE).is_file():
                return replace(cls.from_tokenizer(tokenizer, name, cls.load(folder)), why=f"by {FILE}")
        spelled = _spelled(tokenizer)
        if tokenizer.vocab_size <= MADE_FOR_ARC and spelled:
            return replace(max(spelled, key=lambda form: len(form.token_ids)), why="by its tokenizer")
        return replace(cls.from_tokenizer(tokenizer, name), why="nothing says otherwise")

    @classmethod
    def load(cls, folder: str | Path) -> "PromptForm":
        """Read `prompt_form.json`: the name of a known form, or all of a form of your own. ValueError, one line."""
        path = Path(folder) / FILE
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: is no JSON ({error})") from None
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise ValueError(f'{path}: must be an object with a "name"')
        if set(given) == {"name"}:
            return known_form(given["name"], str(path))
        for field_name in _SPELLING[1:4]:
            if not _are_symbols(given.get(field_name)):
                raise ValueError(f"{path}: {field_name} must be a list of symbols")
        if set(given) - set(_SPELLING) or not isinstance(given.get("after_output", END), str):
            raise ValueError(f"{path}: may hold {', '.join(_SPELLING)}; after_output is one symbol")
        prefix, before_input, between = (tuple(given[field_name]) for field_name in _SPELLING[1:4])
        after_output, closes = given.get("after_output", END), bool(given.get("closes_last_row", True))
        return cls(given["name"], prefix, before_input, between, after_output, closes)

    def save(self, folder: str | Path) -> Path:
        """Write `prompt_form.json` into a model folder."""
        known = FORMS.get(self.name)
        same = known is not None and all(getattr(known, f) == getattr(self, f) for f in _SPELLING if f != "prefix")
        spelling = {"name": self.name} if same else {f: getattr(self, f) for f in _SPELLING}
        path = Path(folder) / FILE
        atomic_write_json(path, spelling)
        return path

    @property
    def description(self) -> str:
        """The form, how it was chosen and how a task looks in it: one line."""
        prefix = "".join(self.prefix)
        prefix = prefix if len(prefix) < 20 else f"{prefix[:8]}…{prefix[-3:]}"
        pair = f"{''.join(self.before_input)} ROWS {''.join(self.between)} ROWS {self.after_output}"
        last = "every row closed" if self.closes_last_row else "no row end behind the last row"
        shown = f"{prefix} {pair} {pair} …".strip().replace(ROW_END, "↵")
        return f"prompt form {self.name} ({self.why}): {shown} ({last})"

    @property
    def symbols(self) -> list[str]:
        """Every symbol in use, without repeats."""
        marks = (*self.before_input, *self.between, PAD, *self.prefix, self.after_output)
        return list(dict.fromkeys((*DIGITS, ROW_END, *marks)))

    @cached_property
    def token_ids(self) -> list[int]:
        """Every id in use, without repeats: what trimming a model's vocabulary keeps."""
        return list(dict.fromkeys(self.ids[symbol] for symbol in self.symbols))

    @property
    def digits(self) -> tuple[int, ...]:
        """Ten ids, index = colour."""
        return tuple(self.ids[digit] for digit in DIGITS)

    @property
    def row_end(self) -> int:
        """The id behind, or between, the rows of a grid."""
        return self.ids[ROW_END]

    @property
    def end(self) -> int:
        """The id that closes an output."""
        return self.ids[self.after_output]

    @property
    def pad(self) -> int:
        """The id that fills a batch; it is never looked at."""
        return self.ids[PAD]

    @property
    def start(self) -> int | None:
        """The tokenizer's id for the beginning of a document, where this form uses it."""
        return self.ids.get(START)

    @cached_property
    def answer_ids(self) -> list[int]:
        """The ids that may stand in an answer: ten digits, row end, end."""
        return [*self.digits, self.row_end, self.end]

    @cached_property
    def prefix_ids(self) -> np.ndarray:
        """int64 [n]: what opens a document."""
        return self._ids(self.prefix)

    def trimmed(self) -> "PromptForm":
        """The same form under the ids 0, 1, 2, … of a model whose vocabulary is cut to `token_ids`."""
        new = {old: i for i, old in enumerate(self.token_ids)}
        return replace(self, ids={symbol: new[self.ids[symbol]] for symbol in self.symbols})

    def grid_ids(self, grid: np.ndarray) -> np.ndarray:
        """int64 [n]: the cells row by row, with the row ends."""
        grid = np.asarray(grid)
        rows = np.full((grid.shape[0], grid.shape[1] + 1), self.row_end, dtype=np.int64)
        rows[:, :-1] = self._ids(DIGITS)[grid]
        return rows.ravel()[: self.grid_length(grid.shape)]

    def question_ids(self, grid: np.ndarray) -> np.ndarray:
        """int64 [n]: an input with what stands before and behind it."""
        return np.concatenate([self._ids(self.before_input), self.grid_ids(grid), self._ids(self.between)])

    def output_ids(self, grid: np.ndarray) -> np.ndarray:
        """int64 [n]: an output with its end."""
        return np.append(self.grid_ids(grid), self.end)

    def answer_grid(self, token_ids: Iterable[int]) -> np.ndarray | None:
        """The grid that generated ids spell up to the first end; None where they spell no valid grid."""
        ids = [int(t) for t in token_ids]
        if self.end not in ids:
            return None
        text = self.decode(ids[: ids.index(self.end)])
        try:
            return string_to_grid(text.removesuffix(ROW_END) if self.closes_last_row else text)
        except GridError:
            return None

    def symbol(self, token_id: int) -> str:
        """What a token stands for; an id in angle brackets where it is none of this form's."""
        return self._symbol_of.get(int(token_id), f"<{int(token_id)}>")

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of a token sequence."""
        return "".join(self.symbol(t) for t in token_ids)

    def grid_length(self, shape: Sequence[int]) -> int:
        """Tokens of a grid [H, W]."""
        return shape[0] * (shape[1] + 1) - (not self.closes_last_row)

    def output_length(self, shape: Sequence[int]) -> int:
        """Tokens of an output [H, W], its end included."""
        return self.grid_length(shape) + 1

    def length(self, pairs: Sequence[Pair]) -> int:
        """Tokens of a document of labelled pairs, turned by 90 degrees where that makes it longer."""
        grids = [grid for pair in pairs for grid in (pair.input, pair.output)]
        rows = max(sum(grid.shape[axis] for grid in grids) for axis in (0, 1))
        inside = sum(grid.size for grid in grids) + rows - (0 if self.closes_last_row else len(grids))
        return len(self.prefix) + inside + len(pairs) * (len(self.before_input) + len(self.between) + 1)

    def answer_room(self, task: Task, test_index: int) -> int:
        """How many tokens an answer may take: what the demonstrations' outputs suggest, and half as much again."""
        outputs = [pair.output for pair in task.train]
        growth = max(pair.output.size / pair.input.size for pair in task.train)
        cells = max(max(o.size for o in outputs), growth * task.test[test_index].input.size)
        rows = max(max(o.shape) for o in outputs) + max(task.test[test_index].input.shape)
        return min(self.output_length((MAX_SIDE, MAX_SIDE)), int(1.5 * cells) + rows + 1)

    def _ids(self, symbols: Sequence[str]) -> np.ndarray:
        return np.array([self.ids[symbol] for symbol in symbols], dtype=np.int64)

    @cached_property
    def _symbol_of(self) -> dict[int, str]:
        # where symbols share a token, the one that is spelled wins over padding
        return {self.ids[symbol]: symbol for symbol in sorted(self.symbols, key=lambda symbol: symbol != PAD)}


_LETTERS = tuple("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyz")  # without I, O, i and o
_USER, _ASSISTANT = ("<|im_start|>", "user", ROW_END), ("<|im_end|>", "<|im_start|>", "assistant", ROW_END)

#: the forms that are known, before they meet a tokenizer: the suite's; that of the ARChitects' models of 2024
#: (`ArcFormatter_premix_3`: Mistral-NeMo-Minitron-8B, Llama-3.2-3B); NVARC's of 2025 (`QwenFormatter`: Qwen3-4B)
FORMS = {
    form.name: form
    for form in (
        PromptForm("suite", prefix=(START,), before_input=("I",), between=("O",)),
        PromptForm("architects", prefix=(START, *_LETTERS), before_input=("I",), between=(*"+/-=", "O")),
        PromptForm("nvarc", (), _USER, _ASSISTANT, after_output="<|im_end|>", closes_last_row=False),
    )
}


def known_form(name: str, where: str = "prompt_form") -> PromptForm:
    """The form of this name. ValueError, one line, where there is none."""
    if name not in FORMS:
        raise ValueError(f"{where}: {name!r} is not known: allowed are {', '.join(FORMS)}")
    return FORMS[name]


def _fitted(form: PromptForm, tokenizer) -> tuple[PromptForm, list[str]]:
    """A form with the ids of a tokenizer, and the symbols that have no token of their own there."""
    ids = symbol_ids(tokenizer, [symbol for symbol in form.symbols if symbol not in (START, END, PAD)])
    special = {START: tokenizer.bos_token_id, END: tokenizer.eos_token_id}
    ids |= {symbol: token for symbol, token in special.items() if token is not None}
    if START not in ids:
        form = replace(form, prefix=tuple(symbol for symbol in form.prefix if symbol != START), ids={})
    needed = [symbol for symbol in form.symbols if symbol != PAD]
    tokens = [ids[symbol] for symbol in needed if symbol in ids]
    missing = [symbol for symbol in needed if symbol not in ids or tokens.count(ids[symbol]) > 1]
    pad = ids.get(form.after_output) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return (form, missing) if missing else (replace(form, ids={PAD: pad, **{s: ids[s] for s in needed}}), [])


def _spelled(tokenizer) -> list[PromptForm]:
    """The known forms that a tokenizer can spell."""
    fits = (_fitted(form, tokenizer) for form in FORMS.values())
    return [form for form, missing in fits if not missing]


def _are_symbols(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(symbol, str) and symbol for symbol in value)

"""How a task is spelled in tokens, and all that follows from it: lengths, what an answer may hold, how it is read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from arc_helpers.arc import MAX_SIDE, GridError, Pair, Task, string_to_grid
from arc_helpers.lm.vocabulary import GridVocabulary

DIGITS, ROW_END = tuple("0123456789"), "\n"
START, END, PAD = "<start>", "<end>", "<pad>"  # whatever the tokenizer calls them


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

    def __post_init__(self):
        if not self.ids:
            object.__setattr__(self, "ids", {symbol: i for i, symbol in enumerate(self.symbols)})

    @classmethod
    def from_tokenizer(cls, tokenizer, name: str = "tokenizer") -> "PromptForm":
        """The suite's form with the ids of a tokenizer. TokenizerError, one line, where that cannot spell grids."""
        found = GridVocabulary.from_tokenizer(tokenizer, name)
        ids = {**dict(zip(DIGITS, found.digits, strict=True)), ROW_END: found.row_end}
        ids |= {"I": found.input_mark, "O": found.output_mark, PAD: found.pad, END: found.end}
        if found.start is None:
            return replace(FORMS["suite"], prefix=(), ids=ids)
        return replace(FORMS["suite"], ids={**ids, START: found.start})

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


#: the spellings that are known, before they meet a tokenizer
FORMS = {form.name: form for form in (PromptForm("suite", prefix=(START,), before_input=("I",), between=("O",)),)}

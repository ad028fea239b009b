"""The few tokens that spell grids, found in any Hugging Face tokenizer."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

ROW_END, INPUT_MARK, OUTPUT_MARK = "\n", "I", "O"
SPELLING = [*"0123456789", ROW_END, INPUT_MARK, OUTPUT_MARK]
_CONTEXT = "0" + ROW_END  # read before the probe, so that a dummy prefix space (SentencePiece) is left behind
_DIGIT_PAIRS = [a + b for a in SPELLING[:10] for b in SPELLING[:10]]
# every digit beside every digit, every row end and both marks: a merge of any two neighbours shows
_PROBE = "".join(f"{INPUT_MARK}{ab}{ROW_END}{ab[::-1]}{ROW_END}{OUTPUT_MARK}{ab[0]}{ROW_END}" for ab in _DIGIT_PAIRS)


class TokenizerError(ValueError):
    """The tokenizer cannot spell grids with one token a cell."""


@dataclass(frozen=True)
class GridVocabulary:
    """Token ids of the grid alphabet: one id a cell, one a row end, one a grid marker, one for the end.

    A prompt is built by joining these ids, never by tokenising a text, so no merge can hide a cell.
    """

    digits: tuple[int, ...]  # ten ids, index = colour
    row_end: int
    input_mark: int
    output_mark: int
    end: int  # closes every output grid
    pad: int
    start: int | None = None  # begins a document, where the tokenizer has such a token

    @classmethod
    def from_tokenizer(cls, tokenizer, name: str = "tokenizer") -> "GridVocabulary":
        """Find the ids, or raise TokenizerError with the remedy where digits merge or row ends are lost."""
        head = tokenizer.encode(_CONTEXT, add_special_tokens=False)
        ids = tokenizer.encode(_CONTEXT + _PROBE, add_special_tokens=False)[len(head) :]
        remedy = "use a tokenizer that splits digits and keeps newlines (TinyLlama, Qwen2, models/arc-micro)"
        if len(ids) != len(_PROBE):
            fault = _diagnose(tokenizer, head)
            raise TokenizerError(f"{name}: {fault}; one token a cell is needed: {remedy}")
        found: dict[str, int] = {}
        for symbol, token in zip(_PROBE, ids, strict=True):
            if found.setdefault(symbol, token) != token:
                raise TokenizerError(f"{name}: {symbol!r} has a different token after another symbol: {remedy}")
        tokens = list(found.values())
        lost = [repr(s) for s, t in found.items() if t == tokenizer.unk_token_id or tokens.count(t) > 1]
        if lost:
            raise TokenizerError(f"{name}: it has no token of its own for {', '.join(sorted(lost))}: {remedy}")
        if tokenizer.eos_token_id is None:
            raise TokenizerError(f"{name}: no end-of-text token: set tokenizer.eos_token")
        end = tokenizer.eos_token_id
        return cls(
            digits=tuple(found[d] for d in "0123456789"),
            row_end=found[ROW_END],
            input_mark=found[INPUT_MARK],
            output_mark=found[OUTPUT_MARK],
            end=end,
            pad=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end,
            start=tokenizer.bos_token_id,
        )

    @property
    def token_ids(self) -> list[int]:
        """Every id in use, without repeats: at most 16."""
        ids = [*self.digits, self.row_end, self.input_mark, self.output_mark, self.pad, self.start, self.end]
        return list(dict.fromkeys(i for i in ids if i is not None))

    @property
    def answer_ids(self) -> list[int]:
        """The ids that may stand in an answer: ten digits, row end, end."""
        return [*self.digits, self.row_end, self.end]

    def trimmed(self) -> "GridVocabulary":
        """The same alphabet under the ids 0, 1, 2, … of a model whose vocabulary is cut to `token_ids`."""
        new = {old: i for i, old in enumerate(self.token_ids)}
        return replace(
            self,
            digits=tuple(new[d] for d in self.digits),
            **{f: new[getattr(self, f)] for f in ("row_end", "input_mark", "output_mark", "end", "pad")},
            start=None if self.start is None else new[self.start],
        )

    def grid_ids(self, grid: np.ndarray) -> np.ndarray:
        """int64 [H · (W + 1)]: the cells row by row, each row closed by a row end."""
        grid = np.asarray(grid)
        rows = np.full((grid.shape[0], grid.shape[1] + 1), self.row_end, dtype=np.int64)
        rows[:, :-1] = np.asarray(self.digits)[grid]
        return rows.ravel()

    def symbol(self, token_id: int) -> str:
        """What a token stands for: a digit, a newline, I, O, or a name in angle brackets."""
        names = {self.row_end: ROW_END, self.input_mark: INPUT_MARK, self.output_mark: OUTPUT_MARK}
        names |= {self.pad: "<pad>", self.end: "<end>"}
        if self.start is not None:
            names[self.start] = "<start>"
        names |= {d: str(i) for i, d in enumerate(self.digits)}
        return names.get(int(token_id), f"<{int(token_id)}>")

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of a token sequence."""
        return "".join(self.symbol(t) for t in token_ids)


def _diagnose(tokenizer, head: list[int]) -> str:
    """What exactly breaks one token a cell."""
    for pair in _DIGIT_PAIRS:
        n = len(tokenizer.encode(_CONTEXT + pair, add_special_tokens=False)) - len(head)
        if n != 2:
            return f"it merges or splits digits ({pair!r} is {n} token{'s' * (n != 1)})"
    return "it loses or merges row ends ('\\n' beside digits and marks is not one token)"

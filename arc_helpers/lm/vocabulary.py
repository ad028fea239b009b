"""The few tokens that spell grids, found in any Hugging Face tokenizer."""

from dataclasses import dataclass

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
    """Token ids of the grid alphabet: one id a cell, one a row end, one a grid marker, one for the end."""

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


def _diagnose(tokenizer, head: list[int]) -> str:
    """What exactly breaks one token a cell."""
    for pair in _DIGIT_PAIRS:
        n = len(tokenizer.encode(_CONTEXT + pair, add_special_tokens=False)) - len(head)
        if n != 2:
            return f"it merges or splits digits ({pair!r} is {n} token{'s' * (n != 1)})"
    return "it loses or merges row ends ('\\n' beside digits and marks is not one token)"

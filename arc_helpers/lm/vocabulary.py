"""The token of each symbol that spells grids, found in any Hugging Face tokenizer."""

from collections.abc import Iterable

#: read before a symbol, in turn, until it is one token of its own behind one of them: a dummy prefix space
#: (SentencePiece) is left behind, and so is a merge with the symbol before it
_BEFORE = ("\n", "0", "I", "")


class TokenizerError(ValueError):
    """The tokenizer cannot spell grids with one token a cell."""


def symbol_ids(tokenizer, symbols: Iterable[str]) -> dict[str, int]:
    """{symbol: token id} of the symbols that are one token by themselves; the others are left out.

    Each is looked up alone: prompts are joined ids, so what a tokenizer merges in a running text does not matter.
    """
    found = {symbol: _alone(tokenizer, symbol) for symbol in symbols}
    return {symbol: token for symbol, token in found.items() if token is not None and token != tokenizer.unk_token_id}


def two_readings(tokenizer, prompt_form, grid) -> dict[str, list[str]]:
    """A question on a grid [H, W] as the suite joins its tokens, and as the tokenizer cuts that text: their texts."""
    joined = prompt_form.question_ids(grid).tolist()
    usual = tokenizer.encode(prompt_form.decode(joined), add_special_tokens=False)
    both = {"joined ids": joined, "cut as text": usual}
    return {name: [repr(tokenizer.decode([token]))[1:-1] for token in ids] for name, ids in both.items()}


def _alone(tokenizer, symbol: str) -> int | None:
    for before in _BEFORE:
        try:
            head = tokenizer.encode(before, add_special_tokens=False)
            ids = tokenizer.encode(before + symbol, add_special_tokens=False)
        except Exception:  # a tokenizer without an unknown token raises just that on what it does not know
            continue
        if len(ids) == len(head) + 1 and ids[: len(head)] == head:
            return ids[-1]
    # a word of a tokenizer that was cut down to what ARC needs: its merges are gone, its entry is there
    return tokenizer.get_vocab().get(symbol) if len(symbol) > 1 else None

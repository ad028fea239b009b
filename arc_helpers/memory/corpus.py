"""Real text for meta-training, in any tokenizer: documents packed for training, and single long ones to measure on."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from arc_helpers.lm.door import open_tokenizer
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.meta import Batch
from arc_helpers.memory.model import TTTForCausalLM
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.texts import TextError, cut_windows, python_topics, read_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END = "<|end|>"


class TextTokens:
    """Any fast Hugging Face tokenizer, with what the recipes ask of one. Raises TextError where it has no end token."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        if tokenizer.eos_token_id is None:
            raise TextError(f"tokenizer {tokenizer.name_or_path}: has no end token (eos_token): documents would run on")
        self.tokenizer, self.end = tokenizer, tokenizer.eos_token_id
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end

    def __len__(self) -> int:
        return len(self.tokenizer)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, no specials added."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def text(self, ids) -> str:
        """The text of ids, to the letter, specials left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def train_tokenizer(documents: Sequence[str], vocab: int = 512) -> TextTokens:
    """A byte-level BPE tokenizer of `vocab` pieces, learned from documents; it writes every script."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(documents, vocab_size=vocab, special_tokens=[END], show_progress=False)
    return TextTokens(PreTrainedTokenizerFast(tokenizer_object=trainer._tokenizer, eos_token=END, pad_token=END))


def text_tokens(folder: str | Path | None, documents: Sequence[str] = ()) -> TextTokens:
    """The tokenizer of a folder; where none is named, a byte-level one that is learned on documents.

    Raises TextError or lm.ModelError, one line, for a folder without a tokenizer, or one without an end token.
    """
    return TextTokens(open_tokenizer(folder)) if folder else train_tokenizer(documents)


class TextBatches:
    """step → Batch of `rows` windows of `length` tokens, drawn from all documents in one row, an end token behind each.

    Raises TextError where the documents together are shorter than one window.
    """

    def __init__(self, tokens: TextTokens, documents: Sequence[str], length: int, rows: int, seed: int = 0):
        encoded = (np.array([*tokens.ids(text), tokens.end]) for text in documents)
        self.stream = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *encoded]))
        if len(self.stream) < length:
            raise TextError(
                f"the texts have {len(self.stream):,} tokens together: too small for one window of {length:,}"
            )
        self.length, self.rows, self.seed = length, rows, seed

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng(zlib.crc32(f"text/{self.seed}/{step}".encode()))
        starts = torch.from_numpy(rng.integers(len(self.stream) - self.length + 1, size=(self.rows, 1)))
        return Batch(self.stream[starts + torch.arange(self.length)])


def long_windows(tokens: TextTokens | DialogTokens, documents: Sequence[str], length: int, count: int) -> Tensor:
    """At most `count` windows [n, length] of documents, as `texts.cut_windows` chooses them. Raises TextError."""
    return torch.tensor(cut_windows([tokens.ids(text) for text in documents], length, count, tokens.end))


@torch.no_grad()
def text_losses(model: TTTForCausalLM, windows: Tensor, *, learn: bool = True, rows: int = 8) -> np.ndarray:
    """Nats [n, T − 1] of each token of windows [n, T] given those before it, `rows` windows at a time."""
    parts = [read(model, part, learn=learn).nll for part in windows.to(model.device).split(rows)]
    return torch.cat(parts).cpu().numpy()


def by_position(nll: np.ndarray, bins: int = 16) -> np.ndarray:
    """Means [bins] of nats [n, T] over texts and equal parts of their positions."""
    return np.array([part.mean() for part in np.array_split(nll.mean(axis=0), bins)])


def prose_texts(corpus: str | Path | None = None) -> list[str]:
    """The test documents of a corpus; None: Python's language reference, as one text (PSF licence)."""
    return read_documents(corpus).test if corpus else ["\n\n".join(text for _, text in python_topics())]


def counter_losses(ids: Tensor, vocab: int) -> dict[str, np.ndarray]:
    """What counting costs: nats [n, T − 1] of ids [n, T] by counters that know nothing but what they have read of it.

    unigram: how often each token came, one added to each of `vocab`. bigram: what followed the token before, backed off
    to the unigram as far as that is not known (Witten-Bell).
    """
    found = {name: np.zeros((len(ids), ids.shape[1] - 1)) for name in ("unigram", "bigram")}
    for row, text in enumerate(ids.tolist()):
        counts = np.ones(vocab)
        pairs: dict[tuple[int, int], int] = {}
        after: dict[int, tuple[int, int]] = {}
        counts[text[0]] += 1
        for t in range(1, len(text)):
            before, token = text[t - 1], text[t]
            single = counts[token] / (vocab + t)
            seen, kinds = after.get(before, (0, 0))
            both = (pairs.get((before, token), 0) + kinds * single) / (seen + kinds) if seen else single
            found["unigram"][row, t - 1], found["bigram"][row, t - 1] = -np.log(single), -np.log(both)
            after[before] = (seen + 1, kinds + ((before, token) not in pairs))
            pairs[before, token] = pairs.get((before, token), 0) + 1
            counts[token] += 1
    return found

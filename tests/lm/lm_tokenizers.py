"""Tokenizers of the kinds people bring, small enough to be made on the spot."""

import re
import string

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# Qwen2's own rule: every digit alone, newlines apart from letters.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def fast(core: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **special)


def char_tokenizer(symbols: str = string.printable, drops: str | None = None, eos: bool = True):
    """One token a character. `drops`: a regex that is thrown away before tokenising."""
    vocab = {s: i for i, s in enumerate(["<unk>", "<s>", "</s>", *symbols])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    if drops:
        core.normalizer = normalizers.Replace(Regex(drops), "")
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return fast(core, unk_token="<unk>", bos_token="<s>", **({"eos_token": "</s>"} if eos else {}))


def byte_tokenizer(merges=(), split: str | None = None):
    """Byte-level BPE as GPT-2 and Qwen2 have it: end and pad tokens, no start token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {s: i for i, s in enumerate([*alphabet, *(a + b for a, b in merges), "<|endoftext|>", "<|pad|>"])}
    core = Tokenizer(models.BPE(vocab, list(merges)))
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    first = [pre_tokenizers.Split(Regex(split), behavior="isolated")] if split else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*first, bytes_])
    core.decoder = decoders.ByteLevel()
    return fast(core, eos_token="<|endoftext|>", pad_token="<|pad|>")


def sentencepiece_tokenizer(metaspace: bool):
    """BPE with a dummy prefix space and byte fallback, as Llama 2 has it: a newline is the token <0x0A>."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *string.digits, *string.ascii_letters]
    merges = [("▁", "I"), ("▁", "O"), ("I", "O")]
    vocab = {s: i for i, s in enumerate([*pieces, *(a + b for a, b in merges)])}
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    else:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return fast(core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def word_tokenizer(words, **special: str):
    """Nothing but these words and characters, the longest first: a tokenizer that was cut down to what ARC needs."""
    vocab = {word: i for i, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocab, unk_token=special.get("unk_token")))
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(either), behavior="isolated")
    core.decoder = decoders.Fuse()
    return fast(core, **special)


def architects_tokenizer():
    """Single characters and four special tokens, as the ARChitects cut theirs."""
    kept = [*string.ascii_letters, *string.digits, *"!?.:,;*+/-=", "\n"]
    return word_tokenizer(
        ["<unk>", "<s>", "</s>", "<pad>", *kept],
        unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
    )  # fmt: skip


def nvarc_tokenizer():
    """NVARC's sixteen tokens in their order."""
    words = [*string.digits, "\n", "user", "assistant", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return word_tokenizer(words, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def llama3_tokenizer():
    """Byte-level BPE that reads digits by threes, as Llama 3 does, and joins newlines."""
    twos = [(a, b) for a in "0123456789" for b in "0123456789"]
    merges = [*twos, *((a + b, c) for a, b in twos for c in "0123456789"), ("Ċ", "Ċ"), ("I", "O")]
    return byte_tokenizer(merges, r"\p{N}{1,3}|[^\r\n\p{N}]+|\s*[\r\n]+")

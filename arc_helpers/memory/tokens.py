"""The tokenizer of the embedded model: whole words where it knows them, else syllables, else characters.

An ordinary Hugging Face tokenizer (WordPiece) with a chat template: <|user|> text <|end|> <|assistant|> text <|end|>.
"""

import re
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

from arc_helpers.memory import lexicon

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USER, ASSISTANT, END, PAD, UNKNOWN = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<|unknown|>"
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = ".,?!'\"-:;()"
# `generation` marks what the assistant says, for return_assistant_tokens_mask
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + USER + "{{ message['content'] }}" + END + "{% else %}" + ASSISTANT + ""
    "{% generation %}{{ message['content'] }}" + END + "{% endgeneration %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)


def known_words() -> list[str]:
    """Every word that is one token, in a fixed order."""
    texts = [*lexicon.NAMES, *lexicon.ACKS, *(text for pair in lexicon.SMALL_TALK for text in pair)]
    for slot in lexicon.SLOTS.values():
        texts += [*slot.says, *slot.asks, slot.answer, *slot.me, *slot.values]
    words = " ".join(texts).replace("{n}", " ").replace("{v}", " ").split()
    return [word for word in dict.fromkeys(words) if word not in PUNCTUATION]


@lru_cache(maxsize=1)
def build_tokenizer() -> "PreTrainedTokenizerBase":
    """The tokenizer, built from the word lists; text is lower-cased and loses its accents."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    syllables = ["".join(pair) for pair in product(CONSONANTS, VOWELS)]
    pieces = [*PUNCTUATION, *CHARACTERS, *syllables, *known_words()]
    pieces += ["##" + piece for piece in (*CHARACTERS, *syllables)]
    ids = {token: i for i, token in enumerate([PAD, UNKNOWN, USER, ASSISTANT, END, *dict.fromkeys(pieces)])}
    backend = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
    )


class DialogTokens:
    """Turns text into ids word by word, which is what the tokenizer does too, and remembers each word."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase | None" = None):
        self.tokenizer = tokenizer or build_tokenizer()
        special = self.tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END, PAD])
        if None in special or self.tokenizer.unk_token_id in special:
            raise ValueError(f"tokenizer: must have the tokens {USER} {ASSISTANT} {END} {PAD}")
        self.user, self.assistant, self.end, self.pad = special
        self._words: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.tokenizer)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, no specials added."""
        found: list[int] = []
        for word in text.split():
            if word not in self._words:
                self._words[word] = self.tokenizer.encode(word, add_special_tokens=False)
            found += self._words[word]
        return found

    def turn(self, role: str, text: str) -> list[int]:
        """Token ids of one turn, with its role and its end."""
        return [self.user if role == "user" else self.assistant, *self.ids(text), self.end]

    def text(self, ids) -> str:
        """Readable text of ids, specials left out."""
        plain = self.tokenizer.decode(ids, skip_special_tokens=True)
        return re.sub(r"\s+", " ", plain).strip()

"""A conversation with an ordinary language model, by its own chat template: what it knows of it is in its prompt."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from arc_helpers.memory.decode import choose_token
from arc_helpers.memory.exchange import Exchange
from arc_helpers.memory.template import check_tokenizer, prompt_ids, stop_token
from arc_helpers.runs import atomic_write_json


class PlainChat:
    """Turns of a user and the model, like `Chat`, with no memory but the last `history` utterances in every prompt.

    Raises ValueError, one line, for settings and files that do not fit.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        history: int = 5,
        max_new: int = 120,
        temperature: float = 0.0,
        seed: int = 0,
    ):
        check_tokenizer(tokenizer)
        self.model, self.tokenizer, self.keep = model.eval(), tokenizer, history
        self.max_new, self.temperature, self.stop = max_new, temperature, stop_token(tokenizer)
        self.generator = torch.Generator(model.device).manual_seed(seed)
        self.messages: list[dict[str, str]] = []
        self.turns: list[Exchange] = []

    @property
    def intro(self) -> str:
        """What it can be told, for a user who has not met it."""
        return f"An ordinary language model: it knows the last {self.keep} utterances, and learns nothing."

    def ask(self, text: str) -> Iterator[str]:
        """The reply, piece by piece. Raises ValueError for a message that is empty or longer than the context."""
        if not text.strip():
            raise ValueError("message: is empty")
        said = {"role": "user", "content": text.strip()}
        reply: list[int] = []
        shown = ""
        for token in self._decode(self._prompt(said)):
            reply.append(token)
            whole = self.tokenizer.decode(reply, skip_special_tokens=True)
            if whole.startswith(shown) and not whole.endswith("\N{REPLACEMENT CHARACTER}"):
                yield whole[len(shown) :]
                shown = whole
        self.messages += [said, {"role": "assistant", "content": shown}]
        self.turns.append(Exchange(text, shown, 0.0))

    def say(self, text: str) -> str:
        """The whole reply."""
        return "".join(self.ask(text))

    @property
    def memory(self) -> str:
        """A line: what is in the next prompt."""
        return f"{len(self._kept())} of {len(self.messages)} utterances are in the next prompt; no weight has moved"

    def forget(self) -> None:
        """Begin a new conversation."""
        self.messages.clear()
        self.turns.clear()

    def save(self, path: str | Path) -> None:
        """Write the conversation."""
        atomic_write_json(path, {"messages": self.messages})

    def load(self, path: str | Path) -> None:
        """Take up a conversation."""
        try:
            self.messages = list(json.loads(Path(path).read_text(encoding="utf-8"))["messages"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is no saved conversation ({type(error).__name__})") from None

    def _kept(self) -> list[dict[str, str]]:
        """The last utterances, from a user's on: many templates take no assistant first."""
        kept = self.messages[-self.keep :] if self.keep else []
        return kept[1:] if kept and kept[0]["role"] == "assistant" else kept

    def _prompt(self, said: dict[str, str]) -> list[int]:
        kept = [m for m in self._kept() if m["content"].strip()]
        room = (getattr(self.model.config, "max_position_embeddings", None) or 10**9) - self.max_new
        while len(ids := prompt_ids(self.tokenizer, [*kept, said])) > room:
            if not kept:
                raise ValueError(f"message: has {len(ids)} tokens with its template; the model takes {room} at most")
            kept = kept[2:]
        return ids

    @torch.no_grad()
    def _decode(self, prompt: list[int]) -> Iterator[int]:
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([prompt], device=self.model.device)
        for _ in range(self.max_new):
            logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            ids = choose_token(logits, self.temperature, self.generator)[:, None]
            if ids.item() == self.stop:
                return
            yield int(ids)

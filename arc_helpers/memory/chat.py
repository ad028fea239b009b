"""A conversation as one stream: attention sees its last tokens, the fast weights hold what has left the window."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from arc_helpers.lm.door import open_tokenizer
from arc_helpers.memory.decode import LEARN_FROM, Stream, decode, load_memory, save_memory
from arc_helpers.memory.model import TTTForCausalLM, load_model
from arc_helpers.memory.tokens import DialogTokens

HELP = "/memory  what was learned   /save FILE   /load FILE   /forget  start anew   /quit"


@dataclass(frozen=True)
class Exchange:
    """What was said and answered, and how far the fast weights had moved by then."""

    text: str
    reply: str
    moved: float


class Chat:
    """Turns of a user and the model. Raises ValueError, one line, for settings and files that do not fit.

    learn_from: all turns, the user's, or none. history: turns (a message and its reply) kept as text; they are read
    again, without learning, where a conversation is taken up from a file. temperature 0: the most likely reply.
    `turns` holds what was said since the conversation began here.
    """

    def __init__(
        self,
        model: TTTForCausalLM,
        tokens: DialogTokens | None = None,
        *,
        learn_from: str = "all",
        history: int = 5,
        max_new: int = 40,
        temperature: float = 0.0,
        seed: int = 0,
    ):
        if learn_from not in LEARN_FROM:
            raise ValueError(f"learn_from = {learn_from}: must be one of {', '.join(LEARN_FROM)}")
        self.model, self.tokens = model.eval(), tokens or DialogTokens()
        check_vocabulary(model, self.tokens)
        self.learn_from, self.max_new, self.temperature = learn_from, max_new, temperature
        self.generator = torch.Generator(model.device).manual_seed(seed)
        self.history: deque[dict] = deque(maxlen=2 * history)
        self.stream = Stream(model)
        self.turns: list[Exchange] = []

    def ask(self, text: str) -> Iterator[str]:
        """The reply, piece by piece. Raises ValueError for an empty message."""
        if not text.strip():
            raise ValueError("message: is empty")
        prompt = [*self.tokens.turn("user", text), self.tokens.assistant]
        options = {"learn_from": self.learn_from, "temperature": self.temperature, "generator": self.generator}
        reply, shown = [], ""
        for (token,) in decode(self.stream, [prompt], self.max_new, stop=self.tokens.end, **options):
            reply.append(token)
            whole = self.tokens.text(reply)
            # A word in pieces, or punctuation that moves to the word before it, may still change its last letters.
            if whole.startswith(shown):
                yield whole[len(shown) :]
                shown = whole
        if reply and reply[-1] != self.tokens.end:  # cut off: the next turn must not look like part of this one
            self.stream.feed(torch.tensor([[self.tokens.end]], device=self.model.device), self.learn_from == "all")
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": shown}]
        self.turns.append(Exchange(text, shown, self.moved))

    def say(self, text: str) -> str:
        """The whole reply."""
        return "".join(self.ask(text))

    @property
    def moved(self) -> float:
        """How far the fast weights are from where they began: the Euclidean norm of the difference."""
        return float(self.stream.state.moved(self.model))

    @property
    def memory(self) -> str:
        """A line: inner steps, and how far the fast weights have moved."""
        state = self.stream.state
        refused = f", {int(state.skipped)} refused (not finite)" if state.skipped.any() else ""
        steps = f"{int(state.updates)} inner steps{refused}"
        return f"{steps} in {self.stream.position} tokens, moved by {self.moved:.3f}"

    def forget(self) -> None:
        """Begin a new conversation that remembers nothing."""
        self.history.clear()
        self.turns.clear()
        self.stream = Stream(self.model)

    def save(self, path: str | Path) -> None:
        """Write what was learned and the last turns."""
        save_memory(path, self.model, self.stream.state, self.history)

    def load(self, path: str | Path) -> None:
        """Take up a conversation: its memory, and its last turns read again without learning."""
        state, history = load_memory(path, self.model)
        self.stream = Stream(self.model, memory=state)
        self.history = deque(history, maxlen=self.history.maxlen)
        ids = [i for m in self.history for i in self.tokens.turn(m["role"], m["content"])]
        if ids:
            self.stream.feed(torch.tensor([ids], device=self.model.device), learn=False)


def open_chat(folder: str | Path, adapter: str | Path | None = None, **options) -> Chat:
    """A chat with the model of a Hugging Face folder, and an adapter of its own.

    Raises ValueError, one line, where the folder holds no such model or the adapter is another base's.
    """
    from arc_helpers.memory.adapters import load_adapter

    model = load_model(folder)
    if adapter is not None:
        model = load_adapter(model, adapter).get_base_model()
    return Chat(model, DialogTokens(open_tokenizer(folder)), **options)


def check_vocabulary(model: TTTForCausalLM, tokens: DialogTokens) -> None:
    """Raises ValueError where the model's vocabulary is not the tokenizer's."""
    if model.config.vocab_size != len(tokens):
        raise ValueError(
            f"the model has {model.config.vocab_size} tokens, the tokenizer {len(tokens)}: must be the same"
        )


def command(chat: Chat, line: str) -> str | None:
    """Carry out a line that begins with "/": what to print, or None to leave."""
    name, _, argument = line.partition(" ")
    match name:
        case "/quit":
            return None
        case "/memory":
            return chat.memory
        case "/forget":
            chat.forget()
            return "forgotten"
        case "/save" | "/load" if argument:
            try:
                (chat.save if name == "/save" else chat.load)(argument)
            except (ValueError, OSError) as error:
                return str(error)
            return f"{name[1:]}: {argument}"
    return HELP

"""A conversation as one stream: attention sees its last tokens, the fast weights hold what has left the window."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch

from arc_helpers.lm.door import open_folder, open_model, open_tokenizer
from arc_helpers.lm.folder import read_json
from arc_helpers.memory.decode import LEARN_FROM, Stream, decode, load_memory, save_memory
from arc_helpers.memory.exchange import Exchange
from arc_helpers.memory.lexicon import SLOTS
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM, load_model
from arc_helpers.memory.plain_chat import PlainChat
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import choose_device

HELP = "/memory  what was learned   /save FILE   /load FILE   /forget  start anew   /quit"


class Chat:
    """Turns of a user and the model. Raises ValueError, one line, for settings and files that do not fit.

    learn_from: all turns, the user's, or none. history: so many of the last utterances stand in every prompt, read from
    an empty window and not learned from again; what is older is in the fast weights alone. 0: one stream of tokens.
    temperature 0: the most likely reply. `turns` holds what was said since the conversation began here.
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
        self.history: deque[dict] = deque(maxlen=history)
        self.heard: deque[list[int]] = deque(maxlen=history)  # the same utterances as the tokens that were read
        self.stream, self.read = Stream(model), 0
        self.turns: list[Exchange] = []

    @property
    def intro(self) -> str:
        """What it can be told and what not, for a user who has not met it."""
        return (
            f"It can be told {len(SLOTS)} kinds of fact, about you or people by their names: {', '.join(SLOTS)}. "
            "It was trained on no other kind: asked for another, it answers with a wrong fact, or none."
        )

    def ask(self, text: str) -> Iterator[str]:
        """The reply, piece by piece. Raises ValueError for an empty message."""
        if not text.strip():
            raise ValueError("message: is empty")
        self._begin()
        prompt, before = [*self.tokens.turn("user", text), self.tokens.assistant], self.stream.position
        options = {"learn_from": self.learn_from, "temperature": self.temperature, "generator": self.generator}
        reply: list[int] = []
        shown = ""
        try:
            for (token,) in decode(self.stream, [prompt], self.max_new, stop=self.tokens.end, **options):
                reply.append(token)
                whole = self.tokens.text(reply)
                # A word in pieces, or punctuation that moves to the word before it, may still change its last letters.
                if whole.startswith(shown):
                    yield whole[len(shown) :]
                    shown = whole
            if reply and reply[-1] != self.tokens.end:  # cut off: the next turn must not look like part of this one
                reply.append(self.tokens.end)
                end = torch.tensor([[self.tokens.end]], device=self.model.device)
                self.stream.feed(end, self.learn_from == "all")
        finally:  # also of a reply that was interrupted, what was read was read
            read = [*prompt, *reply][: self.stream.position - before]
            self.read += len(read)
            self.heard += [read[: len(prompt) - 1], read[len(prompt) - 1 :]]
            self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": shown}]
            self.turns.append(Exchange(text, shown, self.moved))

    def _begin(self) -> None:
        """The window as it is before every message: the last utterances, of which only what no inner step has seen
        yet is learned from."""
        ids = [i for utterance in self.heard for i in utterance]
        if not ids:
            return
        waiting, weight = self.stream.waiting
        ids = ids if len(ids) >= len(waiting) else waiting
        learn = [0.0] * (len(ids) - len(weight)) + weight
        self.stream = Stream(self.model, memory=self.stream.state)
        device = self.model.device
        self.stream.feed(torch.tensor([ids], device=device), torch.tensor([learn], device=device))

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
        return f"{steps} in {self.read} tokens, moved by {self.moved:.3f}"

    def forget(self) -> None:
        """Begin a new conversation that remembers nothing."""
        self.history.clear()
        self.heard.clear()
        self.turns.clear()
        self.stream, self.read = Stream(self.model), 0

    def save(self, path: str | Path) -> None:
        """Write what was learned and the last turns."""
        save_memory(path, self.model, self.stream.state, self.history)

    def load(self, path: str | Path) -> None:
        """Take up a conversation: its memory, and its last utterances."""
        state, history = load_memory(path, self.model)
        self.stream, self.read = Stream(self.model, memory=state), 0
        self.history = deque(history, maxlen=self.history.maxlen)
        turns = [self.tokens.turn(m["role"], m["content"]) for m in self.history]
        self.heard = deque(turns, maxlen=self.history.maxlen)


def open_chat(folder: str | Path, adapter: str | Path | None = None, **options) -> Chat | PlainChat:
    """A chat with the model of a Hugging Face folder, one that learns while it reads or an ordinary one, and an adapter
    of its own. options: of `Chat`; an ordinary model has no use for learn_from.

    Raises ValueError, one line, where the folder holds no model or the adapter is another base's.
    """
    from arc_helpers.memory.adapters import load_adapter

    config = Path(folder) / "config.json"
    learns = not config.is_file() or read_json(config).get("model_type") == TTTConfig.model_type
    model = load_model(folder) if learns else open_plain(folder)
    if adapter is not None:
        model = load_adapter(model, adapter).get_base_model()
    if learns:
        return Chat(model, DialogTokens(open_tokenizer(folder)), **options)
    if options.pop("learn_from", "all") == "user":
        raise ValueError(f"learn_from = user: {folder} is an ordinary model, which learns from nobody")
    return PlainChat(model, open_tokenizer(folder), **options)


def open_plain(folder: str | Path):
    """An ordinary causal language model of a folder on the best device there is, in its dtype, frozen."""
    choice = choose_device()
    return open_model(open_folder(folder), device=choice.device, dtype=getattr(torch, choice.dtype))


def check_vocabulary(model: TTTForCausalLM, tokens: DialogTokens) -> None:
    """Raises ValueError where the model's vocabulary is not the tokenizer's."""
    if model.config.vocab_size != len(tokens):
        raise ValueError(
            f"the model has {model.config.vocab_size} tokens, the tokenizer {len(tokens)}: must be the same"
        )


def command(chat: Chat | PlainChat, line: str) -> str | None:
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

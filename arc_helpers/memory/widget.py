"""The chat as widgets, for a live notebook: a line to write in, and the memory turn by turn."""

from arc_helpers.memory.chat import Chat, command
from arc_helpers.memory.figures import plot_memory
from arc_helpers.plot.beside import show_beside
from arc_helpers.plot.controls import HTML, IntSlider, Layout, Text, VBox
from arc_helpers.plot.picture import Picture
from arc_helpers.plot.widgets import Explorer, explore

SHOWN = 20  # lines of the conversation


class _ChatBox(VBox):
    """The last of its children explores the memory, whose picture stays beside it in a saved notebook."""

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        show_beside(data, self.children[-1].picture.value, "A chat with the model, and its memory after each turn")


def explore_memory(chat: Chat) -> Explorer | Picture:
    """How far the fast weights had moved after each turn of a conversation, to step through; its last turn first."""
    n = len(chat.turns)
    slider = IntSlider(description="turn", value=n, max=n, continuous_update=False)
    return explore({"turn": slider}, lambda turn: plot_memory(chat.turns, turn))


def chat_widget(chat: Chat) -> VBox | Picture:
    """A line to write in, the conversation above it, and `explore_memory` below. /help lists what else it takes.

    A reply appears as it is written, and an interrupt of the kernel (■) ends it.
    """
    memory = explore_memory(chat)
    if isinstance(memory, Picture):
        return memory
    transcript = HTML()
    said = Text(placeholder="say something, or /help", continuous_update=False, layout=Layout(width="100%"))
    lines: list[str] = []

    def show(text: str, reply: str) -> None:
        transcript.value = "<br>".join([*lines, _line("you", text), _line("model", reply)][-SHOWN:])

    def send(change: dict) -> None:
        text = change["new"].strip()
        if not text:  # the line was emptied, below
            return
        said.value = ""
        reply = ""
        if text.startswith("/"):
            reply = command(chat, text) or "bye"
        else:
            try:
                for piece in chat.ask(text):
                    reply += piece
                    show(text, f"{reply} …")
            except KeyboardInterrupt:
                reply += " (stopped)"
        show(text, reply)
        lines.extend([_line("you", text), _line("model", reply)])
        slider = memory.controls["turn"]
        slider.max = len(chat.turns)
        slider.value = slider.max

    said.observe(send, names="value")
    return _ChatBox([transcript, said, memory])


def _line(who: str, text: str) -> str:
    return f"<b>{who}</b> {text.replace('&', '&amp;').replace('<', '&lt;')}"

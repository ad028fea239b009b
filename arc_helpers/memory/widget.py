"""The chat as a widget, for a live notebook."""

from ipywidgets import HTML, Layout, Text, VBox

from arc_helpers.memory.chat import Chat, command


def chat_widget(chat: Chat) -> VBox:
    """A line to write in, and the conversation above it. /help lists what else it takes."""
    transcript = HTML()
    said = Text(placeholder="say something, or /help", continuous_update=False, layout=Layout(width="100%"))
    lines: list[str] = []

    def send(change: dict) -> None:
        text = change["new"].strip()
        if not text:  # the line was emptied, below
            return
        said.value = ""
        reply = command(chat, text) if text.startswith("/") else chat.say(text)
        lines.extend([f"<b>you</b> {_plain(text)}", f"<b>model</b> {_plain(reply or 'bye')}"])
        transcript.value = "<br>".join(lines[-20:])

    said.observe(send, names="value")
    return VBox([transcript, said])


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

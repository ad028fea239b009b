"""A tokenizer's own chat template, and which of its tokens the assistant says.

Most templates do not mark these. So each is written out once with marks in place of the texts: what stands between the
marks is the template's, and the texts go back in there. That is compared with what the template makes of the dialogue
itself, so a template that changes texts is refused and not guessed at.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from arc_helpers.memory.persona import Encoded
from arc_helpers.texts import TextError, check_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]
MARK = "\N{INVISIBLE SEPARATOR}{}\N{INVISIBLE SEPARATOR}"


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises TextError, one line, for a tokenizer that no dialogue can be written with."""
    if not getattr(tokenizer, "chat_template", None):
        raise TextError(f"{_name(tokenizer)}: has no chat template; use an instruction-tuned model's")
    if not tokenizer.is_fast:
        raise TextError(f"{_name(tokenizer)}: is a slow tokenizer, which does not say where its tokens stand")
    stop_token(tokenizer)


def stop_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id that ends what the assistant says. Raises TextError where the template has none: nothing would end."""
    pieces = _pieces(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    return tokenizer.convert_tokens_to_ids(_end(tokenizer, pieces[-1]))


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> list[int]:
    """Token ids of a dialogue up to where the assistant's next words begin."""
    text = _render(tokenizer, fold_system(tokenizer, messages), add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_messages(tokenizer: "PreTrainedTokenizerBase", messages: Messages, where: str = "") -> Encoded:
    """Token ids, and in `said` which of them the assistant says, its end token included.

    Raises TextError, one line, for what is no dialogue, or none that the template takes.
    """
    check_messages(messages, where)
    messages = fold_system(tokenizer, messages)
    at = f"{where}, message" if where else "message"
    for i, message in enumerate(messages):
        special = next((t for t in tokenizer.all_special_tokens if t in message["content"]), None)
        if special:
            raise TextError(f"{at} {i}: holds {special}, which the tokenizer would take for its own")
    pieces = _pieces(tokenizer, messages)
    text, spans = pieces[0], []
    for message, after in zip(messages, pieces[1:], strict=True):
        begin = len(text)
        text += message["content"].strip()
        if message["role"] == "assistant":
            end = _end(tokenizer, after)
            spans.append((begin, len(text) + after.index(end) + len(end)))
        text += after
    if text != _render(tokenizer, messages):
        raise TextError(f"{where + ': ' if where else ''}the tokenizer's chat template changes its texts")
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    said = [any(a < stop and b > start for start, stop in spans) for a, b in found["offset_mapping"]]
    nothing = [False] * len(said)
    return Encoded(list(found["input_ids"]), nothing, nothing, said)


def fold_system(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> list[dict[str, str]]:
    """The same dialogue for a template that knows users and assistants only: what the system says opens the user's
    next turn. Others get it as it is."""
    plain = [{"role": m["role"], "content": m["content"].strip()} for m in messages]
    if not any(m["role"] == "system" for m in plain) or _knows_system(tokenizer):
        return plain
    folded: list[dict[str, str]] = []
    for message in plain:
        role = "user" if message["role"] == "system" else message["role"]
        if folded and folded[-1]["role"] == role:
            folded[-1]["content"] += "\n" + message["content"]
        else:
            folded.append({"role": role, "content": message["content"]})
    return folded


def _knows_system(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a system's turn is written otherwise than an assistant's."""
    ways = []
    for role in ("system", "assistant"):
        try:
            ways.append(_render(tokenizer, [{"role": role, "content": "x"}, {"role": "user", "content": "y"}]))
        except TextError:  # no assistant may begin in some templates, and no system may speak in others
            ways.append("")
    return ways[0] not in ("", ways[1])


def _pieces(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> list[str]:
    """What the template puts before, between and behind the texts: one more than there are messages."""
    marks = [MARK.format(i) for i in range(len(messages))]
    rest = _render(tokenizer, [{"role": m["role"], "content": k} for m, k in zip(messages, marks, strict=True)])
    pieces = []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            raise TextError(f"{_name(tokenizer)}: its chat template leaves a turn out")
        pieces.append(before)
    return [*pieces, rest]


def _end(tokenizer: "PreTrainedTokenizerBase", after: str) -> str:
    """The special token that the text behind an assistant's turn begins with."""
    found = [token for token in tokenizer.all_special_tokens if after.lstrip().startswith(token)]
    if not found:
        raise TextError(f"{_name(tokenizer)}: its chat template ends no turn with a special token; nothing would end")
    return max(found, key=len)


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Messages, add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise TextError(f"the tokenizer's chat template refuses it ({why})") from None


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    return f"tokenizer {tokenizer.name_or_path or type(tokenizer).__name__}"

"""From a task to token ids, in a `PromptForm`. A task without demonstrations gives the single-pair form."""

from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt_form import PromptForm

IGNORE = -100  # torch's cross-entropy skips this label


class TaskTooLong(ValueError):
    """Even without demonstrations the query does not fit the context."""


@dataclass(frozen=True)
class Encoded:
    """One sequence. `labels[i]` is `input_ids[i]` where the loss counts and −100 elsewhere."""

    input_ids: np.ndarray  # int64 [T]
    labels: np.ndarray  # int64 [T]
    prompt_length: int  # tokens before the answer
    dropped: int = 0  # demonstrations left out at the front to fit the context

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def answer_tokens(self) -> int:
        """How many tokens count in the loss."""
        return int((self.labels != IGNORE).sum())


def encode_pairs(
    demonstrations: list[Pair],
    query: Pair,
    prompt_form: PromptForm,
    *,
    max_len: int | None = None,
    answer_room: int = 0,
    all_outputs: bool = False,
) -> Encoded:
    """Encode demonstrations and a query (whose output, if it has one, is the answer).

    Demonstrations are dropped from the front until the sequence, plus `answer_room` tokens still to be
    generated, fits `max_len`; TaskTooLong if the bare query does not. With `all_outputs` the loss counts every
    output after the first demonstration's, not only the answer.
    """
    prefix = prompt_form.prefix_ids
    demos = [(prompt_form.question_ids(p.input), prompt_form.output_ids(p.output)) for p in demonstrations]
    question = prompt_form.question_ids(query.input)
    answer = np.empty(0, dtype=np.int64) if query.output is None else prompt_form.output_ids(query.output)
    sizes = [len(q) + len(a) for q, a in demos]
    bare = len(prefix) + len(question) + len(answer) + answer_room
    first = 0
    while max_len is not None and bare + sum(sizes[first:]) > max_len:
        if first == len(demos):
            raise TaskTooLong(f"the query needs {bare} tokens without any demonstration; the context is {max_len}")
        first += 1
    ids, labels = [prefix], [np.full(len(prefix), IGNORE)]
    for i, (demo_question, demo_output) in enumerate(demos[first:]):
        counts = all_outputs and i > 0
        ids += [demo_question, demo_output]
        labels += [
            np.full(len(demo_question), IGNORE),
            demo_output if counts else np.full(len(demo_output), IGNORE),
        ]
    ids += [question, answer]
    labels += [np.full(len(question), IGNORE), answer]
    input_ids = np.concatenate(ids)
    return Encoded(input_ids, np.concatenate(labels), len(input_ids) - len(answer), dropped=first)


def encode_pair(pair: Pair, prompt_form: PromptForm, *, max_len: int | None = None, answer_room: int = 0) -> Encoded:
    """Encode one pair alone, with no other demonstration.

    The labels count the output and its end token; a pair without an output gives the bare prompt. With nothing
    shown, the rule has to come from the weights: from joint training or a task's adapter (mdlARC's form).
    TaskTooLong where the pair, plus `answer_room` tokens still to be generated, does not fit `max_len`.
    """
    return encode_pairs([], pair, prompt_form, max_len=max_len, answer_room=answer_room)


def encode(task: Task, prompt_form: PromptForm, *, test_index: int = 0, **options) -> Encoded:
    """Encode one test input of a task behind its demonstrations; options as in `encode_pairs`."""
    return encode_pairs(list(task.train), task.test[test_index], prompt_form, **options)

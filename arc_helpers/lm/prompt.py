"""From a task to token ids: the one prompt form of the suite.

    <start> I input rows  O output rows <end>  I input rows  O output rows <end>  …  I query rows  O │ answer rows <end>

Everything left of │ is the prompt. A task without demonstrations gives the single-pair form.
"""

from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import GridError, Pair, Task, string_to_grid
from arc_helpers.lm.vocabulary import ROW_END, GridVocabulary

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


def _pair_ids(pair: Pair, vocabulary: GridVocabulary) -> tuple[np.ndarray, np.ndarray]:
    question = np.concatenate([[vocabulary.input_mark], vocabulary.grid_ids(pair.input), [vocabulary.output_mark]])
    if pair.output is None:
        return question, np.empty(0, dtype=np.int64)
    return question, np.concatenate([vocabulary.grid_ids(pair.output), [vocabulary.end]])


def encode_pairs(
    demonstrations: list[Pair],
    query: Pair,
    vocabulary: GridVocabulary,
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
    start = [] if vocabulary.start is None else [vocabulary.start]
    demos = [_pair_ids(p, vocabulary) for p in demonstrations]
    question, answer = _pair_ids(query, vocabulary)
    sizes = [len(q) + len(a) for q, a in demos]
    bare = len(start) + len(question) + len(answer) + answer_room
    first = 0
    while max_len is not None and bare + sum(sizes[first:]) > max_len:
        if first == len(demos):
            raise TaskTooLong(f"the query needs {bare} tokens without any demonstration; the context is {max_len}")
        first += 1
    ids, labels = [np.array(start, dtype=np.int64)], [np.full(len(start), IGNORE)]
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


def encode_pair(pair: Pair, vocabulary: GridVocabulary, *, max_len: int | None = None, answer_room: int = 0) -> Encoded:
    """Encode one pair alone: `<start> I input rows O │ output rows <end>`, with no other demonstration.

    The labels count the output and its end token; a pair without an output gives the bare prompt. With nothing
    shown, the rule has to come from the weights: from joint training or a task's adapter (mdlARC's form).
    TaskTooLong where the pair, plus `answer_room` tokens still to be generated, does not fit `max_len`.
    """
    return encode_pairs([], pair, vocabulary, max_len=max_len, answer_room=answer_room)


def encode(task: Task, vocabulary: GridVocabulary, *, test_index: int = 0, **options) -> Encoded:
    """Encode one test input of a task behind its demonstrations; options as in `encode_pairs`."""
    return encode_pairs(list(task.train), task.test[test_index], vocabulary, **options)


def answer_grid(token_ids, vocabulary: GridVocabulary) -> np.ndarray | None:
    """The grid that generated ids spell up to the first end token; None where they spell no valid grid."""
    ids = [int(t) for t in token_ids]
    if vocabulary.end not in ids:
        return None
    text = vocabulary.decode(ids[: ids.index(vocabulary.end)])
    try:
        return string_to_grid(text.removesuffix(ROW_END))
    except GridError:
        return None

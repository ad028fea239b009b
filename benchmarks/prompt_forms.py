"""Whether each prompt form spells a task byte for byte as its makers' own code does, and reads its answer back.

The texts are written out below: the suite's own; `ArcFormatter_premix_3` of the ARChitects (2024); `QwenFormatter` of
NVARC (2025). Prints `forms`, `forms_exact` and `passed`; bound: all of them.
"""

import json
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.prompt import encode
from arc_helpers.lm.prompt_form import END, FORMS, PAD, START, PromptForm

TASK = Task("t", (Pair([[1, 2], [3, 4]], [[5]]), Pair([[0]], [[0, 0]])), (Pair([[6]], [[7, 8], [9, 0]]),))
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyz"
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|><|im_start|>assistant\n"
WRITTEN = {
    "suite": "<bos>I12\n34\nO5\n<eos>I0\nO00\n<eos>I6\nO78\n90\n<eos>",
    "architects": f"<bos>{LETTERS}I12\n34\n+/-=O5\n<eos>I0\n+/-=O00\n<eos>I6\n+/-=O78\n90\n<eos>",
    "nvarc": f"{USER}12\n34{ASSISTANT}5<|im_end|>{USER}0{ASSISTANT}00<|im_end|>{USER}6{ASSISTANT}78\n90<|im_end|>",
}
SPECIAL = {START: "<bos>", END: "<eos>", PAD: "<pad>"}


def tokenizer_of(form: PromptForm) -> PreTrainedTokenizerFast:
    """A tokenizer that has the symbols of a form and nothing else."""
    words = [SPECIAL.get(symbol, symbol) for symbol in form.symbols]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    longest_first = "|".join(map(_escaped, sorted(words, key=len, reverse=True)))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), behavior="isolated")
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **{n: word for n, word in special.items() if word in words})


def _escaped(word: str) -> str:
    return "".join(f"\\{c}" if c in r"\|+-/=<>." else c for c in word)


def is_exact(name: str) -> bool:
    """Whether a form writes the text, as the tokenizer reads it, and reads the answer."""
    tokenizer = tokenizer_of(FORMS[name])
    form = PromptForm.from_tokenizer(tokenizer, name, name)
    encoded = encode(TASK, form)
    answer = form.answer_grid(encoded.input_ids[encoded.prompt_length :])
    same = encoded.input_ids.tolist() == tokenizer.encode(WRITTEN[name], add_special_tokens=False)
    return same and bool((answer == TASK.test[0].output).all())


def forms_exact() -> int:
    """How many of the known forms are exact."""
    return sum(map(is_exact, FORMS))


def main() -> None:
    result = {"forms": len(FORMS), "forms_exact": forms_exact()}
    result["passed"] = result["forms"] == result["forms_exact"] == len(WRITTEN)
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

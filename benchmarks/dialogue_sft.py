"""What fine-tuning on a user's dialogues brings an ordinary chat model: perplexity of dialogues it has not seen.

Dialogues of a file are split by dialogue; the assistant's turns of the training side are learned by a LoRA and by a
TinyLoRA of the same steps and texts; then the assistant's turns of the held-out side are scored by the base and by
either, each dialogue from its beginning. `low` and `high` are the 95 % interval of the nats a token that LoRA saves,
paired, held-out dialogues resampled: bound, above 0. `files_ok` counts odd dialogue files that are read or explained as
they should be (tests/texts/odd_dialogs.py).

The record's dialogues are those of the dev part of the Schema-Guided Dialogue set as messages (CC BY-SA 4.0,
github.com/google-research-datasets/dstc8-schema-guided-dialogue), in data/; any other file goes with --dataset.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from arc_helpers.lm.door import open_tokenizer
from arc_helpers.memory.adapters import trainable
from arc_helpers.memory.chat import open_plain
from arc_helpers.memory.dialog import DialogBatches, said_loss
from arc_helpers.memory.recipe import train_on_dialogs
from arc_helpers.runs import choose_device, resolve_path
from arc_helpers.texts import TextError, read_dialogs, split_dialogs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/texts"))
from odd_dialogs import FILES, REFUSED

FILES_AT_LEAST = 16


def odd_files() -> int:
    """How many of the odd files are read or explained as they should be."""
    right = 0
    with tempfile.TemporaryDirectory() as room:
        for name, (write, count, said) in FILES.items():
            write(Path(room) / name)
            found = read_dialogs(str(Path(room) / name))
            right += len(found.dialogs) == count and said in found.report
        for name, (write, why) in REFUSED.items():
            write(Path(room) / name)
            try:
                read_dialogs(str(Path(room) / name))
            except TextError as error:
                right += why in str(error) and "\n" not in str(error)
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--dataset", default="data/sgd_dialogues.jsonl.xz")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch", type=int, default=4, help="dialogues a step")
    parser.add_argument("--max-len", type=int, default=256, help="longest dialogue, in tokens")
    parser.add_argument("--held-out", type=int, default=40, help="at most so many held-out dialogues are scored")
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    found = read_dialogs(o.dataset)
    print(found.report, flush=True)
    train, held_out = split_dialogs(found.dialogs, seed=o.seed)
    tokenizer = open_tokenizer(o.model)
    learned = DialogBatches.of(tokenizer, train, o.batch, o.max_len, o.seed)
    scored = DialogBatches.of(tokenizer, held_out[: o.held_out], o.batch, o.max_len)
    result = {"dialogues": len(found.dialogs), "n": len(scored.rows), "steps": o.steps, "files_ok": odd_files()}
    base = said_loss(open_plain(resolve_path(o.model)), scored, desc="base")
    result |= {"ppl_base": base.perplexity, "tokens": int(base.tokens.sum())}
    for kind in ("lora", "tinylora"):
        model = open_plain(resolve_path(o.model))
        say = lambda m, kind=kind: m["step"] % 10 or print(kind, m, flush=True)  # noqa: E731
        wrapped = train_on_dialogs(model, learned, kind, steps=o.steps, seed=o.seed, on_metrics=say)
        tuned = said_loss(wrapped.get_base_model(), scored, desc=kind)
        result[f"ppl_{kind}"], result[f"numbers_{kind}"] = tuned.perplexity, trainable(wrapped)
        result[f"ppl_{kind}_low"], result[f"ppl_{kind}_high"] = tuned.interval()
        name = "" if kind == "lora" else "tinylora_"
        result[f"{name}gain"], result[f"{name}low"], result[f"{name}high"] = base.gain(tuned)
    result["ppl_base_low"], result["ppl_base_high"] = base.interval()
    result |= {"device": choose_device().device, "cpu_seconds": round(time.process_time())}
    result["passed"] = result["low"] > 0 and result["files_ok"] >= FILES_AT_LEAST
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in result.items()}))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

"""Does learning while reading lower the loss on real text, beyond what attention reaches?

Three models of one size are trained on real text for the same CPU time: with the inner loop (ttt), the same model
without it (window), and one with full attention (full). Texts of documents that were not trained on are then read, and
the loss is taken by position. Bound: beyond the reach of attention the loss of ttt is below that of the window: the
interval of the difference excludes 0 (texts resampled, each with the mean of its seeds), and so it is in every seed.
Beside them stand counters that know nothing but what they have read of the text, a unigram and a bigram one.

By default the texts are those of every installation (documentation of Python and two packages, as printed), or with
--corpus any file or folder. The tokenizer is a byte-level BPE learned on the training part, or --tokenizer a folder.
"""

import argparse
import json
import sys
import time

import numpy as np
import torch

from arc_helpers.memory.corpus import (
    TextBatches,
    TextTokens,
    by_position,
    counter_losses,
    long_windows,
    text_losses,
    text_tokens,
)
from arc_helpers.memory.grid import bootstrap
from arc_helpers.memory.recipe import Recipe, train_memory
from arc_helpers.texts import read_documents

ARMS = {"ttt": (2, {}), "window": (0, {}), "full": (0, {"full_attention": True})}
PROBE = 3  # steps whose CPU time says how many fit


def train(arm: str, tokens: TextTokens, batches: TextBatches, seed: int, o: argparse.Namespace):
    """(model, steps) of one arm after `o.cpu_seconds` of training, counted in CPU time of this process."""
    order, changes = ARMS[arm]

    def run(steps: int):
        recipe = Recipe(model_size=o.model_size, window=o.window, ttt_batch=o.window, steps=steps, lr=o.lr)
        began = time.process_time()
        model, _ = train_memory(tokens, seed, recipe, order=order, batches=batches, **changes)
        return model, time.process_time() - began

    _, warm = run(1)
    _, more = run(1 + PROBE)
    steps = max(10, round(o.cpu_seconds * PROBE / max(more - warm, 1e-3)))
    model, spent = run(steps)
    print(f"seed {seed}, {arm}: {steps} steps in {spent:.0f} CPU seconds", flush=True)
    return model, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", default="installed", help="installed, a file or folder of texts, or a hub id")
    parser.add_argument("--tokenizer", help="folder of a tokenizer; by default one of 512 pieces is learned")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cpu-seconds", type=float, default=40, help="training of an arm")
    parser.add_argument("--length", type=int, default=512, help="tokens of a text")
    parser.add_argument("--texts", type=int, default=24, help="test texts")
    parser.add_argument("--rows", type=int, default=4, help="texts a step")
    parser.add_argument("--window", type=int, default=16, help="tokens that attention sees, and of an inner step")
    parser.add_argument("--model-size", default="nano")
    parser.add_argument("--lr", type=float, default=4e-3)
    o = parser.parse_args()
    torch.set_num_threads(1)
    documents = read_documents(o.corpus)
    print(documents.report, flush=True)
    tokens = text_tokens(o.tokenizer, documents.train)
    texts = long_windows(tokens, documents.test, o.length, o.texts)
    counted = counter_losses(texts, len(tokens))
    gains, found = [], {name: [] for name in (*ARMS, *counted)}
    reach = None
    for seed in range(o.seeds):
        batches = TextBatches(tokens, documents.train, o.length, o.rows, seed)
        by_arm = {}
        for arm in ARMS if seed == 0 else ("ttt", "window"):  # full attention is a backdrop: one seed
            model, _ = train(arm, tokens, batches, seed, o)
            reach = model.config.reach or reach
            by_arm[arm] = text_losses(model, texts, learn=arm == "ttt")
        beyond = slice(reach, None)
        gain = (by_arm["window"] - by_arm["ttt"])[:, beyond].mean(axis=1)
        gains.append(gain)
        low, high = bootstrap(gain, seed)
        print(
            f"seed {seed}: ttt saves {gain.mean():.3f} nats a token beyond reach ({low:.3f} to {high:.3f})", flush=True
        )
        for arm, nll in by_arm.items():
            found[arm].append(nll[:, beyond].mean())
            places = ", ".join(f"{mean:.3f}" for mean in by_position(nll, 8))
            print(f"  {arm:<7} by position: {places}", flush=True)
    for name, nll in counted.items():
        found[name].append(nll[:, reach:].mean())
    low, high = bootstrap(np.mean(gains, axis=0))
    result = {"gain_beyond_window": float(np.mean(gains)), "gain_low": low, "gain_high": high}
    result |= {name: float(np.mean(values)) for name, values in found.items()}
    result |= {"worst_seed_gain": float(min(g.mean() for g in gains)), "seeds": o.seeds, "texts": len(texts)}
    result |= {"reach": reach, "vocabulary": len(tokens), "cpu_seconds": round(time.process_time())}
    result["passed"] = low > 0 and result["worst_seed_gain"] > 0
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in result.items()}))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

"""What learning while reading costs: the outer loop's orders, the batched copies, decoding, and long prefills.

Nano model with random weights (no number here depends on them), one thread, CPU seconds, best of interleaved repeats.
The peer of the long prefills is the same model with full attention, whose causal kernel needs no mask.
The bounds: second order <= 1.4 x first order; copies >= 1.3 x faster than vmap; decoding flat in T (<= 1.3 x from the
shortest to the longest) and <= 1.5 x the model without learning; prefill flat, and faster than full attention from 8 K.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from arc_helpers.memory.decode import Stream
from arc_helpers.memory.inner_loop import FastState, inner_step, read
from arc_helpers.memory.meta import forward_ttt_meta
from arc_helpers.memory.model import FAST, TTTConfig, TTTForCausalLM

VOCABULARY, ROWS = 832, 8
DECODED, DECODE_AT = 256, (512, 2048, 8192)
PREFILLS = (1024, 4096, 8192, 16384, 32768)


def best(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each way, the least of so many turns; the ways take turns."""
    seconds = {name: float("inf") for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def build(**changes) -> TTTForCausalLM:
    torch.manual_seed(0)
    return TTTForCausalLM(TTTConfig.preset("nano", VOCABULARY, **changes)).eval()


def ids_of(rows: int, length: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def orders(repeats: int) -> dict[str, float]:
    """A meta-training step, forward and backward: second order, first order, and with nothing learned inside."""
    model, ids = build(), ids_of(ROWS, 257)

    def step(order: int) -> None:
        forward_ttt_meta(model, ids, order=order).loss.backward()
        model.zero_grad()

    seconds = best({name: lambda o=o: step(o) for name, o in (("second", 2), ("first", 1), ("static", 0))}, repeats)
    return {"second_vs_first_order": seconds["second"] / seconds["first"], "second_order_s": seconds["second"]}


def copies(repeats: int) -> dict[str, float]:
    """The gradient of one batch of tokens for 16 sequences: our copies against vmap(grad(functional_call))."""
    model = build()
    b, first = model.config.ttt_batch, model.model.first_ttt
    ids = ids_of(16, b + 1)
    fast = {f"model.layers.{first}.mlp_ttt.{t}": model.get_parameter(f"model.layers.{first}.mlp_ttt.{t}") for t in FAST}

    def loss(weights, row):
        return F.cross_entropy(functional_call(model, weights, (row[None, :-1],)).logits[0], row[1:])

    state, learn = FastState.start(model, 16).detach(), torch.ones(16, b)

    def ours() -> None:
        cache = model.new_cache()
        with torch.no_grad():
            hidden = model.model.prefix(ids[:, :-1], cache, 0)
        inner_step(model, hidden, ids[:, 1:], learn, state, cache, 0)

    batched = {name: torch.stack([w.detach()] * 16) for name, w in fast.items()}
    seconds = best({"vmap": lambda: vmap(grad(loss))(batched, ids), "copies": ours}, 5 * repeats)
    return {"copies_vs_vmap_speedup": seconds["vmap"] / seconds["copies"], "copies_s": seconds["copies"]}


def decoding(repeats: int) -> dict[str, float]:
    """CPU milliseconds a token behind T tokens, learning on and off; 256 tokens, 16 inner steps."""
    model, result = build(), {}
    new = ids_of(1, DECODED)
    for length in DECODE_AT:
        prompt = ids_of(1, length)

        def decode(learn: bool, prompt=prompt) -> float:
            stream = Stream(model)
            stream.feed(prompt, learn)
            start = time.process_time()
            for t in range(DECODED):
                stream.feed(new[:, t : t + 1], learn)
            return (time.process_time() - start) / DECODED

        turns = [(decode(True), decode(False)) for _ in range(repeats)]
        on, off = (min(column) for column in zip(*turns, strict=True))
        result |= {f"decode_ms_{length}": 1e3 * on, f"decode_off_ms_{length}": 1e3 * off}
        result[f"decode_ratio_{length}"] = on / off
    return result


def prefills(longest: int) -> dict[str, float]:
    """CPU milliseconds a token of reading T tokens: learning, learning off, and full attention."""
    window, full, result = build(), build(full_attention=True), {}
    for length in (n for n in PREFILLS if n <= longest):
        ids = ids_of(1, length + 1)

        @torch.no_grad()
        def attend(ids=ids) -> None:
            full.model(ids[:, :-1], use_cache=False)

        ways = {
            "ttt": lambda ids=ids: read(window, ids),
            "off": lambda ids=ids: read(window, ids, learn=False),
            "full": attend,
        }
        for name, seconds in best(ways, 1 if length > 8192 else 2).items():
            result[f"prefill_{name}_ms_{length}"] = 1e3 * seconds / length
        print({k: round(v, 4) for k, v in result.items() if k.endswith(f"_{length}")}, file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="turns of each way")
    parser.add_argument("--longest", type=int, default=32768, help="longest prefill, in tokens")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="There is a performance drop")  # of vmap: that is what is measured
    result = orders(options.repeats) | copies(options.repeats) | decoding(options.repeats) | prefills(options.longest)
    lengths = [n for n in PREFILLS if n <= options.longest]
    ours, decode = [result[f"prefill_ttt_ms_{n}"] for n in lengths], [result[f"decode_ms_{n}"] for n in DECODE_AT]
    result["prefill_flatness"], result["decode_flatness"] = ours[-1] / ours[0], decode[-1] / decode[0]
    result["decode_ratio"] = max(result[f"decode_ratio_{n}"] for n in DECODE_AT)
    result |= {f"full_over_ttt_{n}": result[f"prefill_full_ms_{n}"] / result[f"prefill_ttt_ms_{n}"] for n in lengths}
    passed = (
        result["second_vs_first_order"] <= 1.4
        and result["copies_vs_vmap_speedup"] >= 1.3
        and result["decode_ratio"] <= 1.5
        and result["decode_flatness"] <= 1.3
        and result["prefill_flatness"] <= 1.3
        and all(result[f"full_over_ttt_{n}"] > 1 for n in lengths if n >= 8192)
    )
    print(json.dumps({**{name: round(value, 4) for name, value in result.items()}, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

"""A training step of our TRM against the PyPI package `tiny-recursive-model` 0.0.15, at equal size, on one CPU thread.

Needs: pip install tiny-recursive-model==0.0.15. Both: 2 layers of attention (theirs: x-transformers, which it depends
on), H_cycles 3, L_cycles 6, gradient through the last cycle, float32, AdamW, the same batch, as many parameters. CPU
seconds, both sides in turn, median of paired ratios. Target: ≥ 1.0.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

from arc_helpers.trm import TRM, Batch, TRMConfig, count_parameters, segment_loss

AT_LEAST = 1.0
PACKAGE = "tiny_recursive_model"
H_CYCLES, L_CYCLES, LAYERS, PREFIX = 3, 6, 2, 16


def ours(options: argparse.Namespace, batch: Batch) -> tuple[Callable[[], None], int]:
    """(one training step, number of parameters)."""
    model = TRM(
        TRMConfig(
            hidden_size=options.hidden,
            num_heads=options.hidden // 32,
            width_multiple=32,
            num_layers=LAYERS,
            H_cycles=H_CYCLES,
            L_cycles=L_CYCLES,
            prefix_len=PREFIX,
            loss="softmax",
            conditioned_rows=2,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        loss, _ = segment_loss(model(model.start(len(batch), options.cells), batch), batch.labels, "softmax")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, count_parameters(model)["network"]


def theirs(options: argparse.Namespace, batch: Batch) -> tuple[Callable[[], None], int]:
    """The same of the package."""
    from tiny_recursive_model import TinyRecursiveModel
    from x_transformers import Encoder

    heads = {"heads": options.hidden // 32, "attn_dim_head": 32}
    network = Encoder(dim=options.hidden, depth=LAYERS, rotary_pos_emb=True, **heads)
    model = TinyRecursiveModel(
        dim=options.hidden,
        num_tokens=12,
        network=network,
        num_refinement_blocks=H_CYCLES,
        num_latent_refinements=L_CYCLES,
        num_register_tokens=PREFIX,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        loss, *_ = model(batch.cells, *model.get_initial(), labels=batch.labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, sum(p.numel() for p in model.parameters())


def compare(options: argparse.Namespace, batch: Batch) -> dict[str, float]:
    """Seconds of a step of each, and the median of the paired ratios."""
    sides = {"ours": ours(options, batch), "theirs": theirs(options, batch)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(options.repeats + 1):
        for name, (step, _) in sides.items():
            began = time.process_time()
            step()
            if repeat:  # the first one warms up
                seconds[name].append(time.process_time() - began)
    ratios = [t / o for t, o in zip(seconds["theirs"], seconds["ours"], strict=True)]
    return {
        "speedup": round(statistics.median(ratios), 3),
        "speedup_low": round(min(ratios), 3),
        "speedup_high": round(max(ratios), 3),
        **{f"{name}_seconds": round(statistics.median(seconds[name]), 4) for name in sides},
        **{f"{name}_parameters": parameters for name, (_, parameters) in sides.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if importlib.util.find_spec(PACKAGE) is None:
        sys.exit("tiny-recursive-model is not installed: pip install tiny-recursive-model==0.0.15")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cells, labels = torch.randint(1, 12, (2, options.batch, options.cells))
    batch = Batch.of(cells, 10, labels, identifier=torch.ones(options.batch, dtype=torch.int64))
    result = compare(options, batch) | vars(options)
    result["passed"] = result["speedup"] >= AT_LEAST
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

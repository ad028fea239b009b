"""What a compact canvas saves against the published 30 × 30: tokens a pair, and CPU seconds of a training step a pair.

All pairs of ARC-AGI-1 and ConceptARC that may be trained on, one model, one thread, CPU seconds; every canvas size of
every layout is timed in turn in each repeat and weighed by how many pairs lie on it. `buckets`: squares of 10, 16, 20,
30; `tight`: as wide as the pair, rounded up to one of 27 lengths. Targets: buckets ≥ 2.5 times fewer tokens and as
much faster.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time

import torch

from arc_helpers.trm import LAYOUTS, TRM, ArcSource, TRMConfig, build_arc_dataset, segment_loss

TOKENS, TIME = 2.5, 2.5
PAIRS = 4  # in a timed step of the largest canvas; as many tokens in the others


def step_seconds(model: TRM, source: ArcSource, cells: int) -> float:
    """CPU seconds of forward and backward of one segment, for one pair."""
    rows = max(PAIRS, PAIRS * 900 // cells // 4)
    batch = source.draw(cells, rows, torch.Generator().manual_seed(cells))
    began = time.process_time()
    loss, _ = segment_loss(model(model.start(rows, cells), batch), batch.labels, model.config.loss)
    loss.backward()
    return (time.process_time() - began) / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            dataset = build_arc_dataset("arcagi1", folder, subsets=("training", "evaluation", "concept"))
        except FileNotFoundError as error:
            sys.exit(f"{error}; data/README.md says where ConceptARC comes from")
    sources = {layout: ArcSource(dataset, layout) for layout in LAYOUTS}
    rows = 1 + len(dataset.task_ids)
    config = TRMConfig.preset("small", hidden_size=options.hidden, conditioned_rows=rows)
    model = TRM(config)
    for source in sources.values():  # threads, allocator and kernels are warm after this
        step_seconds(model, source, max(source.shares))
    seconds = {layout: [] for layout in LAYOUTS}
    for repeat in range(options.repeats):
        for layout, source in sources.items():
            # shares are by tokens; a pair's weight is its share divided by the cells of its canvas
            weights = {cells: share / cells for cells, share in source.shares.items()}
            total = sum(weights.values())
            mean = sum(w / total * step_seconds(model, source, cells) for cells, w in weights.items())
            seconds[layout].append(mean)
        print(repeat, {layout: round(times[-1], 5) for layout, times in seconds.items()}, flush=True)

    def faster(layout: str) -> float:
        pairs = zip(seconds["official"], seconds[layout], strict=True)
        return statistics.median(slow / quick for slow, quick in pairs)

    def fewer(layout: str) -> float:
        return sources["official"].tokens / sources[layout].tokens

    result = {
        "token_ratio": round(fewer("buckets"), 3),
        "time_ratio": round(faster("buckets"), 3),
        "tight_token_ratio": round(fewer("tight"), 3),
        "tight_time_ratio": round(faster("tight"), 3),
        "pairs": sources["tight"].pairs,
        "tokens_a_pair_official": 900,
        "tokens_a_pair_buckets": round(sources["buckets"].tokens / sources["buckets"].pairs, 1),
        "tokens_a_pair_tight": round(sources["tight"].tokens / sources["tight"].pairs, 1),
        "too_large": len(sources["tight"].too_large),
        "hidden_size": options.hidden,
        "repeats": options.repeats,
        "seconds": round(time.monotonic() - began, 1),
    }
    result["passed"] = result["token_ratio"] >= TOKENS and result["time_ratio"] >= TIME
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()

"""Published checkpoints and data folders: rows, logits and votes against a plain program that shares no code with ours.

The folder, the weights under the published names and the plain float64 forward with its votes are those of
tests/trm/official_files.py, written from a description of the published files: neither those files nor a public
checkpoint is here. Small tasks of ARC-AGI-1 in four augmentations each; two sizes, with and without the prefix of
torch.compile. Bounds: every row of the table names what its test example shows, logits within 1e-10 in float64, and
the same answers with the same votes in the same order.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import torch
import yaml

from arc_helpers.arc import load_tasks
from arc_helpers.runs import choose_device
from arc_helpers.trm import Batch, evaluate_checkpoint, load_predictions, open_dataset, open_trm, vote
from arc_helpers.trm.official import check_rows

LOGITS = 1e-10
SHAPES = (
    {"width": 16, "heads": 2, "inner": 48, "blocks": 2, "prefix": "_orig_mod.model.", "puzzle_emb_len": 3},
    {"width": 64, "heads": 1, "inner": 256, "blocks": 2, "prefix": "model.", "puzzle_emb_len": 16},
)
CYCLES = {"H_cycles": 2, "L_cycles": 2, "halt_max_steps": 2}
FILES = Path(__file__).parents[1] / "tests/trm/official_files.py"


def plain_program() -> ModuleType:
    """The independent writer, forward and vote."""
    spec = importlib.util.spec_from_file_location("official_files", FILES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(plain: ModuleType, shape: dict, seed: int, folder: Path, device: str) -> dict:
    """What differs for one shape of model."""
    tasks = {
        name: {t.id: t.to_dict() for t in load_tasks(f"arcagi1/{name}") if t.max_side <= side}
        for name, side in (("training", 4), ("evaluation", 5))
    }
    names = plain.write_folder(folder / "data", tasks["training"], tasks["evaluation"], num_aug=3, seed=seed)
    sizes = {name: shape[name] for name in ("width", "heads", "inner", "blocks", "prefix")}
    weights = plain.official_weights(len(names), **sizes, seed=seed)
    torch.save(weights, folder / "step_7")
    arch = {**CYCLES, "num_heads": shape["heads"], "puzzle_emb_len": shape["puzzle_emb_len"]}
    (folder / "all_config.yaml").write_text(yaml.safe_dump({"arch": arch}))
    expected, logits = plain.plain_votes(folder / "data", weights, {**arch, "blocks": shape["blocks"]})

    dataset = open_dataset(folder / "data")
    model = open_trm(folder / "step_7", dataset).model.double()
    starts = np.load(folder / "data/test/all__puzzle_indices.npy")
    rows = np.repeat(np.load(folder / "data/test/all__puzzle_identifiers.npy"), np.diff(starts))
    inputs = torch.from_numpy(np.load(folder / "data/test/all__inputs.npy").astype(np.int64))
    batch = Batch.of(inputs, 30, identifier=torch.from_numpy(rows).long())
    carry = model.start(len(batch), 900)
    with torch.no_grad():
        for _ in range(arch["halt_max_steps"]):
            carry, found, _ = model(carry, batch)
    evaluate_checkpoint(folder / "step_7", folder / "data", folder / "out", device=device, say=str)
    predictions = [p for file in sorted((folder / "out/predictions").iterdir()) for p in load_predictions(file)]
    asked = {(q.task_id, q.index): str(q.input.tolist()) for q in dataset.queries}
    votes = {
        (key[0], asked[key]): [(str(v.grid.tolist()), v.votes) for v in of] for key, of in vote(predictions).items()
    }
    wanted = {key: [answer for answer in answers if answer[0] != "[]"] for key, answers in expected.items()}
    return {
        "rows_matched": check_rows(folder / "data", dataset),
        "rows": len(rows),
        "queries": len(dataset.queries),
        "votes_equal": votes == wanted,
        "logit_diff": (found - logits).abs().max().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="weights and augmentations of each shape")
    options = parser.parse_args()
    device, began, plain, found = choose_device().device, time.monotonic(), plain_program(), []
    for seed in range(options.seeds):
        for shape in SHAPES:
            with TemporaryDirectory() as scratch:
                found.append(compare(plain, shape, seed, Path(scratch), device))
    table = {name: sum(one[name] for one in found) for name in ("rows_matched", "rows", "queries")}
    table["votes_equal"] = all(one["votes_equal"] for one in found)
    table["logit_diff"] = max(one["logit_diff"] for one in found)
    passed = table["rows_matched"] == table["rows"] and table["votes_equal"] and table["logit_diff"] <= LOGITS
    print(json.dumps({**table, "device": device, "seconds": round(time.monotonic() - began, 1), "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()

"""What each process of test_trm_ranks runs: a straight run, and one in two parts."""

import dataclasses
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from trm_models import small_model

from arc_helpers.trm.sudoku import SudokuSource, make_sudoku
from arc_helpers.trm.train import TrainConfig, Trainer

# min_lr_ratio=1: a cosine over 2 steps is not the first half of one over 4
CONFIG = TrainConfig(steps=4, batch_tokens=39 * 4, min_lr_ratio=1.0, log_every=1, checkpoint_every=100)


def source() -> SudokuSource:
    return SudokuSource(make_sudoku(4, 2, clues=20))


def weights(steps: int, checkpoint: Path) -> dict[str, torch.Tensor]:
    """Of a run up to so many steps, or of one that goes on with the checkpoint."""
    config = dataclasses.replace(CONFIG, steps=steps)
    trainer = Trainer(small_model(canvas_cells=36), source(), config, checkpoint)
    assert trainer.run()["step"] == steps
    return trainer.model.state_dict()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = {"start": small_model(canvas_cells=36).state_dict(), "straight": weights(4, folder / "checkpoint.pt")}
    weights(2, folder / "parts.pt")
    found["resumed"] = weights(4, folder / "parts.pt")
    torch.save(found, folder / f"rank{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

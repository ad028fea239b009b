"""Small models and little tasks that several tests use."""

import torch

from arc_helpers.arc import Pair, Task
from arc_helpers.trm.model import TRM, TRMConfig

SMALL = {
    "hidden_size": 16,
    "num_heads": 2,
    "width_multiple": 8,
    "H_cycles": 1,
    "L_cycles": 2,
    "halt_max_steps": 3,
    "prefix_len": 3,
    "canvas_cells": 9,
    "conditioned_rows": 4,
    "conditioning": "shared",
    "rope": "2d",
    "rope_theta": 100.0,
}


def small_config(**fields) -> TRMConfig:
    return TRMConfig(**{**SMALL, **fields})


def small_model(**fields) -> TRM:
    torch.manual_seed(0)
    return TRM(small_config(**fields))


def mirror(task_id: str, *rows: list[int]) -> Task:
    """Turn a row round; the last row is the test."""
    pairs = [Pair([row], [row[::-1]]) for row in rows]
    return Task(task_id, tuple(pairs[:-1]), (pairs[-1],))


TRAINING = [
    mirror("train1", [1, 0, 0], [2, 0, 0], [0, 3, 4]),
    mirror("train2", [5, 0], [6, 0], [7, 0]),
    mirror("twin", [1, 2, 3], [9, 9, 8], [4, 0, 0]),  # its first pair is a demonstration of "asked1"
]
EVALUATION = [mirror("asked1", [1, 2, 3], [4, 5, 6], [7, 8, 9]), mirror("asked2", [1, 0], [2, 0], [3, 0])]
